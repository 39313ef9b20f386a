//! Bytes in, and what goes on of them, however they were cut.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod bodies;
#[path = "../../../proxy/tests/proxy/strict/cases.rs"]
mod cases;
mod connections;
mod edits;
mod properties;
mod requests;
mod responses;
#[path = "../support/mod.rs"]
mod support;
