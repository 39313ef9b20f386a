//! Additions: newcomers are started or registered outside the ring until all are there.

pub(super) mod join;
pub(super) mod newcomers;
pub(super) mod servers;
