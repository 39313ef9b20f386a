//! Replicas that are to be started.

use crate::fleet::{
    command::ScaleError,
    desired::Newcomer,
    ids::{ReplicaId, ReplicaName},
    state::State,
    supervisor::{
        context::Context,
        operations::checks::{has_room, is_free_name},
    },
    values::Keeper,
};

/// Which replicas would join: given names first, then drawn ones.
pub(crate) fn newcomers(
    state: &State,
    cx: &mut Context<'_>,
    (n, names): (usize, &[ReplicaName]),
    weight: u32,
) -> Result<Vec<Newcomer>, ScaleError> {
    if state.keeper == Keeper::Others {
        return Err(ScaleError::Static);
    }
    for name in names {
        if state.foreign_names.contains(name) {
            return Err(ScaleError::Foreign(name.clone()));
        }
        is_free_name(state, name)?;
        state.limits.names.check(name).map_err(ScaleError::BadName)?;
    }
    has_room(state, n)?;
    let mut names = names.to_vec();
    while names.len() < n {
        names.push(cx.chance.name(state, &names));
    }
    let newcomers = names.into_iter().zip(0u32..).map(|(name, index)| {
        let id = ReplicaId(state.next_id.0.saturating_add(index));
        let incarnation = state.next_incarnation(id);
        Newcomer { id, weight, name, incarnation, server: None }
    });
    Ok(newcomers.collect())
}
