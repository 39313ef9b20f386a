//! Ringmaster.

pub mod balance;
pub mod ring;
