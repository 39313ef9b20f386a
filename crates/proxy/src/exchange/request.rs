//! All that an exchange needs of its request, once the head has been let go.

use http::Method as HttpMethod;
use ringmaster_core::ring::Slot;
use ringmaster_http1::{Known, Method, Version};

use super::{
    super::{access_log::Entry, errors::Failure},
    upload::Upload,
};

/// Where the key of a request is.
#[derive(Debug)]
pub(super) enum Key {
    /// It was found, or none is needed.
    Found(Slot),
    /// Perhaps in the body; else in this head, which is kept as it came.
    InBody(Vec<u8>),
}

/// A request whose head has been read.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) known: Known,
    pub(super) key: Key,
    /// What is sent to a replica, and to the next if that gives no answer: the head, and what was here
    /// of the body.
    pub(super) message: Vec<u8>,
    /// Bytes of the body in it.
    pub(super) message_bytes: u64,
    /// Whether it may be sent again although a replica may have seen it: by its method, and because
    /// all of its body is kept.
    pub(super) is_repeatable: bool,
    /// Whether the client waits to be asked for its body, which is for the replica to do.
    pub(super) is_held: bool,
    pub(super) upload: Upload,
    /// Only where a 404 may have to name it.
    pub(super) line: Option<(HttpMethod, String)>,
    pub(super) entry: Option<Box<Entry>>,
    /// Why no replica is asked at all.
    pub(super) refusal: Option<Failure>,
}
