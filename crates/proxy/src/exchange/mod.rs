//! The exchange of one request and its response, on a codec of our own.
//!
//! ```text
//! conversation   one client connection: one exchange after the other, until it ends
//! begin          reads a head, and makes all of it that an exchange needs
//! run            the stages of an exchange: admit, route, send, respond
//! route          where it goes; send: to whom, again and again; receive, respond: what comes back
//! state          what the stages share
//! control        the same for a path that is ours
//! own            requests of our own, which come in by the same door
//! attempt        what failed, and whether it may be tried again
//! record         what is counted, reported and logged
//! upload         a request on its way up; download: its response on its way down
//! transfer       the one loop over a body's bytes
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

use super::{config::ProxyConfig, h2::UpstreamProtocol};

pub(crate) use self::{
    conversation::converse,
    own::{OwnFault, exchange_own},
};
use crate::config::Engine;

/// Whether connections are served here. What is not served here at all is said in this one place; of
/// a connection that is, HTTP/2 and requests for another protocol go back to hyper's.
pub(crate) fn serves(config: &ProxyConfig) -> bool {
    let fits_head = config.header_bytes_max <= usize::from(u16::MAX)
        && config.uri_max <= usize::from(u16::MAX)
        && config.headers_max <= usize::from(u8::MAX);
    config.engine == Engine::Own
        && fits_head
        && config.upstream_protocol == UpstreamProtocol::H1
        && config.hedge_percent.is_none()
        && config.concurrency.is_none()
}
