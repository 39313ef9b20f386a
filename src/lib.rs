//! Ringmaster.

pub mod balance;
pub mod control;
pub mod driver;
pub mod fleet;
pub mod proxy;
pub mod ring;
pub mod sim;
