//! The format of the responses.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use ringmaster_core::{
    fleet::{
        command::{RingChange, RingView, ScaleError},
        ids::ReplicaName,
        notes::Cause,
        observed::EjectReason,
        server::Server,
        view::{FleetView, InstanceView, RollView},
    },
    ring::{HashFunction, explain, moves::Move},
};
use serde::Serialize;
use serde_json::json;

use super::evidence::{self, TroubleWire};
use crate::control::CoreClock;

/// `{"message":..,"status":"successful"}`.
pub(super) fn success(message: impl Serialize) -> Response {
    Json(json!({ "message": message, "status": "successful" })).into_response()
}

/// `{"message":"<Error> ..","status":"failure"}`.
pub(super) fn failure(status: StatusCode, why: &str) -> Response {
    let body = json!({ "message": format!("<Error> {why}"), "status": "failure" });
    let mut response = (status, Json(body)).into_response();
    say_when(&mut response);
    response
}

/// Adds `Retry-After` to a 503.
pub(super) fn say_when(response: &mut Response) {
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
}

/// 405 with `Allow`.
pub(super) fn wrong_method(allow: &'static str) -> Response {
    let why = format!("this method is not allowed here; allowed: {allow}");
    let mut response = failure(StatusCode::METHOD_NOT_ALLOWED, &why);
    let allow = header::HeaderValue::from_static(allow);
    response.headers_mut().insert(header::ALLOW, allow);
    response
}

pub(super) fn refusal(error: &ScaleError) -> Response {
    failure(status_of(error), &error.to_string())
}

pub(super) fn status_of(error: &ScaleError) -> StatusCode {
    match error.is_callers_fault() {
        true => StatusCode::BAD_REQUEST,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[derive(Serialize)]
pub(super) struct ReplicasWire {
    #[serde(rename = "N")]
    n: usize,
    replicas: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<Vec<String>>,
}

/// The list that a response contains beside the replicas.
pub(super) enum NamesChange<'a> {
    None,
    Added(&'a [ReplicaName]),
    Removed(&'a [ReplicaName]),
}

pub(super) fn replicas(view: &FleetView, change: NamesChange<'_>) -> ReplicasWire {
    names_of_replicas(&view.in_service, change)
}

pub(super) fn names_of_replicas(names: &[ReplicaName], change: NamesChange<'_>) -> ReplicasWire {
    let (added, removed) = match change {
        NamesChange::None => (None, None),
        NamesChange::Added(names) => (Some(texts(names)), None),
        NamesChange::Removed(names) => (None, Some(texts(names))),
    };
    let replicas = texts(names);
    ReplicasWire { n: replicas.len(), replicas, added, removed }
}

fn texts(names: &[ReplicaName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[derive(Serialize)]
pub(super) struct RingWire {
    algorithm: &'static str,
    slots: u64,
    virtual_servers: u32,
    placement: &'static str,
    collision: &'static str,
    hash: &'static str,
    /// Shows whether two processes have the same secret, without showing it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_key_fingerprint: Option<String>,
    generation: u64,
    digest: String,
    peak_to_average: Option<f64>,
    least_to_average: Option<f64>,
    standard_deviation: Option<f64>,
    displaced: usize,
    replicas: Vec<RingReplicaWire>,
}

#[derive(Serialize)]
struct RingReplicaWire {
    name: String,
    id: u32,
    ordinal: u32,
    weight: u32,
    share: f64,
    displaced: usize,
    slots: Vec<u32>,
}

pub(super) fn ring(view: &RingView) -> RingWire {
    let (ring, settings) = (&view.ring, view.ring.settings());
    let displaced = explain::displaced(ring);
    let evenness = explain::evenness(ring);
    let members = ring.members().iter().zip(&view.names).zip(ring.shares()).zip(&displaced);
    RingWire {
        algorithm: settings.algorithm.name(),
        slots: settings.circle(),
        virtual_servers: settings.virtual_servers,
        placement: settings.placement.name(),
        collision: settings.collision.name(),
        hash: settings.hash.name(),
        hash_key_fingerprint: match settings.hash {
            HashFunction::Siphash(key) => Some(format!("{:08x}", key.fingerprint())),
            _ => None,
        },
        generation: view.generation.0,
        digest: format!("{:016x}", ring.digest()),
        peak_to_average: evenness.map(|evenness| evenness.peak_to_average),
        least_to_average: evenness.map(|evenness| evenness.least_to_average),
        standard_deviation: evenness.map(|evenness| evenness.deviation),
        displaced: displaced.iter().sum(),
        replicas: members
            .map(|(((member, name), share), &displaced)| RingReplicaWire {
                name: name.to_string(),
                id: member.id.0,
                ordinal: member.ordinal,
                weight: member.weight,
                share,
                displaced,
                slots: member.positions.clone(),
            })
            .collect(),
    }
}

#[derive(Serialize)]
pub(super) struct ChangeWire {
    before: RingWire,
    after: RingWire,
    moved_share: f64,
    minimum_share: f64,
    /// Keys that were compared, if the slots of keys change too; otherwise the shares are exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled_keys: Option<u32>,
    moves: Vec<MoveWire>,
}

#[derive(Serialize)]
struct MoveWire {
    from: Option<String>,
    to: Option<String>,
    share: f64,
}

pub(super) fn change(change: &RingChange) -> ChangeWire {
    let name = |id| change.name_of(id).map(ToString::to_string);
    let one = |entry: &Move| MoveWire {
        from: entry.from.and_then(name),
        to: entry.to.and_then(name),
        share: entry.share,
    };
    ChangeWire {
        before: ring(&change.before),
        after: ring(&change.after),
        moved_share: change.moves.moved_share,
        minimum_share: change.moves.minimum_share,
        sampled_keys: change.moves.sampled_keys,
        moves: change.moves.moves.iter().map(one).collect(),
    }
}

/// What a retry has begun to try again.
pub(super) fn retried(roll: bool, waiting: usize) -> serde_json::Value {
    json!({ "roll": roll, "waiting": waiting })
}

#[derive(Serialize)]
pub(super) struct StatusWire {
    version: &'static str,
    booted: bool,
    generation: u64,
    #[serde(rename = "N")]
    n: usize,
    desired: usize,
    /// In service and passing; `N` also counts one that is kept although it fails.
    passing: usize,
    health: &'static str,
    engine: String,
    operation: Option<&'static str>,
    commands_waiting: usize,
    /// Living replicas are not replaced, because too many fail at once.
    panic: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    roll: Option<RollWire>,
    replicas: Vec<StatusReplicaWire>,
    /// Instances of replicas that are about to join.
    joining: Vec<InstanceWire>,
}

#[derive(Serialize)]
struct RollWire {
    /// `rolling` or `stopped`.
    state: &'static str,
    done: usize,
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

impl RollWire {
    fn of(view: &RollView) -> Self {
        Self {
            state: if view.is_stopped { "stopped" } else { "rolling" },
            done: view.done,
            failures: view.failures,
            last_error: view.last_error.as_ref().map(ToString::to_string),
        }
    }
}

#[derive(Serialize)]
struct StatusReplicaWire {
    name: String,
    id: u32,
    weight: u32,
    /// The address, for a registered server.
    #[serde(skip_serializing_if = "Option::is_none")]
    registered_at: Option<String>,
    /// The replica is desired, but gets no requests.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    drained: bool,
    #[serde(flatten)]
    trouble: TroubleWire,
    instances: Vec<InstanceWire>,
}

#[derive(Serialize)]
struct InstanceWire {
    name: String,
    incarnation: u32,
    phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    outdated: bool,
    /// The instance is in service although it fails, because no other passes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    kept: bool,
    /// Why the last heartbeat failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_probe: Option<String>,
}

pub(super) fn status(view: &FleetView, clock: CoreClock) -> StatusWire {
    let replicas = view.replicas.iter().map(|replica| StatusReplicaWire {
        name: replica.name.to_string(),
        id: replica.id.0,
        weight: replica.weight,
        registered_at: replica.server.as_ref().map(Server::place),
        drained: replica.is_drained,
        trouble: evidence::trouble(view, replica, clock),
        instances: replica.instances.iter().map(instance).collect(),
    });
    StatusWire {
        version: env!("CARGO_PKG_VERSION"),
        booted: view.is_booted(),
        generation: view.ring.generation.0,
        n: view.in_service.len(),
        desired: view.replicas.len(),
        passing: view.passing(),
        health: view.health().name(),
        engine: view.engine_error.clone().unwrap_or_else(|| "up".to_owned()),
        operation: view.operation.map(Cause::name),
        commands_waiting: view.commands_waiting,
        panic: view.is_panic,
        roll: view.roll.as_ref().map(RollWire::of),
        replicas: replicas.collect(),
        joining: view.joining.iter().map(instance).collect(),
    }
}

fn instance(view: &InstanceView) -> InstanceWire {
    InstanceWire {
        name: view.name.to_string(),
        incarnation: view.id.incarnation.0,
        phase: view.phase.name(),
        reason: view.reason.map(EjectReason::name),
        address: view.address.map(|address| address.to_string()),
        outdated: view.is_outdated,
        kept: view.is_kept(),
        last_probe: view.last_probe.as_ref().map(ToString::to_string),
    }
}
