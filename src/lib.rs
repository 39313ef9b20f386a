//! Ringmaster.

pub mod api;
pub mod balance;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod driver;
pub mod fleet;
pub mod proxy;
pub mod ring;
pub mod serve;
pub mod sim;
