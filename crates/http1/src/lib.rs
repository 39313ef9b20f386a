//! HTTP/1.1 on bytes, for a proxy: what a message is, how long its body is, and what goes on of it.
//! Everything is a function of bytes and numbers; sockets, deadlines and buffers are the caller's.
//!
//! # Layout
//!
//! ```text
//! request · response   read a head: `scan` finds its end, `lines` looks at each field once
//! head                 the received bytes, ranges into them, and what was changed
//! framing              how a body ends: one function for requests, one for responses
//! body · chunk         follow a body through whatever pieces it comes in; write chunks
//! interim              1xx: what passes, and whether a protocol may be switched
//! write                a head as it goes on, from the decision and never from the received framing
//! connection           when a connection may serve another message
//! refusal              our own answer to what is refused
//! ```
//!
//! # Rules
//!
//! - A message that two readers could understand differently is refused. A request is refused with
//!   the status of its [`Fault`], a response becomes a 502.
//! - What goes on is written anew where it could matter: `Content-Length` from the number that was
//!   read, `Transfer-Encoding` and `Connection` by us. Only lines that are already in the one form
//!   that all readers understand alike are copied.
//! - How the bytes were cut on their way changes nothing: every reader here gives the same results
//!   for the same bytes, whole or one by one.
//! - Reading and writing a head allocates nothing once its [`Head`] and the output are warm.
//! - Nothing here panics, whatever comes from outside. A writer that is given a head of the wrong
//!   kind writes nothing; a build with assertions says so.
//!
//! # A request on its way
//!
//! ```
//! use ringmaster_http1::{Head, Limits, Scanner, request, write};
//!
//! let received = b"GET http://example.test HTTP/1.1\r\nHost: h\r\nX-A:1\r\nConnection: x-a\r\n\r\n";
//! let mut head = Head::new();
//! let mut scanner = Scanner::request();
//! let read = request::read(&mut head, &mut scanner, received, &Limits::default())?;
//! assert_eq!(read, request::Read::Head(received.len()));
//! head.add(b"via", &[b"1.1 ringmaster"]).expect("there is room for it");
//! let mut written = Vec::new();
//! let request = head.over(received);
//! write::request(request, &write::ToReplica::as_read(request), &mut written);
//! assert_eq!(written, b"GET / HTTP/1.1\r\nHost: example.test\r\nvia: 1.1 ringmaster\r\n\r\n");
//! # Ok::<(), ringmaster_http1::Fault>(())
//! ```

#![forbid(unsafe_code)]

pub mod body;
pub mod chunk;
pub mod connection;
mod fault;
mod field;
pub mod framing;
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod host;
pub mod interim;
mod lines;
mod message;
mod number;
pub mod refusal;
pub mod request;
pub mod response;
mod scan;
mod target;
pub mod write;

pub use fault::Fault;
pub use field::FieldId;
pub use framing::Framing;
pub use head::{EditError, Field, Head, HeadRef, Known};
pub use message::{Kind, Method, Version};
pub use scan::{Limits, Scanner};
