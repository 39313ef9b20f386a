//! Where the committed state of a fleet is kept.

mod codec;
mod file;
pub(crate) mod fuzzing;

pub use file::{FileStore, Loaded, StoreError};
