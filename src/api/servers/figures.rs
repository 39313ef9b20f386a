//! What clients got from the servers since the last reset, by all processes of the fleet:
//! `GET /api/stats`, `GET /api/metrics`.
//! Times are seconds until the response began; they are 0 where there was none, as the rates.

use std::time::SystemTime;

use serde::Serialize;

use super::wire::{self, ServerWire};
use crate::api::statistics::{ServerStatistics, Snapshot};

/// All servers together. Requests that no server answered count as requests and as errors.
#[derive(Serialize)]
struct Sums {
    total_servers: usize,
    healthy_servers: usize,
    unhealthy_servers: usize,
    total_requests: u64,
    total_errors: u64,
    error_rate: f64,
    /// Of the requests, those that no server answered.
    unanswered: u64,
    timestamp: f64,
    /// Processes of the fleet whose part is missing, each in a sentence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    incomplete: Vec<String>,
}

impl Sums {
    fn of(servers: &[(ServerWire, ServerStatistics)], snapshot: &Snapshot) -> Self {
        let healthy = servers.iter().filter(|(server, _)| server.healthy).count();
        let requests = snapshot.total.requests + snapshot.unanswered;
        let errors = snapshot.total.errors + snapshot.unanswered;
        Self {
            total_servers: servers.len(),
            healthy_servers: healthy,
            unhealthy_servers: servers.len() - healthy,
            total_requests: requests,
            total_errors: errors,
            // A response of before a reset may break off after it.
            error_rate: if requests == 0 {
                0.0
            } else {
                (errors as f64 / requests as f64).min(1.0)
            },
            unanswered: snapshot.unanswered,
            timestamp: wire::timestamp(SystemTime::now()),
            incomplete: snapshot.incomplete.clone(),
        }
    }
}

/// `GET /api/stats`.
#[derive(Serialize)]
pub(super) struct StatsWire {
    #[serde(flatten)]
    sums: Sums,
    servers: Vec<ServerStatsWire>,
}

#[derive(Serialize)]
struct ServerStatsWire {
    name: String,
    healthy: bool,
    request_count: u64,
    error_count: u64,
    average_response_time: f64,
}

impl StatsWire {
    pub(super) fn of(servers: &[(ServerWire, ServerStatistics)], snapshot: &Snapshot) -> Self {
        let one = |(server, counted): &(ServerWire, ServerStatistics)| ServerStatsWire {
            name: server.name.clone(),
            healthy: server.healthy,
            request_count: counted.requests,
            error_count: counted.errors,
            average_response_time: counted.average(),
        };
        Self { sums: Sums::of(servers, snapshot), servers: servers.iter().map(one).collect() }
    }
}

/// `GET /api/metrics`.
#[derive(Serialize)]
pub(super) struct MetricsWire {
    #[serde(flatten)]
    sums: Sums,
    response_time: TimesWire,
    servers: Vec<ServerMetricsWire>,
}

/// The mean, and what 50, 90, 95 and 99 of 100 responses stayed below.
#[derive(Serialize)]
struct TimesWire {
    average: f64,
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
}

impl TimesWire {
    fn of(counted: &ServerStatistics) -> Self {
        let ServerStatistics { p50, p90, p95, p99, .. } = *counted;
        Self { average: counted.average(), p50, p90, p95, p99 }
    }
}

#[derive(Serialize)]
struct ServerMetricsWire {
    name: String,
    healthy: bool,
    request_count: u64,
    error_count: u64,
    error_rate: f64,
    response_time: TimesWire,
}

impl MetricsWire {
    pub(super) fn of(servers: &[(ServerWire, ServerStatistics)], snapshot: &Snapshot) -> Self {
        let one = |(server, counted): &(ServerWire, ServerStatistics)| ServerMetricsWire {
            name: server.name.clone(),
            healthy: server.healthy,
            request_count: counted.requests,
            error_count: counted.errors,
            error_rate: counted.error_rate(),
            response_time: TimesWire::of(counted),
        };
        Self {
            sums: Sums::of(servers, snapshot),
            response_time: TimesWire::of(&snapshot.total),
            servers: servers.iter().map(one).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_no_server_answered_are_requests_and_errors() {
        let total = ServerStatistics { requests: 6, errors: 1, ..ServerStatistics::default() };
        let sums = Sums::of(&[], &Snapshot { total, unanswered: 2, ..Snapshot::default() });
        assert_eq!((sums.total_requests, sums.total_errors, sums.unanswered), (8, 3, 2));
        assert!((sums.error_rate - 0.375).abs() < 1e-9);
    }

    #[test]
    fn rates_are_parts_whatever_was_counted() {
        let rate = |requests, errors, unanswered| {
            let total = ServerStatistics { requests, errors, ..ServerStatistics::default() };
            Sums::of(&[], &Snapshot { total, unanswered, ..Snapshot::default() }).error_rate
        };
        assert_eq!(rate(0, 0, 0), 0.0);
        // An error of an earlier answer, seen after a reset.
        assert_eq!(rate(0, 1, 0), 0.0);
        assert_eq!(rate(1, 2, 0), 1.0);
        assert_eq!(rate(0, 0, 5), 1.0);
    }
}
