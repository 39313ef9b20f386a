//! The logs of replicas: `GET /api/logs/{name}`.

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use ringmaster_core::fleet::{ids::ReplicaName, view::InstanceView};
use serde::{Deserialize, Serialize};

use super::{
    evidence::{self, EndingWire},
    wire,
};
use crate::control::Handle;

/// Default number of lines.
const LINES_DEFAULT: usize = 50;
/// Most lines that can be requested.
const LINES_MAX: usize = 1_000;

pub(super) fn router(handle: Handle) -> Router {
    Router::new().route("/api/logs/{name}", get(logs).fallback(wrong_method)).with_state(handle)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    lines: Option<String>,
}

impl Parameters {
    fn lines(&self) -> Result<usize, String> {
        let Some(text) = &self.lines else { return Ok(LINES_DEFAULT) };
        let lines = text.parse().ok().filter(|lines| (1..=LINES_MAX).contains(lines));
        lines.ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            format!("'lines' must be 1 to {LINES_MAX}, not '{shown}'")
        })
    }
}

#[derive(Serialize)]
struct LogsWire {
    /// The id of the replica.
    replica: u32,
    /// The running instance; `null` for a former name.
    instance: Option<LiveWire>,
    /// Oldest first.
    endings: Vec<EndingWire>,
}

#[derive(Serialize)]
struct LiveWire {
    name: String,
    incarnation: u32,
    phase: &'static str,
    lines: Vec<String>,
    /// Why the lines cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

async fn logs(
    State(handle): State<Handle>,
    name: Result<Path<String>, PathRejection>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Response {
    let name = match name {
        Ok(Path(name)) => name,
        Err(error) => return wire::failure(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let lines = parameters.map_err(|error| error.body_text()).and_then(|asked| asked.lines());
    let lines = match lines {
        Ok(lines) => lines,
        Err(why) => return wire::failure(StatusCode::BAD_REQUEST, &why),
    };
    let known = ReplicaName::new(&name).ok().and_then(|name| handle.view().named(&name));
    let Some(known) = known else {
        let shown: String = name.chars().take(80).collect();
        let why = format!("'{shown}' is not a replica, and none that ended is remembered by it");
        return wire::failure(StatusCode::NOT_FOUND, &why);
    };
    let instance = match &known.instance {
        Some(instance) => Some(live(&handle, instance, lines).await),
        None => None,
    };
    let clock = handle.clock();
    let endings = known.endings.iter().map(|ending| evidence::ending(ending, clock, lines));
    Json(LogsWire { replica: known.replica.0, instance, endings: endings.collect() })
        .into_response()
}

async fn live(handle: &Handle, instance: &InstanceView, lines: usize) -> LiveWire {
    let (lines, error) = match handle.live_log(instance, lines).await {
        Ok(lines) => (lines, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    LiveWire {
        name: instance.name.to_string(),
        incarnation: instance.id.incarnation.0,
        phase: instance.phase.name(),
        lines,
        error,
    }
}

async fn wrong_method() -> Response {
    wire::wrong_method("GET, HEAD")
}
