//! What must hold for any bytes at all, for each thing that we parse ourselves: one function each,
//! called by the fuzz targets in `fuzz/` and, with the seeds that are kept there, by
//! `tests/fuzz_corpus.rs`. Part of the crate because what they look at is private to it; nothing of
//! the program calls them, so nothing of them is in it.
//!
//! Bytes that strangers send come first: a request's key and head, the header of the PROXY
//! protocol, `X-Forwarded-For`, what the access log says of a request, and a replica's interim
//! answers. The state file is our own, but a disk may damage it.

pub use crate::{
    proxy::fuzzing::{access_log, forwarded_for, head, interim, key, proxy_protocol},
    store::fuzzing::state,
};

/// A function that panics where something does not hold.
pub type Check = fn(&[u8]);

/// All of them by the name of their target, which is that of its corpus.
pub const CHECKS: [(&str, Check); 7] = [
    ("access_log", access_log),
    ("forwarded_for", forwarded_for),
    ("head", head),
    ("interim", interim),
    ("key", key),
    ("proxy_protocol", proxy_protocol),
    ("state", state),
];
