//! The admin port: the scaling API, the ring, the status, the decision record, and metrics.

use axum::{
    Json, Router,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use super::{
    guard::{self, AdminGuard},
    health, logs, metrics, retry, ring, scaling,
    traffic::Traffic,
    wire,
};
use crate::control::Handle;

#[derive(Clone)]
struct Admin {
    handle: Handle,
    traffic: Traffic,
}

/// The routes, behind their guard.
pub fn router(handle: Handle, traffic: Traffic, guard: AdminGuard) -> Router {
    let state = Admin { handle: handle.clone(), traffic };
    let router = Router::new()
        .route("/api/status", get(status).fallback(only_read))
        .route("/api/decisions", get(decisions).fallback(only_read))
        .route("/metrics", get(metrics_page).fallback(only_read))
        .with_state(state)
        .merge(health::router(handle.clone()))
        .merge(ring::router(handle.clone()))
        .merge(retry::router(handle.clone()))
        .merge(logs::router(handle.clone()))
        .merge(scaling::router(handle))
        .fallback(unknown);
    guard::admin(router, guard)
}

async fn status(State(admin): State<Admin>) -> Response {
    Json(wire::status(&admin.handle.view(), admin.handle.clock())).into_response()
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn decisions(
    State(admin): State<Admin>,
    query: Result<Query<After>, QueryRejection>,
) -> Response {
    match query {
        Ok(query) => Json(admin.handle.record().since(query.after)).into_response(),
        Err(error) => wire::failure(StatusCode::BAD_REQUEST, &error.body_text()),
    }
}

async fn metrics_page(State(admin): State<Admin>) -> Response {
    let text = metrics::text(&admin.handle, &(admin.traffic.totals)());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn only_read() -> Response {
    wire::wrong_method("GET, HEAD")
}

async fn unknown(request: Request) -> Response {
    let why = format!("there is no '{}' on the admin port", request.uri().path());
    wire::failure(StatusCode::NOT_FOUND, &why)
}
