//! The scaling API: `GET /rep`, `POST /add`, `DELETE|POST /rm`.

use axum::{
    Router,
    body::Body,
    extract::State,
    response::Response,
    routing::{get, post},
};
use serde_json::Value;

use super::{
    request::{self, Parameters, Parsed, Refused},
    wire::{self, Change},
};
use crate::{
    control::{Answered, Handle},
    fleet::{
        command::{Done, Request, ScaleCommand, ScaleError},
        ids::ReplicaName,
    },
};

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

async fn add(State(handle): State<Handle>, parameters: Parsed, body: Body) -> Response {
    let make = |asked: Asked| ScaleCommand::add(asked.n, asked.names, asked.weight.unwrap_or(1));
    scale(&handle, &parameters, body, make).await
}

async fn rm(State(handle): State<Handle>, parameters: Parsed, body: Body) -> Response {
    let make = |asked: Asked| ScaleCommand::remove(asked.n, asked.names);
    scale(&handle, &parameters, body, make).await
}

type Make = fn(Asked) -> Result<ScaleCommand, ScaleError>;

async fn scale(handle: &Handle, parameters: &Parsed, body: Body, make: Make) -> Response {
    let request = async {
        let dry_run = Parameters::is_dry_run(parameters)?;
        let command = make(parse(&request::read(body).await?)?).map_err(Refused::Scale)?;
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
        Ok(Done::Added(names)) => wire::success(wire::replicas(&view, Change::Added(&names))),
        Ok(Done::Removed(names)) => wire::success(wire::replicas(&view, Change::Removed(&names))),
        Ok(Done::Changed(change) | Done::Preview(change)) => wire::success(wire::change(&change)),
        Ok(Done::Retried { roll, waiting }) => wire::success(wire::retried(roll, waiting)),
        Err(error) => wire::refusal(&error),
    }
}

/// What a body asks for.
#[derive(Debug)]
struct Asked {
    n: usize,
    names: Vec<ReplicaName>,
    weight: Option<u32>,
}

fn parse(body: &[u8]) -> Result<Asked, Refused> {
    let fields = request::object(body)?;
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
    let weight = fields.get("weight").map(|weight| {
        let weight = weight.as_u64().and_then(|weight| u32::try_from(weight).ok());
        weight.filter(|&weight| weight >= 1).ok_or(Refused::Scale(ScaleError::NotAWeight))
    });
    Ok(Asked { n: usize::try_from(n).unwrap_or(usize::MAX), names, weight: weight.transpose()? })
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
            Err(_) => unreachable!("nothing was read"),
        }
    }

    #[test]
    fn counts_and_names_are_read() {
        let asked = parse(br#"{"n":4,"hostnames":["S5","S4"]}"#).unwrap_or_else(|_| panic!());
        assert_eq!((asked.n, asked.names.len(), asked.weight), (4, 2, None));
        let asked = parse(br#"{"N":1,"names":null,"weight":3}"#).unwrap_or_else(|_| panic!());
        assert_eq!((asked.n, asked.names.len(), asked.weight), (1, 0, Some(3)));
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
            (r#"{"n":1,"weight":0}"#, "'weight' must be an integer of at least 1"),
            (r#"{"n":1,"weight":"2"}"#, "'weight' must be an integer of at least 1"),
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
