//! Heartbeats, and the state of a fleet of which most fail at once.

pub(super) mod panic;
pub(super) mod probe;
