//! The control core: what is desired, what was observed, and what to do about the difference.
//! Pure: time and chance are arguments, effects are values.
//!
//! Start with [`message`] (what goes in and out), then [`supervisor`] (the only surface, and its
//! concerns), then [`plan`] (the rules). [`state`] and [`observed`] hold what both work on, and the
//! named transitions by which it changes.

pub mod backoff;
pub mod command;
pub mod desired;
pub mod endings;
pub mod ids;
pub mod limits;
pub mod message;
pub mod names;
pub mod notes;
pub mod observed;
pub mod operation;
pub mod plan;
pub mod roll;
pub mod server;
pub mod state;
pub mod supervisor;
pub mod table;
pub mod values;
pub mod victim;
pub mod view;
