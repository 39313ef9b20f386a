//! Commands.
mod add;
mod commit;
pub(super) mod queue;
