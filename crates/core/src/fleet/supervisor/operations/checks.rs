//! What several commands are checked by.

use crate::{
    fleet::{
        command::ScaleError,
        ids::{ReplicaId, ReplicaName},
        observed::of_replica,
        server::Server,
        state::{Engine, State},
    },
    ring::RingError,
};

/// Refuses a command while the engine is away.
pub(super) fn engine_answers(state: &State) -> Result<(), ScaleError> {
    match &state.engine {
        Engine::Up => Ok(()),
        Engine::Away(error) => Err(ScaleError::EngineAway(error.to_string())),
    }
}

/// Refuses what the ring has no room for.
pub(super) fn no_room(error: RingError) -> ScaleError {
    ScaleError::NoRoom(error.to_string())
}

/// Refuses more replicas than there may be.
pub(super) fn has_room(state: &State, n: usize) -> Result<(), ScaleError> {
    let (have, most) = (state.desired.replicas().len(), state.replicas_max());
    if have.saturating_add(n) <= most {
        return Ok(());
    }
    let advice = state.limits.advice(state.desired.ring().settings());
    Err(ScaleError::NoRoom(format!(
        "{n} more than {have} replicas are too many: at most {most} fit; {advice}"
    )))
}

/// A replica by its committed name, or by the name of an instance that is to follow.
pub(super) fn replica_named(state: &State, name: &ReplicaName) -> Result<ReplicaId, ScaleError> {
    let desired = state.desired.replicas().iter();
    let by_name = desired.clone().find(|replica| &replica.name == name).map(|r| r.id());
    let found = by_name.or_else(|| {
        let bears = |id: ReplicaId| {
            of_replica(&state.instances, id)
                .any(|(_, instance)| &instance.name == name && !instance.is_leaving())
        };
        desired.map(|replica| replica.id()).find(|&id| bears(id))
    });
    found.ok_or_else(|| ScaleError::Unknown(name.clone()))
}

/// Refuses a name that is in use.
pub(super) fn is_free_name(state: &State, name: &ReplicaName) -> Result<(), ScaleError> {
    match bearer_of(state, name) {
        Some(other) if other == name => Err(ScaleError::Exists(name.clone())),
        Some(other) => {
            let (name, other) = (name.clone(), other.clone());
            Err(ScaleError::HostExists { name, other })
        }
        None => Ok(()),
    }
}

/// The name of a living replica that is the same hostname. An instance on its way out does not
/// count: its container is removed when the name is used again.
fn bearer_of<'a>(state: &'a State, name: &ReplicaName) -> Option<&'a ReplicaName> {
    let instances = state.instances.iter();
    let living = instances.filter(|(id, _)| state.is_desired(id.replica));
    let living = living.map(|(_, instance)| &instance.name);
    let committed = state.desired.replicas().iter().map(|replica| &replica.name);
    let same = |other: &&ReplicaName| other.is_same_host(name);
    // The exact one first: its refusal is the plainer one.
    let mut all = committed.chain(living).filter(same).peekable();
    let first = all.peek().copied();
    all.find(|other| *other == name).or(first)
}

/// Refuses a place where another server is registered.
pub(super) fn is_free_place(
    state: &State,
    server: &Server,
    but: Option<ReplicaId>,
) -> Result<(), ScaleError> {
    let mut others = state.desired.replicas().iter().filter(|r| Some(r.id()) != but);
    let holds = |other: &Server| other.is_same_place(server);
    match others.find(|other| other.server.as_ref().is_some_and(holds)) {
        None => Ok(()),
        Some(other) => {
            let (place, other) = (server.place(), other.name.clone());
            Err(ScaleError::PlaceTaken { place, other })
        }
    }
}
