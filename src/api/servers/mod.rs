//! The servers API of a consistent-hash balancer: servers that others keep are registered, changed,
//! drained and removed by name, and what they served is counted. Replicas that the balancer starts
//! are servers like any other, but for their address.
//!
//! Failures are `{"error":".."}`.

mod figures;
mod keys;
mod manage;
mod parse;
mod registry;
mod state;
mod wire;

use axum::{Router, extract::State, response::Response, routing::get};
use state::Servers;

use super::ring;
use crate::control::Handle;

/// The routes: `/api/servers`, `/api/health` and what else is asked of servers, `/api/ring`, and
/// `/manage`.
pub fn router(handle: Handle) -> Router {
    let servers = Servers { handle: handle.clone() };
    Router::new()
        .route("/api/health", get(health).fallback(only_read))
        .merge(keys::router())
        .merge(registry::router())
        .merge(manage::router())
        .with_state(servers)
        .merge(ring::router(handle))
}

async fn health(State(servers): State<Servers>) -> Response {
    wire::health(&servers.servers(&servers.handle.view()))
}

async fn only_read() -> Response {
    wire::wrong_method("GET, HEAD")
}
