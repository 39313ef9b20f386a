//! Where keys go: `GET /api/lookup/{key}` says it, `POST /api/route` goes there.

use std::net::SocketAddr;

use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ringmaster_core::fleet::view::{FleetView, ReplicaView};
use ringmaster_proxy::OwnError;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    parse::{self, Route},
    state::Servers,
    wire::{self, ServerWire},
};
use crate::api::{
    request::{self, Refused},
    statistics::Snapshot,
    traffic::{KeyedGet, Traffic},
    wire::say_when,
};

pub(super) fn router() -> Router<Servers> {
    Router::new()
        .route("/api/lookup/{key}", get(lookup).fallback(wrong_method_lookup))
        .route("/api/route", post(route).fallback(wrong_method_route))
}

/// A replica that a key may go to.
#[derive(Serialize)]
struct Candidate {
    id: u32,
    /// It may get requests: it passes, or is kept since no other does.
    in_service: bool,
    #[serde(flatten)]
    server: ServerWire,
}

impl Candidate {
    fn of(replica: &ReplicaView, server: ServerWire) -> Self {
        let mut instances = replica.instances.iter();
        Self {
            id: replica.id.0,
            in_service: !replica.is_drained && instances.any(|one| one.is_admitted()),
            server,
        }
    }
}

async fn lookup(
    State(servers): State<Servers>,
    key: Result<Path<String>, PathRejection>,
) -> Response {
    match key {
        Ok(Path(key)) => {
            let snapshot = servers.traffic.snapshot().await;
            Json(looked_up(&servers, &servers.handle.view(), &snapshot, &key)).into_response()
        }
        Err(error) => Refused::bad(error.body_text()).into_error(),
    }
}

fn looked_up(servers: &Servers, view: &FleetView, snapshot: &Snapshot, key: &str) -> Value {
    let ring = &view.ring.ring;
    let slot = ring.slot_of(key.as_bytes());
    let servers = servers.all(view, snapshot);
    // The replicas of a view are in the order of the ring's members.
    let order = ring.preference(slot).map(|member| member.0 as usize);
    let candidates: Vec<Candidate> = order
        .filter_map(|at| Some(Candidate::of(view.replicas.get(at)?, servers.get(at)?.0.clone())))
        .collect();
    let mut body = json!({
        "key": key,
        "hash": ring.settings().hash.name(),
        "hash_value": ring.settings().hash.hash(key.as_bytes()),
        "slot": slot,
        "owner": candidates.first().map(|owner| &owner.server.name),
        "selected_server": candidates.iter().find(|candidate| candidate.in_service),
        "candidate_servers": candidates,
    });
    if !snapshot.incomplete.is_empty() {
        body["incomplete"] = snapshot.incomplete.clone().into();
    }
    body
}

/// What a server is told of the request that asks for a route. No credentials: those of this port
/// are none of its business.
const PASSED_ON: [HeaderName; 5] = [
    header::HOST,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::USER_AGENT,
];

/// Needs nothing of the supervisor: the data plane of this process is asked.
pub(in crate::api) async fn route(
    State(traffic): State<Traffic>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = request::read(body).await;
    let Route { key, path } = match body.and_then(|body| parse::route(&body)) {
        Ok(route) => route,
        Err(refused) => return refused.into_error(),
    };
    let passed_on = PASSED_ON.into_iter().filter_map(|name| {
        let value = headers.get(&name)?.clone();
        Some((name, value))
    });
    let get = KeyedGet { key, target: path, headers: passed_on.collect(), peer };
    match (traffic.route)(get).await {
        Ok(response) => {
            let mut response = response.map(Body::from);
            // The body is whole now, and is framed anew.
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response.headers_mut().remove(header::TRANSFER_ENCODING);
            response
        }
        Err(error) => {
            let mut response = wire::error(status_of(error), &error.to_string());
            say_when(&mut response);
            response
        }
    }
}

fn status_of(error: OwnError) -> StatusCode {
    match error {
        OwnError::Target => StatusCode::BAD_REQUEST,
        OwnError::TooLarge | OwnError::BrokeOff => StatusCode::BAD_GATEWAY,
        OwnError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        OwnError::Busy | OwnError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn wrong_method_lookup() -> Response {
    wire::wrong_method("GET, HEAD")
}

pub(in crate::api) async fn wrong_method_route() -> Response {
    wire::wrong_method("POST")
}
