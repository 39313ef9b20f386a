//! The behaviour of the real program as users see it: its ports, its command line, its files, and the
//! pages of the documentation.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod cli;
mod driver_process;
#[path = "../support/harness/mod.rs"]
mod harness;
mod healing;
mod ring;
mod scaling;
mod seeds;
mod signals;
mod simulate;
mod state;
mod traffic;
