//! Changes of the ring or of one replica, by which nothing is started or stopped.

use super::checks::{is_free_place, no_room, replica_named};
use crate::{
    fleet::{
        command::{CommandId, Done, ScaleError},
        desired::Desired,
        ids::{InstanceId, ReplicaId, ReplicaName},
        observed::of_replica,
        operation::{ChangeStage, FleetChange, Operation},
        server::{Server, ServerChange},
        state::State,
        supervisor::{context::Context, transitions::drain::drain},
    },
    ring::RingOptions,
};

/// A change begins.
pub(super) fn begin(
    state: &mut State,
    cx: &mut Context<'_>,
    command: CommandId,
    change: FleetChange,
) -> Result<(), ScaleError> {
    let before = &state.desired;
    let after = change.apply(before).map_err(no_room)?;
    if after.ring() == before.ring() && after.replicas() == before.replicas() {
        // It is what it is already; no generation for that.
        cx.respond(command, Ok(Done::Changed(Box::new(before.change_to(before)))));
        return Ok(());
    }
    let stage = ChangeStage::Accepted;
    state.operation = Some(Operation::Changing { command, change, stage });
    Ok(())
}

/// Another weight.
pub(super) fn weight(
    state: &State,
    name: &ReplicaName,
    weight: u32,
) -> Result<FleetChange, ScaleError> {
    Ok(FleetChange::Weight { id: replica_named(state, name)?, weight })
}

/// Other settings of the ring.
pub(super) fn ring(state: &State, options: &RingOptions) -> Result<FleetChange, ScaleError> {
    let settings = options.on(state.desired.ring().settings());
    settings.map(FleetChange::Ring).map_err(|error| ScaleError::BadRing(error.to_string()))
}

/// Whether a replica is drained.
pub(super) fn drained(
    state: &State,
    name: &ReplicaName,
    is_drained: bool,
) -> Result<FleetChange, ScaleError> {
    Ok(FleetChange::Drained { id: replica_named(state, name)?, is_drained })
}

/// Another place or weight of a registered server.
pub(super) fn server(
    state: &State,
    name: &ReplicaName,
    change: &ServerChange,
) -> Result<FleetChange, ScaleError> {
    let id = replica_named(state, name)?;
    if change.weight == Some(0) {
        return Err(ScaleError::NotAWeight);
    }
    // A weight is as good for a replica that we keep.
    if let ServerChange { host: None, port: None, weight: Some(weight) } = *change {
        return Ok(FleetChange::Weight { id, weight });
    }
    let server = state.desired.replica(id).and_then(|replica| replica.server.as_ref());
    let server = server.ok_or_else(|| ScaleError::NotRegistered(name.clone()))?;
    let host = change.host.as_ref().unwrap_or(&server.host);
    let port = change.port.unwrap_or(server.port);
    let moved = Server::new(host, port, server.source)
        .map_err(|error| ScaleError::BadPlace(error.to_string()))?;
    is_free_place(state, &moved, Some(id))?;
    let change = ServerChange { host: Some(moved.host), port: Some(port), ..change.clone() };
    Ok(FleetChange::Server { id, change })
}

/// A server is somewhere else: its old instance leaves, and the plan begins with the next one.
pub(super) fn leave_old_place(
    state: &mut State,
    cx: &mut Context<'_>,
    before: &Desired,
    id: ReplicaId,
) {
    let place = |desired: &Desired| desired.replica(id).and_then(|replica| replica.server.clone());
    if place(before) == place(&state.desired) {
        return;
    }
    let old: Vec<InstanceId> = of_replica(&state.instances, id).map(|(old, _)| old).collect();
    for old in old {
        match state.instances.get(&old) {
            Some(instance) if instance.is_admitted() => drain(state, cx, old),
            Some(instance) if !instance.is_leaving() => drop(state.remove(old, cx.now)),
            _ => {}
        }
    }
}
