//! The control core: what is desired, what was observed, and what to do about the difference.
//! Pure: time and chance are arguments, effects are values.
//!
//! Start with [`message`] (what goes in and out), then `supervisor`.

pub mod command;
pub mod desired;
pub mod ids;
pub mod message;
pub mod notes;
pub mod table;
