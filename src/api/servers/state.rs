//! What the handlers of the servers API share: how they see the fleet, and how they command it.

use std::sync::Arc;

use axum::{
    Json,
    extract::FromRef,
    response::{IntoResponse, Response},
};
use ringmaster_core::fleet::{
    command::{Done, Request, ScaleCommand, ScaleError},
    ids::ReplicaName,
    view::{FleetView, ReplicaView},
};
use serde::Serialize;

use super::wire::{self, ServerWire};
use crate::{
    api::{
        request::{self, Parsed, Refused, shortened},
        statistics::{ServerStatistics, Snapshot},
        traffic::Traffic,
        wire::{change, success},
    },
    control::{Answered, Handle},
};

/// What the servers API is wired to.
#[derive(Clone)]
pub(super) struct Servers {
    pub(super) handle: Handle,
    pub(super) traffic: Traffic,
}

impl FromRef<Servers> for Traffic {
    fn from_ref(servers: &Servers) -> Self {
        servers.traffic.clone()
    }
}

impl Servers {
    /// All of a view with what they served, in the order they joined.
    pub(super) fn all(
        &self,
        view: &FleetView,
        snapshot: &Snapshot,
    ) -> Vec<(ServerWire, ServerStatistics)> {
        view.replicas.iter().map(|replica| self.counted(replica, snapshot)).collect()
    }

    /// One replica of a view as a server, with what it served.
    pub(super) fn counted(
        &self,
        replica: &ReplicaView,
        snapshot: &Snapshot,
    ) -> (ServerWire, ServerStatistics) {
        let counted = snapshot.servers.get(&replica.id).copied().unwrap_or_default();
        let check = wire::instance_of(replica).and_then(|one| self.handle.checks(one.id));
        (ServerWire::of(replica, check, &counted), counted)
    }

    /// Has a command carried out, or its dry run.
    pub(super) async fn carry_out(
        &self,
        command: ScaleCommand,
        parameters: &Parsed,
    ) -> Result<Outcome, Refused> {
        let dry_run = request::is_dry_run(parameters)?;
        let answered = request::carry_out(&self.handle, Request { command, dry_run }).await;
        let Some(Answered { answer, view }) = answered else {
            return Err(Refused::Scale(ScaleError::ShuttingDown));
        };
        match answer {
            Ok(Done::Preview(preview)) => Ok(Outcome::Preview(success(change(&preview)))),
            Ok(_) => Ok(Outcome::Done(view)),
            Err(error) => Err(refused(error)),
        }
    }
}

/// What came of a command.
pub(super) enum Outcome {
    /// It was carried out; the fleet at that moment.
    Done(Arc<FleetView>),
    /// It was a dry run, and this says what would change.
    Preview(Response),
}

impl Outcome {
    /// The answer, where nothing of the fleet is told.
    pub(super) fn answer(self, body: impl Serialize) -> Response {
        match self {
            Self::Preview(response) => response,
            Self::Done(_) => Json(body).into_response(),
        }
    }
}

/// A refusal in the words of the servers API.
fn refused(error: ScaleError) -> Refused {
    match error {
        ScaleError::Unknown(name) => Refused::NotFound(name.to_string()),
        ScaleError::Exists(name) => {
            Refused::Conflict(format!("Server with name '{name}' already exists"))
        }
        ScaleError::HostExists { name, other } => Refused::Conflict(format!(
            "Server with name '{name}' already exists: '{other}' is the same hostname"
        )),
        ScaleError::PlaceTaken { .. } => Refused::Conflict(error.to_string()),
        error => Refused::Scale(error),
    }
}

/// A name from a path. One that cannot be is the name of no server.
pub(super) fn name(text: &str) -> Result<ReplicaName, Refused> {
    ReplicaName::new(text).map_err(|_| Refused::NotFound(shortened(text)))
}
