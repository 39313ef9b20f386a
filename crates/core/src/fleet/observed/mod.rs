//! What was observed.

mod instance;

pub use instance::*;
