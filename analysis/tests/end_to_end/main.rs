//! Loads and experiments against a server in this process that can misbehave in given ways.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod experiments;
mod fake;
mod load;
