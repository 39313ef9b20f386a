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

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use figures::{MetricsWire, StatsWire};
pub(super) use keys::{route, wrong_method_route};
use state::Servers;

use super::{ring, statistics::Snapshot, traffic::Traffic};
use crate::control::Handle;

/// The routes: `/api/servers`, `/api/health` and what else is asked of servers, `/api/ring`, and
/// `/manage`.
///
/// `traffic`: the same wherever this is mounted, so that a reset holds for all.
pub fn router(handle: Handle, traffic: Traffic) -> Router {
    let servers = Servers { handle: handle.clone(), traffic };
    Router::new()
        .route("/api/health", get(health).fallback(only_read))
        .route("/api/stats", get(stats).fallback(only_read))
        .route("/api/metrics", get(metrics).fallback(only_read))
        .merge(keys::router())
        .merge(registry::router())
        .merge(manage::router())
        .with_state(servers)
        .merge(ring::router(handle))
}

async fn health(State(servers): State<Servers>) -> Response {
    // Of what was counted nothing is told.
    wire::health(&servers.all(&servers.handle.view(), &Snapshot::default()))
}

async fn stats(State(servers): State<Servers>) -> Response {
    let snapshot = servers.traffic.snapshot().await;
    let all = servers.all(&servers.handle.view(), &snapshot);
    Json(StatsWire::of(&all, &snapshot)).into_response()
}

async fn metrics(State(servers): State<Servers>) -> Response {
    let snapshot = servers.traffic.snapshot().await;
    let all = servers.all(&servers.handle.view(), &snapshot);
    Json(MetricsWire::of(&all, &snapshot)).into_response()
}

async fn only_read() -> Response {
    wire::wrong_method("GET, HEAD")
}
