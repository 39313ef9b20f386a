//! The companion server: Ringmaster's example replica, and a test double for it.
//!
//! One request goes `serve` (connections, shutdown) → `routes` (which answer) →
//! `store` or `body` (what is in it). Everything it knows comes from the
//! environment ([`Settings`]), because that is all a container is given.
//!
//! It is also the backend that the balancer is measured against, so an answer
//! that never changes is built once, and nothing is logged per request.

mod body;
mod routes;
mod serve;
mod settings;
mod store;

pub use serve::{Limits, serve};
pub use settings::{Settings, SettingsError};
