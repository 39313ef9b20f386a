//! What an event changes.
mod end;
