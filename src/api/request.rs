//! What all requests of the API have in common: parameters, bodies, and how they are refused.

use std::time::Duration;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::wire;
use crate::{
    control::{Answered, Handle},
    fleet::command::{Request, ScaleError},
};

/// The largest body of a command, in bytes.
const BODY_MAX: usize = 64 * 1024;
/// How long a client may take to send it.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Parameters of a command.
#[derive(Deserialize)]
pub(super) struct Parameters {
    #[serde(default)]
    dry_run: Option<String>,
}

/// A query that cannot be read is refused like everything else: as JSON.
pub(super) type Parsed = Result<Query<Parameters>, QueryRejection>;

impl Parameters {
    pub(super) fn is_dry_run(parsed: &Parsed) -> Result<bool, Refused> {
        let parameters = parsed.as_ref().map_err(|error| Refused::bad(error.body_text()))?;
        match parameters.dry_run.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(other) => {
                Err(Refused::bad(format!("'dry_run' must be true or false, not '{other}'")))
            }
        }
    }
}

/// Why a request is not carried out.
pub(super) enum Refused {
    Scale(ScaleError),
    Bad(String),
    NotFound(String),
    TooLarge,
    TooSlow,
}

impl Refused {
    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self::Bad(why.into())
    }

    /// As the scaling API says it.
    pub(super) fn into_response(self) -> Response {
        match self {
            Self::Scale(error) => wire::refusal(&error),
            other => {
                let (status, why) = other.describe();
                wire::failure(status, &why)
            }
        }
    }

    /// As the servers API says it: `{"error":".."}`.
    pub(super) fn into_error(self) -> Response {
        let (status, why) = self.describe();
        (status, Json(json!({ "error": why }))).into_response()
    }

    fn describe(self) -> (StatusCode, String) {
        match self {
            Self::Scale(error) => (wire::status_of(&error), error.to_string()),
            Self::Bad(why) => (StatusCode::BAD_REQUEST, why),
            Self::NotFound(name) => (StatusCode::NOT_FOUND, format!("Server {name} not found")),
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {BODY_MAX} bytes"))
            }
            Self::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                format!("the body did not arrive within {BODY_DEADLINE:?}"),
            ),
        }
    }
}

/// The whole body, within its bounds.
pub(super) async fn read(body: Body) -> Result<Bytes, Refused> {
    let read = Limited::new(body, BODY_MAX).collect();
    match tokio::time::timeout(BODY_DEADLINE, read).await {
        Err(_) => Err(Refused::TooSlow),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(Refused::TooLarge)
        }
        Ok(Err(error)) => Err(Refused::bad(format!("the body could not be read: {error}"))),
    }
}

/// The body as a JSON object, whatever its Content-Type.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Refused> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Refused::bad(format!("the body is not valid JSON: {error}")))?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(Refused::bad("the body must be a JSON object like {\"n\":1}")),
    }
}

/// Has a command carried out. It goes on when its client goes away, so it must not live in the
/// client's task. `None`: the balancer ends.
pub(super) async fn carry_out(handle: &Handle, request: Request) -> Option<Answered> {
    let commands = handle.clone();
    tokio::spawn(async move { commands.scale(request).await }).await.ok()
}
