//! The exchange of one request and its response, on a codec of our own.
//!
//! ```text
//! conversation   one client connection: one exchange after the other, until it ends
//! begin          reads a head, and makes all of it that an exchange needs
//! run            the stages of an exchange: admit, route, send, respond
//! route          where it goes; send: to whom, again and again; receive, respond: what comes back
//! state          what the stages share
//! control        the same for a path that is ours
//! own            requests of our own, on the same code path
//! attempt        what failed, and whether it may be tried again
//! record         what is counted, reported and logged
//! upload         a request on its way up; download: its response on its way down
//! transfer       the one loop over a body's bytes; limits: what messages may have
//! edit           what is changed in a head; answer: what we say ourselves
//! client         the client's socket, and what waits on it
//! ```
//!
//! A client connection is one task. It owns its upstream connection while the exchange lasts, copies
//! bytes in both directions itself, and puts the connection back; nothing is handed to another task.

mod answer;
mod attempt;
mod begin;
mod client;
mod control;
mod conversation;
mod download;
mod edit;
mod limits;
mod own;
mod receive;
mod record;
mod request;
mod respond;
mod route;
mod run;
mod send;
mod state;
mod transfer;
mod upload;

pub(crate) use self::{
    conversation::converse,
    own::{OwnFault, exchange_own},
};
