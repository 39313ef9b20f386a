//! `/api/servers`: who there is, and changes of one by its name.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, put},
};
use ringmaster_core::fleet::command::ScaleCommand;
use serde_json::json;

use super::{
    parse::{self, ParsedChange},
    state::{self, Outcome, Servers},
    wire::{self, ListWire, OneWire},
};
use crate::api::{
    request::{self, Parsed, Refused, shortened},
    statistics::Snapshot,
};

/// The name in a path.
type Named = Result<Path<String>, PathRejection>;

pub(super) fn router() -> Router<Servers> {
    let one = get(show).delete(remove).put(update);
    Router::new()
        .route("/api/servers", get(list).post(register).fallback(wrong_method_all))
        .route("/api/servers/", get(unknown).fallback(unknown))
        .route("/api/servers/{name}", one.fallback(wrong_method_one))
        .route("/api/servers/{name}/weight", put(weight).fallback(wrong_method_put))
        .route("/api/servers/{name}/health", put(health).fallback(wrong_method_put))
        .route("/api/servers/{name}/{*rest}", get(unknown).fallback(unknown))
}

async fn list(State(servers): State<Servers>) -> Response {
    let snapshot = servers.traffic.snapshot().await;
    let all = servers.all(&servers.handle.view(), &snapshot);
    Json(ListWire::of(all, snapshot.incomplete)).into_response()
}

async fn show(State(servers): State<Servers>, name: Named) -> Response {
    answer(
        async {
            let name = text(name)?;
            let snapshot = servers.traffic.snapshot().await;
            let view = servers.handle.view();
            let replica = wire::replica_named(&view, &name);
            let replica = replica.ok_or_else(|| Refused::NotFound(name.clone()))?;
            let (server, _) = servers.counted(replica, &snapshot);
            Ok(Json(OneWire { server, incomplete: snapshot.incomplete }).into_response())
        }
        .await,
    )
}

/// Registers a server. Also `POST /manage/servers`.
pub(super) async fn register(
    State(servers): State<Servers>,
    parameters: Parsed,
    body: Body,
) -> Response {
    answer(
        async {
            let registration = parse::registration(&request::read(body).await?)?;
            let name = registration.name.clone();
            let command = ScaleCommand::Register(vec![registration]);
            let view = match servers.carry_out(command, &parameters).await? {
                Outcome::Preview(response) => return Ok(response),
                Outcome::Done(view) => view,
            };
            let server = wire::replica_named(&view, name.as_str());
            let body = json!({
                "message": format!("Server {name} added successfully"),
                // It has answered nothing yet.
                "server": server.map(|one| servers.counted(one, &Snapshot::default()).0),
            });
            Ok((StatusCode::CREATED, Json(body)).into_response())
        }
        .await,
    )
}

/// Removes a server. Also `DELETE /manage/servers/{name}`.
pub(super) async fn remove(
    State(servers): State<Servers>,
    name: Named,
    parameters: Parsed,
) -> Response {
    answer(
        async {
            let name = state::name(&text(name)?)?;
            let command = ScaleCommand::remove(1, vec![name.clone()]).map_err(Refused::Scale)?;
            let outcome = servers.carry_out(command, &parameters).await?;
            let message = format!("Server {name} removed successfully");
            Ok(outcome.answer(json!({ "message": message })))
        }
        .await,
    )
}

async fn update(
    State(servers): State<Servers>,
    name: Named,
    parameters: Parsed,
    body: Body,
) -> Response {
    change(&servers, name, &parameters, body, parse::change).await
}

async fn weight(
    State(servers): State<Servers>,
    name: Named,
    parameters: Parsed,
    body: Body,
) -> Response {
    change(&servers, name, &parameters, body, parse::weight).await
}

async fn change(
    servers: &Servers,
    name: Named,
    parameters: &Parsed,
    body: Body,
    read: fn(&[u8]) -> Result<ParsedChange, Refused>,
) -> Response {
    answer(
        async {
            let ParsedChange { change, fields } = read(&request::read(body).await?)?;
            let name = state::name(&text(name)?)?;
            let command = ScaleCommand::ChangeServer { name: name.clone(), change };
            let outcome = servers.carry_out(command, parameters).await?;
            let message = format!("Server {name} updated successfully");
            Ok(outcome.answer(json!({ "message": message, "updated_fields": fields })))
        }
        .await,
    )
}

async fn health(
    State(servers): State<Servers>,
    name: Named,
    parameters: Parsed,
    body: Body,
) -> Response {
    answer(
        async {
            let is_healthy = parse::health(&request::read(body).await?)?;
            let name = state::name(&text(name)?)?;
            let word = if is_healthy { "healthy" } else { "unhealthy" };
            let message = format!("Server {name} marked as {word}");
            let command = ScaleCommand::SetHealth { name, is_healthy };
            let outcome = servers.carry_out(command, &parameters).await?;
            Ok(outcome.answer(json!({ "message": message })))
        }
        .await,
    )
}

pub(super) fn text(name: Named) -> Result<String, Refused> {
    name.map(|Path(name)| name).map_err(|error| Refused::bad(error.body_text()))
}

pub(super) fn answer(result: Result<Response, Refused>) -> Response {
    result.unwrap_or_else(Refused::into_error)
}

/// A path beside ours.
pub(super) async fn unknown(uri: http::Uri) -> Response {
    let why = format!("there is no '{}'", shortened(uri.path()));
    wire::error(StatusCode::NOT_FOUND, &why)
}

async fn wrong_method_all() -> Response {
    wire::wrong_method("GET, HEAD, POST")
}

async fn wrong_method_one() -> Response {
    wire::wrong_method("GET, HEAD, DELETE, PUT")
}

async fn wrong_method_put() -> Response {
    wire::wrong_method("PUT")
}
