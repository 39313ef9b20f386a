//! `/livez`, whether the balancer must be restarted, and `/readyz`, whether it can serve traffic. The
//! responses are plain text, so that people can read them.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use ringmaster_core::fleet::view::FleetView;

use super::wire;
use crate::control::Handle;

pub(super) fn router(handle: Handle) -> Router {
    Router::new()
        .route("/livez", get(livez).fallback(only_read))
        .route("/readyz", get(readyz).fallback(only_read))
        .with_state(handle)
}

pub(super) async fn livez() -> Response {
    text(StatusCode::OK, "ok")
}

async fn readyz(State(handle): State<Handle>) -> Response {
    answer(readiness(&handle.view()))
}

/// The response of `/readyz`.
pub(super) fn answer(ready: Result<(), String>) -> Response {
    match ready {
        Ok(()) => text(StatusCode::OK, "ok"),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn text(status: StatusCode, line: &str) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, kind, format!("{line}\n")).into_response()
}

/// Whether traffic can be served, and if not, why.
fn readiness(view: &FleetView) -> Result<(), String> {
    if view.passing() > 0 {
        return Ok(());
    }
    let engine = view.engine_error.as_deref();
    let because = engine.map(|error| format!("; the engine: {error}")).unwrap_or_default();
    match view.replicas.len() {
        // An empty fleet is ready if it is desired, which is known after the first list.
        0 if view.is_booted() => Ok(()),
        _ if !view.is_booted() => Err(format!("the fleet is not known yet{because}")),
        wanted => Err(format!("no replica passes its heartbeat, of {wanted}{because}")),
    }
}

async fn only_read() -> Response {
    wire::wrong_method("GET, HEAD")
}
