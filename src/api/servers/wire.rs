//! The shapes of the servers API. Times are seconds since the Unix epoch, durations seconds.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use ringmaster_core::fleet::view::{FleetView, InstanceView, ReplicaView};
use serde::Serialize;
use serde_json::json;

use crate::{api::statistics::ServerStatistics, control::checks::CheckView};

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
    let serving = replica.instances.iter().find(|instance| instance.is_admitted());
    serving.or(replica.instances.last())
}

/// The name that a replica is shown by: that of its instance in service, else its committed one.
pub(super) fn name_of(replica: &ReplicaView) -> &str {
    let serving = replica.instances.iter().find(|instance| instance.is_admitted());
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

/// `GET /api/servers/{name}`.
#[derive(Serialize)]
pub(super) struct OneWire {
    #[serde(flatten)]
    pub(super) server: ServerWire,
    /// See [`ListWire`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) incomplete: Vec<String>,
}

/// `GET /api/servers`.
#[derive(Serialize)]
pub(super) struct ListWire {
    servers: Vec<ServerWire>,
    total_count: usize,
    healthy_count: usize,
    timestamp: f64,
    /// Processes of the fleet whose part of what was counted is missing, each in a sentence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    incomplete: Vec<String>,
}

/// Servers with what they served.
type Counted = (ServerWire, ServerStatistics);

fn healthy(servers: &[Counted]) -> usize {
    servers.iter().filter(|(server, _)| server.healthy).count()
}

impl ListWire {
    pub(super) fn of(servers: Vec<Counted>, incomplete: Vec<String>) -> Self {
        Self {
            total_count: servers.len(),
            healthy_count: healthy(&servers),
            servers: servers.into_iter().map(|(server, _)| server).collect(),
            timestamp: timestamp(SystemTime::now()),
            incomplete,
        }
    }
}

/// `GET /api/health`: 503 where no server is healthy.
pub(super) fn health(servers: &[Counted]) -> Response {
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use ringmaster_core::fleet::{
        ids::{Incarnation, InstanceId, Moment, ReplicaId, ReplicaName},
        server::{Server, Source},
        view::InstancePhase,
    };

    use super::*;

    fn instance(name: &str, phase: InstancePhase, address: Option<&str>) -> InstanceView {
        InstanceView {
            id: InstanceId { replica: ReplicaId(1), incarnation: Incarnation::FIRST },
            name: ReplicaName::new(name).unwrap(),
            phase,
            reason: None,
            address: address.map(|address| address.parse().unwrap()),
            since: None,
            is_outdated: false,
            last_probe: None,
            handle: None,
        }
    }

    fn replica(server: Option<Server>, instances: Vec<InstanceView>) -> ReplicaView {
        ReplicaView {
            id: ReplicaId(1),
            name: ReplicaName::new("committed").unwrap(),
            weight: 2,
            server,
            is_drained: false,
            failures: 0,
            forgiven_at: None,
            next_try: Moment(0),
            instances,
        }
    }

    fn shown(replica: &ReplicaView, check: Option<CheckView>) -> serde_json::Value {
        let counted = ServerStatistics {
            requests: 8,
            errors: 2,
            seconds_sum: 4.0,
            ..ServerStatistics::default()
        };
        serde_json::to_value(ServerWire::of(replica, check, &counted)).unwrap()
    }

    #[test]
    fn a_server_is_shown_as_the_contract_says() {
        let server = Server::new("::1", 8_080, Source::Operator).unwrap();
        let serving = instance("committed", InstancePhase::Admitted, Some("[::1]:8080"));
        let check = CheckView {
            last_check: UNIX_EPOCH + Duration::from_millis(1_500),
            response_time: Duration::from_millis(20),
            healthy_count: 3,
            unhealthy_count: 0,
            has_passed: true,
        };
        let expected = json!({
            "name": "committed", "address": "::1", "port": 8080, "weight": 2, "healthy": true,
            "last_health_check": 1.5, "request_count": 8, "error_count": 2,
            "average_response_time": 0.5, "url": "http://[::1]:8080", "error_rate": 0.25,
            "health_check": {
                "last_check": 1.5, "response_time": 0.02, "healthy_count": 3, "unhealthy_count": 0,
            },
            "drained": false, "registered": true,
        });
        assert_eq!(shown(&replica(Some(server), vec![serving]), Some(check)), expected);
    }

    #[test]
    fn one_that_gets_no_requests_is_not_healthy_and_says_why() {
        let mut failing = instance("committed", InstancePhase::Ejected, None);
        failing.last_probe = Some(Arc::from("connection refused"));
        let server = Server::new("a.test", 80, Source::Operator).unwrap();
        let found = shown(&replica(Some(server.clone()), vec![failing]), None);
        assert_eq!(
            (&found["healthy"], &found["last_error"]),
            (&json!(false), &json!("connection refused"))
        );
        assert_eq!(found["url"], "http://a.test:80");
        assert!(
            found["last_health_check"].is_null() && found["health_check"]["last_check"].is_null()
        );
        let mut drained =
            replica(Some(server), vec![instance("committed", InstancePhase::Admitted, None)]);
        drained.is_drained = true;
        let found = shown(&drained, None);
        assert_eq!((&found["healthy"], &found["drained"]), (&json!(false), &json!(true)));
    }

    #[test]
    fn one_of_ours_is_shown_by_its_instance_in_service() {
        let old = instance("old", InstancePhase::Stopping, Some("127.0.0.1:1"));
        let new = instance("new", InstancePhase::Admitted, Some("127.0.0.1:2"));
        let ours = replica(None, vec![old, new]);
        let found = shown(&ours, None);
        assert_eq!((&found["name"], &found["port"]), (&json!("new"), &json!(2)));
        assert_eq!((&found["registered"], &found["healthy"]), (&json!(false), &json!(true)));
        let starting =
            shown(&replica(None, vec![instance("x", InstancePhase::Starting, None)]), None);
        assert_eq!(starting["name"], "committed");
        assert!(starting["address"].is_null() && starting["url"].is_null(), "{starting}");
    }
}
