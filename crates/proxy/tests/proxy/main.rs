//! The data plane against sockets: what a client and a replica see, byte by byte.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod announced;
mod exchange;
mod exchange_faults;
mod failures;
mod forward;
mod h2;
mod h2c;
mod hedge;
mod interim;
mod keys;
mod life;
mod limits;
mod log;
mod policy;
mod queue;
mod splice;
mod strict;
mod support;
mod upgrade;
