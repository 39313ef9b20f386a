//! The scaling API: `GET /rep`, `POST /add`, `DELETE|POST /rm`.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::Value;

use super::wire::{self, Change};
use crate::{
    control::{Answered, Handle},
    fleet::{
        command::{Done, Request, ScaleCommand, ScaleError},
        ids::ReplicaName,
    },
};

/// The largest body of a command, in bytes.
const BODY_MAX: usize = 64 * 1024;
/// How long a client may take to send it.
const BODY_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// The routes. Only the exact paths are served.
pub fn router(handle: Handle) -> Router {
    Router::new()
        .route("/rep", get(rep).fallback(wrong_method_rep))
        .route("/add", post(add).fallback(wrong_method_add))
        .route("/rm", post(rm).delete(rm).fallback(wrong_method_rm))
        .with_state(handle)
}

async fn rep(State(handle): State<Handle>) -> Response {
    wire::success(wire::replicas(&handle.view(), Change::None))
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    dry_run: Option<String>,
}

/// A query that cannot be read is refused like everything else: as JSON.
type Parsed = Result<Query<Parameters>, QueryRejection>;

impl Parameters {
    fn is_dry_run(parsed: &Parsed) -> Result<bool, Refused> {
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

async fn add(State(handle): State<Handle>, parameters: Parsed, body: Body) -> Response {
    scale(&handle, &parameters, body, ScaleCommand::add).await
}

async fn rm(State(handle): State<Handle>, parameters: Parsed, body: Body) -> Response {
    scale(&handle, &parameters, body, ScaleCommand::remove).await
}

type Make = fn(usize, Vec<ReplicaName>) -> Result<ScaleCommand, ScaleError>;

async fn scale(handle: &Handle, parameters: &Parsed, body: Body, make: Make) -> Response {
    let request = async {
        let dry_run = Parameters::is_dry_run(parameters)?;
        let (n, names) = parse(&read(body).await?)?;
        let command = make(n, names).map_err(Refused::Scale)?;
        Ok::<_, Refused>(Request { command, dry_run })
    };
    let request = match request.await {
        Ok(request) => request,
        Err(refused) => return refused.into_response(),
    };
    // The command goes on when its client goes away, so it must not live in the client's task.
    let commands = handle.clone();
    let answer = tokio::spawn(async move { commands.scale(request).await }).await;
    let Ok(Answered { answer, view }) = answer else {
        return wire::refusal(&ScaleError::ShuttingDown);
    };
    match answer {
        Ok(Done::Added(names)) => wire::success(wire::replicas(&view, Change::Added(&names))),
        Ok(Done::Removed(names)) => wire::success(wire::replicas(&view, Change::Removed(&names))),
        Ok(Done::Preview(preview)) => wire::success(wire::preview(&preview)),
        Err(error) => wire::refusal(&error),
    }
}

enum Refused {
    Scale(ScaleError),
    Bad(String),
    TooLarge,
    TooSlow,
}

impl Refused {
    fn bad(why: impl Into<String>) -> Self {
        Self::Bad(why.into())
    }

    fn into_response(self) -> Response {
        match self {
            Self::Scale(error) => wire::refusal(&error),
            Self::Bad(why) => wire::failure(StatusCode::BAD_REQUEST, &why),
            Self::TooLarge => wire::failure(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("the body is larger than {BODY_MAX} bytes"),
            ),
            Self::TooSlow => wire::failure(
                StatusCode::REQUEST_TIMEOUT,
                &format!("the body did not arrive within {BODY_DEADLINE:?}"),
            ),
        }
    }
}

async fn read(body: Body) -> Result<Bytes, Refused> {
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

/// The count and the names of a command, whatever its Content-Type.
fn parse(body: &[u8]) -> Result<(usize, Vec<ReplicaName>), Refused> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Refused::bad(format!("the body is not valid JSON: {error}")))?;
    let Value::Object(fields) = value else {
        return Err(Refused::bad("the body must be a JSON object like {\"n\":1}"));
    };
    let n = match (fields.get("n"), fields.get("N")) {
        (Some(_), Some(_)) => return Err(Refused::bad("give either 'n' or 'N', not both")),
        (one, other) => one.or(other),
    };
    let n = match n {
        None => return Err(Refused::bad("'n' is missing")),
        Some(n) => n.as_u64().filter(|&n| n >= 1).ok_or(Refused::Scale(ScaleError::NotACount))?,
    };
    let names = match (fields.get("hostnames"), fields.get("names")) {
        (Some(_), Some(_)) => {
            return Err(Refused::bad("give either 'hostnames' or 'names', not both"));
        }
        (one, other) => one.or(other),
    };
    let names = match names {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(names)) => names.iter().map(name).collect::<Result<_, _>>()?,
        Some(_) => return Err(Refused::bad("'hostnames' must be a list of names")),
    };
    Ok((usize::try_from(n).unwrap_or(usize::MAX), names))
}

fn name(value: &Value) -> Result<ReplicaName, Refused> {
    let Value::String(name) = value else {
        return Err(Refused::bad("'hostnames' must be a list of names"));
    };
    ReplicaName::new(name).map_err(|error| Refused::bad(error.to_string()))
}

async fn wrong_method_rep() -> Response {
    wire::wrong_method("GET, HEAD")
}

async fn wrong_method_add() -> Response {
    wire::wrong_method("POST")
}

async fn wrong_method_rm() -> Response {
    wire::wrong_method("DELETE, POST")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        match parse(body.as_bytes()) {
            Ok(parsed) => panic!("{body} was read as {parsed:?}"),
            Err(Refused::Bad(why)) => why,
            Err(Refused::Scale(error)) => error.to_string(),
            Err(Refused::TooLarge | Refused::TooSlow) => unreachable!("nothing was read"),
        }
    }

    #[test]
    fn counts_and_names_are_read() {
        let (n, names) = parse(br#"{"n":4,"hostnames":["S5","S4"]}"#).unwrap_or_else(|_| panic!());
        assert_eq!((n, names.len()), (4, 2));
        let (n, names) = parse(br#"{"N":1,"names":null,"more":1}"#).unwrap_or_else(|_| panic!());
        assert_eq!((n, names.len()), (1, 0));
    }

    #[test]
    fn bad_bodies_are_refused_in_a_sentence() {
        let cases = [
            ("", "not valid JSON"),
            ("{", "not valid JSON"),
            ("[1]", "must be a JSON object"),
            ("{}", "'n' is missing"),
            (r#"{"n":null}"#, "integer of at least 1"),
            (r#"{"n":"3"}"#, "integer of at least 1"),
            (r#"{"n":1.5}"#, "integer of at least 1"),
            (r#"{"n":0}"#, "integer of at least 1"),
            (r#"{"n":-1}"#, "integer of at least 1"),
            (r#"{"n":1,"N":1}"#, "either 'n' or 'N'"),
            (r#"{"n":1,"hostnames":"S1"}"#, "must be a list"),
            (r#"{"n":1,"hostnames":[1]}"#, "must be a list"),
            (r#"{"n":1,"hostnames":["-x"]}"#, "'-x' is not a valid name"),
            (r#"{"n":1,"hostnames":[],"names":[]}"#, "either 'hostnames' or 'names'"),
        ];
        for (body, expected) in cases {
            let why = refused(body);
            assert!(why.contains(expected), "{body}: {why}");
        }
    }
}
