//! `POST /api/retry`: retries what the core has given up.

use axum::{Router, extract::State, response::Response, routing::post};
use ringmaster_core::fleet::command::{Done, Request, ScaleCommand, ScaleError};

use super::{
    request::{self, Parsed},
    wire,
};
use crate::control::{Answered, Handle};

pub(super) fn router(handle: Handle) -> Router {
    Router::new().route("/api/retry", post(retry).fallback(wrong_method)).with_state(handle)
}

async fn retry(State(handle): State<Handle>, parameters: Parsed) -> Response {
    let dry_run = match request::is_dry_run(&parameters) {
        Ok(dry_run) => dry_run,
        Err(refused) => return refused.into_response(),
    };
    let request = Request { command: ScaleCommand::Retry, dry_run };
    match request::carry_out(&handle, request).await {
        Some(Answered { answer: Ok(Done::Retried { roll, waiting }), .. }) => {
            wire::success(wire::retried(roll, waiting))
        }
        Some(Answered { answer: Err(error), .. }) => wire::refusal(&error),
        Some(_) | None => wire::refusal(&ScaleError::ShuttingDown),
    }
}

async fn wrong_method() -> Response {
    wire::wrong_method("POST")
}
