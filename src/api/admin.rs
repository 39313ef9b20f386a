//! The admin port: the scaling API, the ring, the status, the decision record, and metrics.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{ConnectInfo, Query, Request, State, rejection::QueryRejection},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

pub use super::metrics::TotalsSource;
use super::{logs, metrics, ring, scaling, wire};
use crate::control::Handle;

/// Whether a peer speaks from inside a fleet network, where only replicas are.
pub type IsReplicaAddress = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Who may use the admin port.
#[derive(Clone)]
pub struct Guard {
    /// Asked for in `Authorization: Bearer`.
    pub token: Option<Arc<str>>,
    /// Without a token, such peers are refused: a replica must not command its keeper.
    pub is_replica_address: IsReplicaAddress,
}

#[derive(Clone)]
struct Admin {
    handle: Handle,
    totals: TotalsSource,
}

/// The routes.
pub fn router(handle: Handle, totals: TotalsSource, guard: Guard) -> Router {
    let state = Admin { handle: handle.clone(), totals };
    Router::new()
        .route("/api/status", get(status).fallback(only_read))
        .route("/api/decisions", get(decisions).fallback(only_read))
        .route("/metrics", get(metrics_page).fallback(only_read))
        .with_state(state)
        .merge(ring::router(handle.clone()))
        .merge(logs::router(handle.clone()))
        .merge(scaling::router(handle))
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(guard, check))
}

async fn check(
    State(guard): State<Guard>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    match &guard.token {
        Some(token) => {
            let given = request.headers().get(header::AUTHORIZATION);
            let given = given.and_then(|value| value.to_str().ok()?.split_once(' '));
            // The scheme is the same in any case, the token is not.
            let is_ours = given.is_some_and(|(scheme, given)| {
                scheme.eq_ignore_ascii_case("bearer")
                    && is_equal(given.as_bytes(), token.as_bytes())
            });
            if !is_ours {
                return unauthorized();
            }
        }
        None if (guard.is_replica_address)(peer.ip().to_canonical()) => {
            let why = "replicas must not command their keeper; set `admin_token` to allow more";
            return wire::failure(StatusCode::FORBIDDEN, why);
        }
        None => {}
    }
    next.run(request).await
}

fn unauthorized() -> Response {
    let why = "the admin port asks for its token: `Authorization: Bearer <token>`";
    let mut response = wire::failure(StatusCode::UNAUTHORIZED, why);
    let scheme = header::HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    response
}

/// In a time that does not tell where they differ.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
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
    let text = metrics::text(&admin.handle, &(admin.totals)());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn only_read() -> Response {
    wire::wrong_method("GET, HEAD")
}

async fn unknown(request: Request) -> Response {
    let why = format!("there is no '{}' on the admin port", request.uri().path());
    wire::failure(StatusCode::NOT_FOUND, &why)
}
