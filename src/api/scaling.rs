//! The scaling API: `GET /rep`, `POST /add`, `DELETE|POST /rm`.

use axum::{
    Router,
    body::Body,
    extract::State,
    response::Response,
    routing::{get, post},
};
use ringmaster_core::fleet::{
    command::{Done, Request, ScaleCommand, ScaleError},
    ids::ReplicaName,
};
use serde_json::{Map, Value};

use super::{
    request::{self, Parsed, Refused},
    wire::{self, NamesChange},
};
use crate::control::{Answered, Handle};

/// The routes. Only the exact paths are served.
pub fn router(handle: Handle) -> Router {
    Router::new()
        .route("/rep", get(rep).fallback(wrong_method_rep))
        .route("/add", post(add).fallback(wrong_method_add))
        .route("/rm", post(rm).delete(rm).fallback(wrong_method_rm))
        .with_state(handle)
}

async fn rep(State(handle): State<Handle>) -> Response {
    wire::success(wire::replicas(&handle.view(), NamesChange::None))
}

async fn add(State(handle): State<Handle>, parameters: Parsed, body: Body) -> Response {
    let make = |content: ScaleBody| {
        ScaleCommand::add(content.n, content.names, content.weight.unwrap_or(1))
    };
    scale(&handle, &parameters, body, (ADD_KEYS, make)).await
}

async fn rm(State(handle): State<Handle>, parameters: Parsed, body: Body) -> Response {
    let make = |content: ScaleBody| ScaleCommand::remove(content.n, content.names);
    scale(&handle, &parameters, body, (RM_KEYS, make)).await
}

/// The keys of a body of `/add`: `N` means `n`, `names` and `servers` mean `hostnames`.
const ADD_KEYS: &[&str] = &["n", "hostnames", "weight", "N", "names", "servers"];
/// The keys of a body of `/rm`.
const RM_KEYS: &[&str] = &["n", "hostnames", "N", "names", "servers"];

/// The keys of a command, and its constructor.
type CommandFormat = (&'static [&'static str], fn(ScaleBody) -> Result<ScaleCommand, ScaleError>);

async fn scale(
    handle: &Handle,
    parameters: &Parsed,
    body: Body,
    (known, make): CommandFormat,
) -> Response {
    let request = async {
        let dry_run = request::is_dry_run(parameters)?;
        let content = parse(&request::read(body).await?, known)?;
        let command = make(content).map_err(Refused::Scale)?;
        Ok::<_, Refused>(Request { command, dry_run })
    };
    let request = match request.await {
        Ok(request) => request,
        Err(refused) => return refused.into_response(),
    };
    let Some(Answered { answer, view }) = request::carry_out(handle, request).await else {
        return wire::refusal(&ScaleError::ShuttingDown);
    };
    match answer {
        Ok(Done::Added(names)) => wire::success(wire::replicas(&view, NamesChange::Added(&names))),
        Ok(Done::Removed(names)) => {
            wire::success(wire::replicas(&view, NamesChange::Removed(&names)))
        }
        Ok(Done::Changed(change) | Done::Preview(change)) => wire::success(wire::change(&change)),
        Ok(Done::Marked) => wire::success(serde_json::json!({})),
        Ok(Done::Retried { roll, waiting }) => wire::success(wire::retried(roll, waiting)),
        Err(error) => wire::refusal(&error),
    }
}

/// The content of a body of `/add` or `/rm`.
#[derive(Debug)]
struct ScaleBody {
    n: usize,
    names: Vec<ReplicaName>,
    weight: Option<u32>,
}

fn parse(body: &[u8], known: &[&str]) -> Result<ScaleBody, Refused> {
    let fields = request::object(body)?.only(known)?;
    let n = match one_of(&fields, &["n", "N"])? {
        None => return Err(Refused::bad("'n' is missing")),
        Some(n) => n.as_u64().filter(|&n| n >= 1).ok_or(Refused::Scale(ScaleError::NotACount))?,
    };
    let names = one_of(&fields, &["hostnames", "names", "servers"])?;
    let names = match names {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(names)) => names.iter().map(name).collect::<Result<_, _>>()?,
        Some(_) => return Err(Refused::bad("'hostnames' must be a list of names")),
    };
    let weight = fields.get("weight").map(|weight| {
        let weight = weight.as_u64().and_then(|weight| u32::try_from(weight).ok());
        weight.filter(|&weight| weight >= 1).ok_or(Refused::Scale(ScaleError::NotAWeight))
    });
    Ok(ScaleBody {
        n: usize::try_from(n).unwrap_or(usize::MAX),
        names,
        weight: weight.transpose()?,
    })
}

/// The value of the one key that is given among several with the same meaning.
fn one_of<'a>(fields: &'a Map<String, Value>, keys: &[&str]) -> Result<Option<&'a Value>, Refused> {
    let mut given = keys.iter().filter_map(|&key| Some((key, fields.get(key)?)));
    match (given.next(), given.next()) {
        (Some((one, _)), Some((other, _))) => {
            Err(Refused::bad(format!("give either '{one}' or '{other}', not both")))
        }
        (first, _) => Ok(first.map(|(_, value)| value)),
    }
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
        match parse(body.as_bytes(), ADD_KEYS) {
            Ok(parsed) => panic!("{body} was read as {parsed:?}"),
            Err(Refused::Bad(why)) => why,
            Err(Refused::Scale(error)) => error.to_string(),
            Err(_) => unreachable!("nothing was read"),
        }
    }

    #[test]
    fn counts_and_names_are_read() {
        let content =
            parse(br#"{"n":4,"hostnames":["S5","S4"]}"#, RM_KEYS).unwrap_or_else(|_| panic!());
        assert_eq!((content.n, content.names.len(), content.weight), (4, 2, None));
        let content =
            parse(br#"{"N":1,"names":null,"weight":3}"#, ADD_KEYS).unwrap_or_else(|_| panic!());
        assert_eq!((content.n, content.names.len(), content.weight), (1, 0, Some(3)));
        let content = parse(br#"{"n":1,"servers":["S5"]}"#, RM_KEYS).unwrap_or_else(|_| panic!());
        assert_eq!(content.names.len(), 1);
    }

    #[test]
    fn invalid_bodies_are_refused_with_a_sentence() {
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
            (r#"{"n":1,"weight":0}"#, "'weight' must be an integer of at least 1"),
            (r#"{"n":1,"weight":"2"}"#, "'weight' must be an integer of at least 1"),
            (r#"{"n":1,"hostnames":"S1"}"#, "must be a list"),
            (r#"{"n":1,"hostnames":[1]}"#, "must be a list"),
            (r#"{"n":1,"hostnames":["-x"]}"#, "'-x' is not a valid name"),
            (r#"{"n":1,"hostnames":[],"names":[]}"#, "either 'hostnames' or 'names'"),
            (r#"{"n":1,"names":[],"servers":[]}"#, "either 'names' or 'servers'"),
            (r#"{"n":1,"hostname":["S1"]}"#, "'hostname' is not one of n, hostnames, weight, N"),
            (r#"{"n":1,"n":2}"#, "'n' is given twice"),
        ];
        for (body, expected) in cases {
            let why = refused(body);
            assert!(why.contains(expected), "{body}: {why}");
        }
        // A removal has no weight.
        assert!(parse(br#"{"n":1,"weight":1}"#, RM_KEYS).is_err());
    }
}
