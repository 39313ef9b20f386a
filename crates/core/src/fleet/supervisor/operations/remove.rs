//! Removals.

use rand::{SeedableRng, rngs::StdRng};

use super::checks::{engine_answers, replica_named};
use crate::fleet::{
    command::{CommandId, Done, ScaleError},
    ids::{ReplicaId, ReplicaName},
    operation::{Operation, RemoveStage},
    state::State,
    supervisor::context::Context,
    values::Keeper,
    victim,
};

/// A removal begins.
pub(super) fn begin(
    state: &mut State,
    cx: &mut Context<'_>,
    command: CommandId,
    (n, names): (usize, &[ReplicaName]),
) -> Result<(), ScaleError> {
    let ids = victims(state, cx, n, names)?;
    let is_ours = |id: &ReplicaId| state.server_of(*id).is_none();
    if ids.iter().any(is_ours) {
        engine_answers(state)?;
    }
    if ids.is_empty() {
        // An empty fleet is what it is already; no generation for that.
        cx.respond(command, Ok(Done::Removed(Vec::new())));
        return Ok(());
    }
    // Those that were named are reported by the name that was given.
    let others = ids[names.len()..].iter().filter_map(|&id| state.desired.replica(id));
    let names = names.iter().chain(others.map(|replica| &replica.name)).cloned().collect();
    let stage = RemoveStage::Accepted;
    state.operation = Some(Operation::Removing { command, ids, names, stage });
    Ok(())
}

/// Which replicas would leave: the named ones, then those not in service, then by the rule. Refused
/// as a whole if fewer than `replicas_min` would stay.
pub(super) fn victims(
    state: &State,
    cx: &Context<'_>,
    n: usize,
    names: &[ReplicaName],
) -> Result<Vec<ReplicaId>, ScaleError> {
    if state.keeper == Keeper::Others && names.len() < n {
        return Err(ScaleError::Static);
    }
    let mut victims: Vec<ReplicaId> = Vec::new();
    for name in names {
        let id = replica_named(state, name)?;
        if victims.contains(&id) {
            return Err(ScaleError::Duplicate(name.clone()));
        }
        victims.push(id);
    }
    // Drawn anew for each generation, so that a dry run draws the same.
    let seed = cx.settings.seed.rotate_left(16) ^ state.desired.generation().0;
    let chosen = victim::choose(
        cx.settings.victim,
        &state.desired,
        n,
        victims,
        |id| state.admitted(id).is_some(),
        &state.in_flight,
        &mut StdRng::seed_from_u64(seed),
    );
    let (leave, have) = (chosen.len(), state.desired.replicas().len());
    let least = state.limits.replicas_min;
    if leave > 0 && have.saturating_sub(leave) < least {
        return Err(ScaleError::TooFew { leave, have, least });
    }
    Ok(chosen)
}
