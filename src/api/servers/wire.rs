//! The shapes of the servers API. Times are seconds since the Unix epoch, durations seconds.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    api::statistics::ServerStatistics,
    control::checks::CheckView,
    fleet::view::{FleetView, InstanceView, ReplicaView},
};

/// `{"error":".."}`.
pub(super) fn error(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

/// 405, and what is allowed instead.
pub(super) fn wrong_method(allow: &'static str) -> Response {
    let why = format!("this method is not allowed here; allowed: {allow}");
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &why);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// A moment as the servers API writes it: seconds since the Unix epoch, with fractions.
pub(super) fn timestamp(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// One server.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ServerWire {
    pub(super) name: String,
    /// Hostname or address; `null` for one of ours that has not started yet.
    address: Option<String>,
    port: Option<u16>,
    weight: u32,
    /// It passes its checks and gets requests.
    pub(super) healthy: bool,
    last_health_check: Option<f64>,
    request_count: u64,
    error_count: u64,
    average_response_time: f64,
    url: Option<String>,
    error_rate: f64,
    health_check: CheckWire,
    /// It gets no requests, whatever its checks say.
    drained: bool,
    /// Others keep it; one of ours is started and stopped by the balancer.
    registered: bool,
    /// What its last check met, if that was bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// What its health checks said.
#[derive(Clone, Debug, Default, Serialize)]
struct CheckWire {
    last_check: Option<f64>,
    response_time: Option<f64>,
    /// In a row: one of the two is 0.
    healthy_count: u64,
    unhealthy_count: u64,
}

impl CheckWire {
    fn of(check: CheckView) -> Self {
        Self {
            last_check: Some(timestamp(check.last_check)),
            response_time: Some(check.response_time.as_secs_f64()),
            healthy_count: check.healthy_count,
            unhealthy_count: check.unhealthy_count,
        }
    }
}

/// The instance that stands for a replica: the one in service, else the newest.
pub(super) fn instance_of(replica: &ReplicaView) -> Option<&InstanceView> {
    let serving = replica.instances.iter().find(|instance| instance.phase == "admitted");
    serving.or(replica.instances.last())
}

/// The name that a replica is shown by: that of its instance in service, else its committed one.
pub(super) fn name_of(replica: &ReplicaView) -> &str {
    let serving = replica.instances.iter().find(|instance| instance.phase == "admitted");
    serving.map_or(&replica.name, |instance| &instance.name).as_str()
}

/// The replica that a name means: by its committed name, else by that of an instance.
pub(super) fn replica_named<'a>(view: &'a FleetView, name: &str) -> Option<&'a ReplicaView> {
    let replicas = || view.replicas.iter();
    replicas().find(|replica| replica.name.as_str() == name).or_else(|| {
        replicas().find(|replica| replica.instances.iter().any(|one| one.name.as_str() == name))
    })
}

impl ServerWire {
    pub(super) fn of(
        replica: &ReplicaView,
        check: Option<CheckView>,
        counted: &ServerStatistics,
    ) -> Self {
        let instance = instance_of(replica);
        let started = instance.and_then(|instance| instance.address);
        let (address, port, url) = match (&replica.server, started) {
            (Some(server), _) => {
                (Some(server.host.to_string()), Some(server.port), Some(server.place()))
            }
            (None, Some(at)) => (Some(at.ip().to_string()), Some(at.port()), Some(at.to_string())),
            (None, None) => (None, None, None),
        };
        let last_error = instance.and_then(|instance| instance.last_probe.as_deref());
        let check = check.map(CheckWire::of).unwrap_or_default();
        Self {
            name: name_of(replica).to_owned(),
            address,
            port,
            weight: replica.weight,
            healthy: !replica.is_drained && replica.instances.iter().any(InstanceView::serves_well),
            last_health_check: check.last_check,
            request_count: counted.requests,
            error_count: counted.errors,
            average_response_time: counted.average(),
            error_rate: counted.error_rate(),
            url: url.map(|place| format!("http://{place}")),
            health_check: check,
            drained: replica.is_drained,
            registered: replica.server.is_some(),
            last_error: last_error.map(str::to_owned),
        }
    }
}

/// `GET /api/servers`.
#[derive(Serialize)]
pub(super) struct ListWire {
    servers: Vec<ServerWire>,
    total_count: usize,
    healthy_count: usize,
    timestamp: f64,
}

fn healthy(servers: &[ServerWire]) -> usize {
    servers.iter().filter(|server| server.healthy).count()
}

impl ListWire {
    pub(super) fn of(servers: Vec<ServerWire>) -> Self {
        Self {
            total_count: servers.len(),
            healthy_count: healthy(&servers),
            servers,
            timestamp: timestamp(SystemTime::now()),
        }
    }
}

/// `GET /api/health`: 503 where no server is healthy.
pub(super) fn health(servers: &[ServerWire]) -> Response {
    let healthy = healthy(servers);
    let mut body = json!({
        "status": if healthy > 0 { "healthy" } else { "unhealthy" },
        "healthy_servers": healthy,
        "total_servers": servers.len(),
        "timestamp": timestamp(SystemTime::now()),
    });
    if healthy > 0 {
        return Json(body).into_response();
    }
    body["message"] = "No healthy backend servers available".into();
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}
