//! The rows of the comparison: the loads, the proxies and the goals.

use std::fmt;

use serde::Serialize;

/// A measured proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Proxy {
    /// The balancer, with one worker.
    Ringmaster,
    /// HAProxy, with one thread.
    Haproxy,
    /// nginx, with one worker.
    Nginx,
    /// Envoy, with one worker.
    Envoy,
    /// A copy of bytes without a proxy's work, as the lower bound.
    Splice,
    /// The balancer with two workers, on both cores.
    TwoWorkers,
}

impl Proxy {
    /// All of them, in the order of columns.
    pub const ALL: [Proxy; 6] = [
        Proxy::Ringmaster,
        Proxy::Haproxy,
        Proxy::Nginx,
        Proxy::Envoy,
        Proxy::Splice,
        Proxy::TwoWorkers,
    ];

    /// The name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Proxy::Ringmaster => "Ringmaster",
            Proxy::Haproxy => "HAProxy",
            Proxy::Nginx => "nginx",
            Proxy::Envoy => "Envoy",
            Proxy::Splice => "bare splice",
            Proxy::TwoWorkers => "two workers",
        }
    }
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Microseconds on a core per answered request.
    CpuMicros,
    /// Answered requests per second.
    Throughput,
    /// Microseconds that the proxy adds to the median latency.
    AddedP50,
    /// The same for the latency that one request in a hundred exceeds.
    AddedP99,
    /// KiB of memory per idle connection.
    Memory,
    /// Instructions per request from key to replica.
    Instructions,
}

impl Unit {
    /// The name in the CSV.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Unit::CpuMicros => "cpu_us_per_request",
            Unit::Throughput => "requests_per_second",
            Unit::AddedP50 => "added_p50_us",
            Unit::AddedP99 => "added_p99_us",
            Unit::Memory => "kib_per_connection",
            Unit::Instructions => "instructions",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Unit::CpuMicros => "CPU µs/request",
            Unit::Throughput => "requests/s",
            Unit::AddedP50 => "added µs, p50",
            Unit::AddedP99 => "added µs, p99",
            Unit::Memory => "KiB/connection",
            Unit::Instructions => "instructions",
        })
    }
}

/// The load on a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// GETs on keep-alive connections.
    Get {
        /// Number of connections.
        connections: usize,
        /// Bytes of a response body.
        bytes: usize,
    },
    /// Uploads on keep-alive connections.
    Upload {
        /// Number of connections.
        connections: usize,
        /// Bytes of an upload.
        bytes: usize,
    },
    /// A new connection for each GET.
    Connect {
        /// Connections at the same time.
        connections: usize,
    },
    /// GETs over HTTP/2 without an upgrade.
    H2 {
        /// Number of connections.
        connections: usize,
        /// Requests at the same time on each.
        streams: usize,
    },
    /// GETs at a fixed rate; latencies count from when a request was due.
    OpenLoop {
        /// Number of connections.
        connections: usize,
    },
    /// Connections that wait after one GET each.
    Idle {
        /// Number of connections.
        connections: usize,
    },
}

/// What a figure is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Against {
    /// Another proxy in the same row.
    Proxy(Proxy),
    /// The same proxy in another row.
    Row(&'static str),
    /// A fixed number.
    Number(f64),
}

/// A goal: the figure of `of` is at most `most` times the one it is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// The unit of the figure.
    pub unit: Unit,
    /// The proxy of the figure.
    pub of: Proxy,
    /// What it is compared with.
    pub against: Against,
    /// The greatest ratio that meets the goal.
    pub most: f64,
}

/// One row of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name for `--only`.
    pub name: &'static str,
    /// A description of the load.
    pub says: &'static str,
    /// The load.
    pub work: Work,
    /// Replicas behind the proxy.
    pub replicas: usize,
    /// The measured proxies.
    pub proxies: &'static [Proxy],
    /// The goals.
    pub goals: &'static [Goal],
}

/// Replicas in rows that do not compare their number.
const FEW: usize = 3;

/// A load of GETs with small answers on 64 connections.
const GET_64: Work = Work::Get { connections: 64, bytes: 64 };

const PEERS: &[Proxy] = &[Proxy::Ringmaster, Proxy::Haproxy, Proxy::Nginx, Proxy::Envoy];
const NO_ENVOY: &[Proxy] = &[Proxy::Ringmaster, Proxy::Haproxy, Proxy::Nginx];

const fn cpu(most: f64) -> Goal {
    let against = Against::Proxy(Proxy::Haproxy);
    Goal { unit: Unit::CpuMicros, of: Proxy::Ringmaster, against, most }
}

const fn held(unit: Unit, against: Against, most: f64) -> Goal {
    Goal { unit, of: Proxy::Ringmaster, against, most }
}

/// All rows, in the order in which they are measured.
pub const ROWS: &[Row] = &[
    Row {
        name: "get-64",
        says: "small GETs, 64 keep-alive connections",
        work: GET_64,
        replicas: FEW,
        proxies: PEERS,
        goals: &[cpu(0.90)],
    },
    Row {
        name: "splice",
        says: "get-64 beside a bare splice of bytes to one replica",
        work: GET_64,
        replicas: FEW,
        proxies: &[Proxy::Ringmaster, Proxy::Splice],
        goals: &[held(Unit::CpuMicros, Against::Proxy(Proxy::Splice), 1.25)],
    },
    Row {
        name: "two-workers",
        says: "get-64 with two workers on both cores, which they share with the load",
        work: GET_64,
        replicas: FEW,
        proxies: &[Proxy::Ringmaster, Proxy::TwoWorkers],
        goals: &[Goal {
            unit: Unit::CpuMicros,
            of: Proxy::TwoWorkers,
            against: Against::Proxy(Proxy::Ringmaster),
            most: 1.10,
        }],
    },
    Row {
        name: "get-1000",
        says: "small GETs, 1,000 keep-alive connections",
        work: Work::Get { connections: 1_000, bytes: 64 },
        replicas: FEW,
        proxies: PEERS,
        goals: &[cpu(0.90)],
    },
    Row {
        name: "down-64k",
        says: "answers of 64 KiB, 16 connections",
        work: Work::Get { connections: 16, bytes: 64 << 10 },
        replicas: FEW,
        proxies: PEERS,
        goals: &[cpu(0.80)],
    },
    Row {
        name: "down-1m",
        says: "answers of 1 MiB, 16 connections",
        work: Work::Get { connections: 16, bytes: 1 << 20 },
        replicas: FEW,
        proxies: PEERS,
        goals: &[cpu(0.50)],
    },
    Row {
        name: "up-64k",
        says: "uploads of 64 KiB, 16 connections",
        work: Work::Upload { connections: 16, bytes: 64 << 10 },
        replicas: FEW,
        proxies: PEERS,
        goals: &[cpu(0.90)],
    },
    Row {
        name: "connect",
        says: "a new client connection for each small GET, 64 at a time",
        work: Work::Connect { connections: 64 },
        replicas: FEW,
        proxies: PEERS,
        goals: &[cpu(1.00)],
    },
    Row {
        name: "h2",
        says: "small GETs over HTTP/2, 16 connections of 32 streams, one key; HTTP/1.1 to the replicas",
        work: Work::H2 { connections: 16, streams: 32 },
        replicas: FEW,
        proxies: PEERS,
        goals: &[cpu(0.80)],
    },
    Row {
        name: "ring-3",
        says: "get-64 over 3 replicas",
        work: GET_64,
        replicas: 3,
        proxies: PEERS,
        goals: &[],
    },
    Row {
        name: "ring-56",
        says: "get-64 over 56 replicas",
        work: GET_64,
        replicas: 56,
        proxies: PEERS,
        goals: &[
            held(Unit::CpuMicros, Against::Row("ring-3"), 1.10),
            held(Unit::Instructions, Against::Row("ring-3"), 1.03),
        ],
    },
    Row {
        name: "ring-1000",
        says: "get-64 over 1,000 replicas",
        work: GET_64,
        replicas: 1_000,
        proxies: PEERS,
        goals: &[
            held(Unit::CpuMicros, Against::Row("ring-3"), 1.10),
            held(Unit::Instructions, Against::Row("ring-3"), 1.03),
        ],
    },
    Row {
        name: "open-loop",
        says: "small GETs at half the peak rate of the slower one of HAProxy and us, 64 connections",
        work: Work::OpenLoop { connections: 64 },
        replicas: FEW,
        proxies: NO_ENVOY,
        goals: &[
            held(Unit::AddedP50, Against::Proxy(Proxy::Haproxy), 1.00),
            held(Unit::AddedP99, Against::Proxy(Proxy::Haproxy), 1.00),
        ],
    },
    Row {
        name: "idle-memory",
        says: "10,000 idle keep-alive connections, each after one small GET",
        work: Work::Idle { connections: 10_000 },
        replicas: FEW,
        proxies: PEERS,
        goals: &[held(Unit::Memory, Against::Number(12.0), 1.00)],
    },
];

impl Row {
    /// Whether its subject is the number of replicas.
    #[must_use]
    pub fn is_about_the_ring(&self) -> bool {
        self.name.starts_with("ring-")
    }

    /// The rows that its goals are compared with.
    fn needs(&self) -> impl Iterator<Item = &'static str> {
        self.goals.iter().filter_map(|goal| match goal.against {
            Against::Row(name) => Some(name),
            _ => None,
        })
    }
}

/// The rows of these names with those that they are compared with; all rows if there are no names.
///
/// # Errors
/// A name that no row has.
pub fn chosen(names: &[String]) -> Result<Vec<Row>, String> {
    if let Some(wrong) = names.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        let all: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        return Err(format!("there is no row {wrong:?}; the rows are {}", all.join(", ")));
    }
    let is_named = |name: &str| names.is_empty() || names.iter().any(|one| one == name);
    let needed: Vec<&str> =
        ROWS.iter().filter(|row| is_named(row.name)).flat_map(Row::needs).collect();
    let wanted = |row: &&Row| is_named(row.name) || needed.contains(&row.name);
    Ok(ROWS.iter().filter(wanted).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str]) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        chosen(&only).unwrap().iter().map(|row| row.name).collect()
    }

    #[test]
    fn rows_are_chosen_by_name_with_those_they_are_compared_with() {
        assert_eq!(names(&["h2", "get-64"]), ["get-64", "h2"]);
        assert_eq!(names(&["ring-1000"]), ["ring-3", "ring-1000"]);
        assert_eq!(names(&[]).len(), ROWS.len());
        assert!(chosen(&["get-63".to_owned()]).unwrap_err().contains("idle-memory"));
    }

    #[test]
    fn goals_are_about_what_the_row_measures() {
        for row in ROWS {
            assert!(row.needs().all(|name| ROWS.iter().any(|other| other.name == name)));
            for goal in row.goals {
                assert!(row.proxies.contains(&goal.of), "{}", row.name);
                if let Against::Proxy(proxy) = goal.against {
                    assert!(row.proxies.contains(&proxy), "{}", row.name);
                }
            }
        }
    }
}
