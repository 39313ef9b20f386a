//! Heartbeats.
mod probe;
