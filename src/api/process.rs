//! What a process of a shared fleet says of itself alone to the one that supervises: what it has
//! counted, and that it begins to count anew.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};

use super::{
    process_wire::{MEANT, RESET, STATISTICS, text},
    shared::Shared,
    statistics::Counted,
    wire,
};

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route(STATISTICS, get(statistics).fallback(|| async { wire::wrong_method("GET, HEAD") }))
        .route(RESET, post(reset).fallback(|| async { wire::wrong_method("POST") }))
}

async fn statistics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    answer(&shared, &headers, || shared.traffic.statistics.since_reset())
}

async fn reset(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    answer(&shared, &headers, || shared.traffic.statistics.reset())
}

fn answer(shared: &Shared, headers: &HeaderMap, counted: impl FnOnce() -> Counted) -> Response {
    let me = &shared.roles.me().id.0;
    match headers.get(MEANT) {
        Some(meant) if meant.as_bytes() == me.as_bytes() => text(&counted()),
        Some(_) => {
            let why = format!("another process is here: {me}");
            wire::failure(StatusCode::MISDIRECTED_REQUEST, &why)
        }
        None => {
            let why = format!("the header `{MEANT}` must name the process that is meant");
            wire::failure(StatusCode::BAD_REQUEST, &why)
        }
    }
}
