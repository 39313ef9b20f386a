//! Starts and stops of instances, and the removal of strays: what the driver is asked for, and what
//! its results change.

pub(super) mod roll;
pub(super) mod start;
pub(super) mod stop;
pub(super) mod stray;
