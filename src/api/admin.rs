//! The admin port: all APIs, with the status, the decision record and the metrics.

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
    health, logs, metrics, nodes, retry, scaling, servers,
    shared::{self, Shared},
    traffic::Traffic,
    wire,
};
use crate::control::{Handle, roles::Term};

#[derive(Clone)]
struct Admin {
    handle: Handle,
    traffic: Traffic,
    shared: Option<(Shared, Term)>,
}

/// The routes of the admin port, behind their guard.
pub fn router(handle: Handle, traffic: Traffic, guard: AdminGuard) -> Router {
    guard::admin(routes(handle, traffic, None), guard)
}

/// The routes of the admin port. `shared` is for a supervisor that shares its fleet with other processes.
pub(super) fn routes(handle: Handle, traffic: Traffic, shared: Option<(&Shared, &Term)>) -> Router {
    let shared = shared.map(|(shared, term)| (shared.clone(), term.clone()));
    let state = Admin { handle: handle.clone(), traffic: traffic.clone(), shared };
    Router::new()
        .route("/api/status", get(status).fallback(only_read))
        .route("/api/decisions", get(decisions).fallback(only_read))
        .route("/metrics", get(metrics_page).fallback(only_read))
        .with_state(state)
        .merge(health::router(handle.clone()))
        .merge(servers::router(handle.clone(), traffic))
        .merge(nodes::router(handle.clone()))
        .merge(retry::router(handle.clone()))
        .merge(logs::router(handle.clone()))
        .merge(scaling::router(handle))
        .fallback(unknown)
}

async fn status(State(admin): State<Admin>) -> Response {
    let status = wire::status(&admin.handle.view(), admin.handle.clock());
    let Some((own, term)) = &admin.shared else { return Json(status).into_response() };
    // Serialising texts and numbers cannot fail.
    let mut status = serde_json::to_value(status).unwrap_or_default();
    for (key, value) in shared::status(own, term) {
        status[key] = value;
    }
    Json(status).into_response()
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
    let mut text = metrics::text(&admin.handle, &(admin.traffic.totals)());
    if let Some((own, term)) = &admin.shared {
        text.push_str(&metrics::text_of_roles(&own.roles, Some(term)));
    }
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn only_read() -> Response {
    wire::wrong_method("GET, HEAD")
}

async fn unknown(request: Request) -> Response {
    let why = format!("there is no '{}' on the admin port", request.uri().path());
    wire::failure(StatusCode::NOT_FOUND, &why)
}
