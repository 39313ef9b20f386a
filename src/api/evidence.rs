//! The format of failures and endings in responses.

use ringmaster_core::fleet::{
    endings::Ending,
    view::{FleetView, ReplicaView},
};
use serde::Serialize;

use crate::control::CoreClock;

/// Log lines of the last ending in the status; `GET /api/logs` shows all.
const STATUS_LINES: usize = 10;

/// The failures of a replica, and its last ending.
#[derive(Serialize)]
pub(super) struct TroubleWire {
    /// Failures in a row; 0 for a replica that has been stable.
    failures: u32,
    /// Only while a start waits for its back-off.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<ErrorWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_ending: Option<EndingWire>,
}

#[derive(Serialize)]
struct ErrorWire {
    time_us: u64,
    message: String,
}

/// How an instance ended.
#[derive(Serialize)]
pub(super) struct EndingWire {
    name: String,
    incarnation: u32,
    time_us: u64,
    exit_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    out_of_memory: bool,
    lines: Vec<String>,
}

pub(super) fn trouble(view: &FleetView, replica: &ReplicaView, clock: CoreClock) -> TroubleWire {
    let now = clock.now();
    let is_forgiven = replica.forgiven_at.is_some_and(|at| at <= now);
    let wait = u64::try_from(replica.next_try.since(now).as_millis()).unwrap_or(u64::MAX);
    let last_error = view.endings.last_error(replica.id);
    let last_ending = view.endings.of_replica(replica.id).next_back();
    TroubleWire {
        failures: if is_forgiven { 0 } else { replica.failures },
        next_try_in_ms: (wait > 0).then_some(wait),
        last_error: last_error.map(|error| ErrorWire {
            time_us: clock.wall_us(error.at),
            message: error.text.to_string(),
        }),
        last_ending: last_ending.map(|last| ending(last, clock, STATUS_LINES)),
    }
}

pub(super) fn ending(ending: &Ending, clock: CoreClock, lines_max: usize) -> EndingWire {
    let words = &ending.last_words;
    let beyond = words.lines.len().saturating_sub(lines_max);
    EndingWire {
        name: ending.name.to_string(),
        incarnation: ending.instance.incarnation.0,
        time_us: clock.wall_us(ending.at),
        exit_code: words.exit_code,
        signal: words.signal().map(|signal| signal.to_string()),
        out_of_memory: words.out_of_memory,
        lines: words.lines[beyond..].to_vec(),
    }
}
