//! Scenarios: what users, engines and containers do, and what the supervisor makes of it.

mod changes;
mod commands;
mod evidence;
mod health;
mod panic;
mod restart;
mod rolls;
mod servers;
mod shutdown;
mod world;
mod writing;
