//! `/api/ring`: shows and changes the ring.

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use ringmaster_core::{
    fleet::command::{Done, Request, ScaleCommand, ScaleError},
    ring::{RingOptions, SLOTS_MAX},
};
use serde_json::Value;

use super::{
    request::{self, Fields, Parsed, Refused, shortened},
    wire,
};
use crate::control::{Answered, Handle};

pub(super) fn router(handle: Handle) -> Router {
    Router::new()
        .route("/api/ring", get(ring).put(set_ring).fallback(wrong_method_ring))
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

/// The settings in a body, with the same names as in the file.
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

async fn wrong_method_ring() -> Response {
    wire::wrong_method("GET, HEAD, PUT")
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
}
