//! What all requests of the API have in common: parameters, bodies, and how they are refused.

use std::{fmt, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ringmaster_core::fleet::command::{Request, ScaleError};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, json};

use super::wire;
use crate::control::{Answered, Handle};

/// The largest body of a command, in bytes.
const BODY_MAX: usize = 64 * 1024;
/// How long a client may take to send it.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// The parameters of a command, each with its value. A query that cannot be read is refused like
/// everything else: as JSON.
pub(super) type Parsed = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// Whether the query asks for a dry run. What is no parameter is refused: who writes `dryrun` does not
/// mean the real thing.
pub(super) fn is_dry_run(parsed: &Parsed) -> Result<bool, Refused> {
    const KNOWN: &str = "dry_run";
    let Query(parameters) = parsed.as_ref().map_err(|error| Refused::bad(error.body_text()))?;
    if let Some((unknown, _)) = parameters.iter().find(|(name, _)| name != KNOWN) {
        let unknown = shortened(unknown);
        return Err(Refused::bad(format!("'{unknown}' is not a parameter; known is {KNOWN}")));
    }
    match parameters.as_slice() {
        [] => Ok(false),
        [(_, value)] => match value.as_str() {
            "false" | "0" => Ok(false),
            "true" | "1" | "" => Ok(true),
            other => {
                let other = shortened(other);
                Err(Refused::bad(format!("'dry_run' must be true or false, not '{other}'")))
            }
        },
        _ => Err(Refused::bad("'dry_run' is given twice")),
    }
}

/// Refuses a query: here it would mean nothing.
pub(super) fn no_parameters(parsed: &Parsed) -> Result<(), Refused> {
    let Query(parameters) = parsed.as_ref().map_err(|error| Refused::bad(error.body_text()))?;
    match parameters.first() {
        None => Ok(()),
        Some((name, _)) => {
            let name = shortened(name);
            Err(Refused::bad(format!("'{name}' is not a parameter; there is none here")))
        }
    }
}

/// What a stranger wrote, short enough to be repeated.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Why a request is not carried out.
pub(super) enum Refused {
    Scale(ScaleError),
    Bad(String),
    /// A server that there is not.
    NotFound(String),
    /// What was asked for contradicts what is there.
    Conflict(String),
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
        let mut response = (status, Json(json!({ "error": why }))).into_response();
        wire::say_when(&mut response);
        response
    }

    /// The status, and a sentence.
    pub(super) fn describe(self) -> (StatusCode, String) {
        match self {
            Self::Scale(error) => (wire::status_of(&error), error.to_string()),
            Self::Bad(why) => (StatusCode::BAD_REQUEST, why),
            Self::NotFound(name) => {
                (StatusCode::NOT_FOUND, format!("Server {} not found", shortened(&name)))
            }
            Self::Conflict(why) => (StatusCode::CONFLICT, why),
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

/// The fields of a JSON object.
pub(super) struct Fields {
    fields: Map<String, Value>,
    /// A key that stands there twice; of its values one would be dropped without a word.
    repeated: Option<String>,
}

impl Fields {
    /// These fields, if all are known and none is repeated.
    pub(super) fn only(self, known: &[&str]) -> Result<Map<String, Value>, Refused> {
        if let Some(unknown) = self.fields.keys().find(|key| !known.contains(&key.as_str())) {
            let (unknown, known) = (shortened(unknown), known.join(", "));
            return Err(Refused::bad(format!("'{unknown}' is not one of {known}")));
        }
        match self.repeated {
            Some(key) => Err(Refused::bad(format!("'{key}' is given twice"))),
            None => Ok(self.fields),
        }
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject;

        impl<'de> Visitor<'de> for OfObject {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Fields, A::Error> {
                let mut found = Fields { fields: Map::new(), repeated: None };
                while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                    if found.fields.insert(key.clone(), value).is_some() {
                        found.repeated = Some(key);
                    }
                }
                Ok(found)
            }
        }

        deserializer.deserialize_any(OfObject)
    }
}

/// The body as a JSON object, whatever its Content-Type.
pub(super) fn object(body: &[u8]) -> Result<Fields, Refused> {
    serde_json::from_slice(body).map_err(|error| match error.is_data() {
        true => Refused::bad("the body must be a JSON object like {\"n\":1}"),
        false => Refused::bad(format!("the body is not valid JSON: {error}")),
    })
}

/// Has a command carried out. It goes on when its client goes away, so it must not live in the
/// client's task. `None`: the balancer ends.
pub(super) async fn carry_out(handle: &Handle, request: Request) -> Option<Answered> {
    let commands = handle.clone();
    tokio::spawn(async move { commands.scale(request).await }).await.ok()
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;

    use super::*;

    fn why<T>(result: Result<T, Refused>) -> String {
        match result {
            Err(Refused::Bad(why)) => why,
            _ => panic!("it was not refused"),
        }
    }

    fn dry_run(query: &str) -> Result<bool, Refused> {
        let uri: Uri = format!("/rm?{query}").parse().unwrap();
        is_dry_run(&Query::try_from_uri(&uri))
    }

    #[test]
    fn only_dry_run_is_a_parameter_and_only_once() {
        for (query, expected) in [
            ("", false),
            ("&", false),
            ("dry_run=false", false),
            ("dry_run=0", false),
            ("dry_run", true),
            ("dry_run=", true),
            ("dry_run=1", true),
            ("dry%5Frun=true&", true),
        ] {
            assert_eq!(dry_run(query).unwrap_or_else(|_| panic!("{query}")), expected, "{query}");
        }
        for (query, expected) in [
            ("dryrun=true", "'dryrun' is not a parameter; known is dry_run"),
            ("Dry_run=true", "'Dry_run' is not a parameter"),
            ("dry_run=true&force=1", "'force' is not a parameter"),
            ("n=1", "'n' is not a parameter"),
            ("=true", "'' is not a parameter"),
            ("dry_run=true&dry_run=true", "'dry_run' is given twice"),
            ("dry_run=maybe", "'dry_run' must be true or false, not 'maybe'"),
            ("dry_run=TRUE", "not 'TRUE'"),
        ] {
            let why = why(dry_run(query));
            assert!(why.contains(expected), "{query}: {why}");
        }
        let long = why(dry_run(&"x".repeat(5_000)));
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn keys_are_known_and_stand_there_once() {
        let read = |body: &str| object(body.as_bytes())?.only(&["n", "names"]);
        let fields = read(r#"{"n":1,"names":[{"n":1,"n":2}]}"#).unwrap_or_else(|_| panic!());
        assert_eq!(fields.len(), 2, "what is inside a value is a matter of that value");
        for (body, expected) in [
            (r#"{"n":1,"n":2}"#, "'n' is given twice"),
            (r#"{"n":1,"\u006e":1}"#, "'n' is given twice"),
            (r#"{"n":1,"name":[]}"#, "'name' is not one of n, names"),
            (r#"{"n":1,"x":1,"n":1}"#, "'x' is not one of n, names"),
            (r#"[{"n":1}]"#, "must be a JSON object"),
            ("null", "must be a JSON object"),
            (r#"{"n":1}{}"#, "not valid JSON"),
            (r#"{"n":1,}"#, "not valid JSON"),
            ("", "not valid JSON"),
        ] {
            let why = why(read(body));
            assert!(why.contains(expected), "{body}: {why}");
        }
        let long = why(read(&format!(r#"{{"{}":1}}"#, "x".repeat(5_000))));
        assert!(long.len() < 200, "{long}");
    }
}
