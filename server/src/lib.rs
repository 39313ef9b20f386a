//! The companion server: Ringmaster's example replica, and a test double for it.
//!
//! A request passes `serve` (connections, shutdown) → `routes` (which response) →
//! `store` or `body` (the content). All its configuration comes from the
//! environment ([`Settings`]), because that is all a container is given; the
//! delay of `/process` may be a flag too, and so a container's command.
//!
//! It is also the backend of the balancer's benchmarks, so a response
//! that never changes is built once, and nothing is logged per request.

mod body;
mod delay;
mod routes;
mod serve;
mod settings;
mod store;

pub use delay::{Delay, NoDelay};
pub use serve::{Limits, serve};
pub use settings::{Settings, SettingsError};
