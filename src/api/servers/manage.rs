//! `/manage`: the same commands by other paths, drains, and the reset of what was counted.

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{any, delete, post},
};
use ringmaster_core::fleet::command::ScaleCommand;
use serde_json::json;

use super::{
    registry::{self, answer, text, unknown},
    state::{self, Servers},
    wire,
};
use crate::api::request::{self, Parsed, Refused};

pub(super) fn router() -> Router<Servers> {
    Router::new()
        .route("/manage/servers", post(registry::register).fallback(wrong_method_post))
        .route("/manage/servers/{name}", delete(registry::remove).fallback(wrong_method_delete))
        .route("/manage/drain/{name}", post(drain).fallback(wrong_method_post))
        .route("/manage/enable/{name}", post(enable).fallback(wrong_method_post))
        .route("/manage/reset", post(reset).fallback(wrong_method_post))
        .route("/manage/", any(unknown))
        .route("/manage/{*rest}", any(unknown))
}

type Named = Result<Path<String>, PathRejection>;

async fn drain(State(servers): State<Servers>, name: Named, parameters: Parsed) -> Response {
    answer(set_drained(&servers, name, &parameters, true).await)
}

async fn enable(State(servers): State<Servers>, name: Named, parameters: Parsed) -> Response {
    answer(set_drained(&servers, name, &parameters, false).await)
}

async fn set_drained(
    servers: &Servers,
    name: Named,
    parameters: &Parsed,
    is_drained: bool,
) -> Result<Response, Refused> {
    let name = state::name(&text(name)?)?;
    let word = if is_drained { "draining" } else { "enabled" };
    let message = format!("Server {name} is now {word}");
    let command = ScaleCommand::SetDrained { name, is_drained };
    let outcome = servers.carry_out(command, parameters).await?;
    Ok(outcome.answer(json!({ "message": message })))
}

async fn reset(State(servers): State<Servers>, parameters: Parsed) -> Response {
    // There is nothing to preview, and what is meant as a dry run must not be the real thing.
    if let Err(refused) = request::no_parameters(&parameters) {
        return refused.into_error();
    }
    match servers.traffic.reset().await {
        Ok(()) => Json(json!({ "message": "Statistics reset successfully" })).into_response(),
        Err(why) => wire::error(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

async fn wrong_method_post() -> Response {
    wire::wrong_method("POST")
}

async fn wrong_method_delete() -> Response {
    wire::wrong_method("DELETE")
}
