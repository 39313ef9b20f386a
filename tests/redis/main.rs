//! Several processes share a fleet by a Redis: who supervises, what the others route by, and what
//! happens when one of them, or the Redis, goes away.

#![allow(clippy::unwrap_used)]

mod access;
mod backends;
mod compose;
mod containers;
mod cut;
#[path = "../support/docker.rs"]
mod docker;
#[path = "../support/docker_support/mod.rs"]
mod docker_support;
#[path = "../support/harness/mod.rs"]
mod harness;
mod kept;
mod line;
mod lost;
mod relays;
mod reports;
mod sentinel;
mod server;
mod shared;
mod statistics;
mod takeover;
