//! What people and machines outside may see of a fleet: one immutable value, derived.

use std::net::SocketAddr;

use super::{
    command::RingView,
    ids::{Incarnation, InstanceId, Moment, ReplicaId, ReplicaName},
    observed::{Health, Instance, Phase, of_replica},
    operation::{Change, Operation},
    state::{Boot, Engine, Finish, State},
};

/// A fleet at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetView {
    /// The ring of all desired replicas, with their names.
    pub ring: RingView,
    /// Names of the replicas in service, in the order they joined.
    pub in_service: Vec<ReplicaName>,
    /// All desired replicas, in the order they joined.
    pub replicas: Vec<ReplicaView>,
    /// Whether the fleet is supervised already.
    pub is_booted: bool,
    /// The engine's last words when it does not answer.
    pub engine_error: Option<String>,
    /// What the running command is, in words.
    pub operation: Option<&'static str>,
    /// Commands that wait for it.
    pub commands_waiting: usize,
    /// See [`State::may_listen`].
    pub may_listen: bool,
    /// See [`State::finish`].
    pub finish: Option<Finish>,
}

/// One desired replica.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaView {
    /// Ring identity.
    pub id: ReplicaId,
    /// Its last committed name.
    pub name: ReplicaName,
    /// Weight on the ring.
    pub weight: u32,
    /// What is known of its instances, lowest incarnation first.
    pub instances: Vec<InstanceView>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceView {
    /// Who it is.
    pub id: InstanceId,
    /// Its name.
    pub name: ReplicaName,
    /// Its phase, in one word.
    pub phase: &'static str,
    /// Why it is not well, in one word.
    pub reason: Option<&'static str>,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// Since when it is in this phase, where that is known.
    pub since: Option<Moment>,
    /// Whether it was started from something else than what is wanted now.
    pub is_outdated: bool,
}

impl FleetView {
    /// Derives the view.
    pub fn of(state: &State) -> Self {
        let replicas = state.desired.replicas().iter().map(|replica| ReplicaView {
            id: replica.id(),
            name: replica.name.clone(),
            weight: replica.member.weight,
            instances: of_replica(&state.instances, replica.id())
                .map(|(id, instance)| instance_view(id, instance))
                .collect(),
        });
        Self {
            ring: state.desired.view(),
            in_service: state.in_service(),
            replicas: replicas.collect(),
            is_booted: state.boot == Boot::Done,
            engine_error: match &state.engine {
                Engine::Up => None,
                Engine::Away(error) => Some(error.to_string()),
            },
            operation: state.operation.as_ref().map(|operation| match operation {
                Operation::Adding { .. } => "add",
                Operation::Removing { .. } => "rm",
                Operation::Changing { change: Change::Weight { .. }, .. } => "weight",
                Operation::Changing { change: Change::Ring(_), .. } => "ring",
            }),
            commands_waiting: state.queue.len(),
            may_listen: state.may_listen(),
            finish: state.finish(),
        }
    }

    /// The incarnation that serves a replica.
    pub fn serving(&self, id: ReplicaId) -> Option<Incarnation> {
        let replica = self.replicas.iter().find(|replica| replica.id == id)?;
        let serving = replica.instances.iter().find(|instance| instance.phase == "admitted");
        serving.map(|instance| instance.id.incarnation)
    }
}

fn instance_view(id: InstanceId, instance: &Instance) -> InstanceView {
    let (phase, reason, since) = match &instance.phase {
        Phase::Starting { since, .. } => ("starting", None, Some(*since)),
        Phase::Warming { since, .. } => ("warming", None, Some(*since)),
        Phase::Admitted { since, health: Health::Passing { .. }, .. } => {
            ("admitted", None, Some(*since))
        }
        Phase::Admitted { since, health: Health::Failing { reason, .. }, .. } => {
            ("admitted", Some(reason.name()), Some(*since))
        }
        Phase::Ejected { since, reason, .. } => ("ejected", Some(reason.name()), Some(*since)),
        Phase::Draining { .. } => ("draining", None, None),
        Phase::Stopping { .. } => ("stopping", None, None),
    };
    InstanceView {
        id,
        name: instance.name.clone(),
        phase,
        reason,
        address: instance.address(),
        since,
        is_outdated: instance.outdated,
    }
}
