//! All that the core knows.

mod data;

pub use data::*;

pub use super::values::Keeper;
