//! Where keys go: `GET /api/lookup/{key}`.

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    state::Servers,
    wire::{self, ServerWire},
};
use crate::{
    api::request::Refused,
    fleet::view::{FleetView, ReplicaView},
};

pub(super) fn router() -> Router<Servers> {
    Router::new().route("/api/lookup/{key}", get(lookup).fallback(wrong_method))
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
            in_service: !replica.is_drained && instances.any(|one| one.phase == "admitted"),
            server,
        }
    }
}

async fn lookup(
    State(servers): State<Servers>,
    key: Result<Path<String>, PathRejection>,
) -> Response {
    match key {
        Ok(Path(key)) => Json(looked_up(&servers, &servers.handle.view(), &key)).into_response(),
        Err(error) => Refused::bad(error.body_text()).into_error(),
    }
}

fn looked_up(servers: &Servers, view: &FleetView, key: &str) -> Value {
    let ring = &view.ring.ring;
    let slot = ring.slot_of(key.as_bytes());
    let servers = servers.servers(view);
    // The replicas of a view are in the order of the ring's members.
    let order = ring.preference(slot).map(|member| member.0 as usize);
    let candidates: Vec<Candidate> = order
        .filter_map(|at| Some(Candidate::of(view.replicas.get(at)?, servers.get(at)?.clone())))
        .collect();
    json!({
        "key": key,
        "hash": ring.settings().hash.name(),
        "hash_value": ring.settings().hash.hash(key.as_bytes()),
        "slot": slot,
        "owner": candidates.first().map(|owner| &owner.server.name),
        "selected_server": candidates.iter().find(|candidate| candidate.in_service),
        "candidate_servers": candidates,
    })
}

async fn wrong_method() -> Response {
    wire::wrong_method("GET, HEAD")
}
