//! Commands: checked against the desired replicas, carried out one at a time, all or nothing.
//!
//! [`queue`] takes a command, or previews it; [`add`], [`remove`] and [`change`] say what it comes
//! to, [`commit`] writes that and lets it take effect. [`verdict`] and [`retry`] change no desired
//! state and take effect at once.

mod add;
mod change;
mod checks;
pub(super) mod commit;
pub(super) mod finish;
pub(super) mod queue;
mod remove;
mod retry;
mod verdict;
