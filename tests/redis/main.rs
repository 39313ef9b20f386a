//! Several processes share a fleet by a Redis: who supervises, what the others route by, and what
//! happens when one of them, or the Redis, goes away.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;
mod lost;
mod server;
mod shared;
mod takeover;
