//! Scenarios: what users, engines and containers do, and what the supervisor makes of it.

mod changes;
mod commands;
mod health;
mod restart;
mod shutdown;
mod world;
