//! All that the core knows, as plain data. [`super::plan`] reads it; [`super::supervisor`] changes
//! it, by the transitions that are defined here.

mod data;
mod instances;
mod revisions;
mod schedules;
mod shutdown;

pub use data::{Boot, Engine, Reaping, State};
pub use schedules::{ListSchedule, WriteSchedule, WriteUnderWay};
pub use shutdown::{Finish, Shutdown};

pub use super::values::Keeper;
