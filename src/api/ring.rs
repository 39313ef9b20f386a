//! The ring of the admin port: what it is, who gets a key, and how it is changed.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    request::{self, Fields, Parsed, Refused, shortened},
    wire,
};
use crate::{
    control::{Answered, Handle},
    fleet::{
        command::{Done, Request, ScaleCommand, ScaleError},
        ids::ReplicaName,
        view::{FleetView, ReplicaView},
    },
    ring::{RingOptions, SLOTS_MAX},
};

/// The routes.
pub(super) fn router(handle: Handle) -> Router {
    Router::new()
        .route("/api/ring", get(ring).put(set_ring).fallback(wrong_method_ring))
        .route("/api/lookup/{key}", get(lookup).fallback(wrong_method_lookup))
        .route("/api/servers/{name}/weight", axum::routing::put(weight).fallback(wrong_method_put))
        .with_state(handle)
}

async fn ring(State(handle): State<Handle>) -> Response {
    Json(wire::ring(&handle.view().ring)).into_response()
}

async fn set_ring(State(handle): State<Handle>, parameters: Parsed, body: Body) -> Response {
    let request = async {
        let dry_run = request::is_dry_run(&parameters)?;
        let options = options(request::object(&request::read(body).await?)?)?;
        Ok::<_, Refused>(Request { command: ScaleCommand::SetRing(options), dry_run })
    };
    let request = match request.await {
        Ok(request) => request,
        Err(refused) => return refused.into_response(),
    };
    match request::carry_out(&handle, request).await {
        Some(Answered { answer: Ok(Done::Changed(change) | Done::Preview(change)), .. }) => {
            wire::success(wire::change(&change))
        }
        Some(Answered { answer: Err(error), .. }) => wire::refusal(&error),
        Some(_) | None => wire::refusal(&ScaleError::ShuttingDown),
    }
}

/// The settings that a body names; those of the file, by the same names.
fn options(fields: Fields) -> Result<RingOptions, Refused> {
    const KEYS: [&str; 7] =
        ["algorithm", "slots", "virtual_servers", "placement", "collision", "hash", "hash_key"];
    let fields = fields.only(&KEYS)?;
    if fields.is_empty() {
        return Err(Refused::bad(format!("name at least one of {}", KEYS.join(", "))));
    }
    let text = |key: &str| match fields.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Refused::bad(format!("'{key}' must be a text"))),
    };
    let number = |key: &str| fields.get(key).map(|value| number(key, value)).transpose();
    Ok(RingOptions {
        algorithm: text("algorithm")?,
        slots: number("slots")?,
        virtual_servers: number("virtual_servers")?,
        placement: text("placement")?,
        collision: text("collision")?,
        hash: text("hash")?,
        hash_key: text("hash_key")?,
    })
}

fn number(key: &str, value: &Value) -> Result<u32, Refused> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| {
        let shown = shortened(&value.to_string());
        Refused::bad(format!("'{key}' must be an integer of 1 to {SLOTS_MAX}, not {shown}"))
    })
}

/// A replica that a key may go to.
#[derive(Serialize)]
struct Candidate {
    name: String,
    id: u32,
    weight: u32,
    address: Option<String>,
    in_service: bool,
}

impl Candidate {
    fn of(replica: &ReplicaView) -> Self {
        let serving = replica.instances.iter().find(|instance| instance.phase == "admitted");
        Self {
            name: serving.map_or(&replica.name, |instance| &instance.name).to_string(),
            id: replica.id.0,
            weight: replica.weight,
            address: serving.and_then(|instance| instance.address).map(|a| a.to_string()),
            in_service: serving.is_some(),
        }
    }
}

async fn lookup(
    State(handle): State<Handle>,
    key: Result<Path<String>, PathRejection>,
) -> Response {
    match key {
        Ok(Path(key)) => Json(looked_up(&handle.view(), &key)).into_response(),
        Err(error) => wire::failure(StatusCode::BAD_REQUEST, &error.body_text()),
    }
}

fn looked_up(view: &FleetView, key: &str) -> Value {
    let ring = &view.ring.ring;
    let slot = ring.slot_of(key.as_bytes());
    // The replicas of a view are in the order of the ring's members.
    let order = ring.preference(slot).filter_map(|member| view.replicas.get(member.0 as usize));
    let candidates: Vec<Candidate> = order.map(Candidate::of).collect();
    json!({
        "key": key,
        "hash": ring.settings().hash.name(),
        "hash_value": ring.settings().hash.hash(key.as_bytes()),
        "slot": slot,
        "owner": candidates.first().map(|owner| &owner.name),
        "selected_server": candidates.iter().find(|candidate| candidate.in_service),
        "candidate_servers": candidates,
    })
}

async fn weight(
    State(handle): State<Handle>,
    name: Result<Path<String>, PathRejection>,
    parameters: Parsed,
    body: Body,
) -> Response {
    let text = name.as_ref().map(|name| name.0.clone()).unwrap_or_default();
    let request = async {
        let dry_run = request::is_dry_run(&parameters)?;
        let weight = weight_of(&request::read(body).await?)?;
        // A name that cannot be is the name of nobody.
        let name = ReplicaName::new(&text).map_err(|_| Refused::NotFound(text.clone()))?;
        let command = ScaleCommand::reweigh(name, weight).map_err(Refused::Scale)?;
        Ok::<_, Refused>(Request { command, dry_run })
    };
    let request = match request.await {
        Ok(request) => request,
        Err(refused) => return refused.into_error(),
    };
    match request::carry_out(&handle, request).await {
        Some(Answered { answer: Ok(Done::Preview(change)), .. }) => {
            wire::success(wire::change(&change))
        }
        Some(Answered { answer: Ok(_), .. }) => Json(json!({
            "message": format!("Server {text} updated successfully"),
            "updated_fields": ["weight"],
        }))
        .into_response(),
        Some(Answered { answer: Err(ScaleError::Unknown(name)), .. }) => {
            Refused::NotFound(name.to_string()).into_error()
        }
        Some(Answered { answer: Err(error), .. }) => Refused::Scale(error).into_error(),
        None => Refused::Scale(ScaleError::ShuttingDown).into_error(),
    }
}

fn weight_of(body: &[u8]) -> Result<u32, Refused> {
    let bad = |why: &str| Err(Refused::bad(why));
    let Ok(fields) = request::object(body) else { return bad("No JSON data provided") };
    let fields = fields.only(&["weight"])?;
    match fields.get("weight") {
        None => bad("Missing required field: weight"),
        Some(value) if !value.is_i64() && !value.is_u64() => bad("Weight must be an integer"),
        Some(value) => match value.as_u64().and_then(|weight| u32::try_from(weight).ok()) {
            None if value.is_u64() => {
                Err(Refused::bad(format!("Weight must be at most {}", u32::MAX)))
            }
            None | Some(0) => bad("Weight must be positive"),
            Some(weight) => Ok(weight),
        },
    }
}

async fn wrong_method_ring() -> Response {
    wire::wrong_method("GET, HEAD, PUT")
}

async fn wrong_method_lookup() -> Response {
    wire::wrong_method("GET, HEAD")
}

async fn wrong_method_put() -> Response {
    wire::wrong_method("PUT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why<T>(result: Result<T, Refused>) -> String {
        match result {
            Err(Refused::Bad(why)) => why,
            _ => panic!("it was not refused"),
        }
    }

    #[test]
    fn ring_options_are_read_by_name() {
        let read = |text: &str| options(request::object(text.as_bytes())?);
        let some = read(r#"{"algorithm":"slots","slots":1024}"#).unwrap_or_else(|_| panic!());
        assert_eq!((some.algorithm.as_deref(), some.slots), (Some("slots"), Some(1_024)));
        assert!(why(read("{}")).contains("at least one of algorithm"));
        assert!(why(read(r#"{"algo":"slots"}"#)).contains("'algo' is not one of algorithm"));
        assert!(
            why(read(r#"{"slots":"many"}"#))
                .contains("'slots' must be an integer of 1 to 65536, not \"many\"")
        );
        assert!(why(read(r#"{"hash":1}"#)).contains("'hash' must be a text"));
        assert!(why(read(r#"{"slots":1,"slots":2}"#)).contains("'slots' is given twice"));
    }

    #[test]
    fn weights_are_refused_in_the_words_of_the_contract() {
        assert_eq!(weight_of(br#"{"weight":3}"#).unwrap_or_default(), 3);
        assert_eq!(why(weight_of(b"")), "No JSON data provided");
        assert_eq!(why(weight_of(b"{}")), "Missing required field: weight");
        assert_eq!(why(weight_of(br#"{"weight":0}"#)), "Weight must be positive");
        assert_eq!(why(weight_of(br#"{"weight":-1}"#)), "Weight must be positive");
        let too_large = why(weight_of(br#"{"weight":4294967296}"#));
        assert_eq!(too_large, "Weight must be at most 4294967295");
        assert_eq!(why(weight_of(br#"{"weight":1.5}"#)), "Weight must be an integer");
        assert_eq!(why(weight_of(br#"{"weight":1,"wait":1}"#)), "'wait' is not one of weight");
        assert_eq!(why(weight_of(br#"{"weight":1,"weight":2}"#)), "'weight' is given twice");
    }
}
