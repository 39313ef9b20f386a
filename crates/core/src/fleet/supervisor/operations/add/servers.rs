//! Servers that are to be registered.

use crate::fleet::{
    command::ScaleError,
    desired::Newcomer,
    ids::{Incarnation, ReplicaId},
    server::Registration,
    state::State,
    supervisor::operations::checks::{has_room, is_free_name, is_free_place},
};

/// Which replicas would join by a registration.
pub(crate) fn registered(
    state: &State,
    servers: &[Registration],
) -> Result<Vec<Newcomer>, ScaleError> {
    let mut newcomers: Vec<Newcomer> = Vec::new();
    for registration in servers {
        let Registration { name, weight, server } = registration;
        is_free_name(state, name)?;
        is_free_place(state, server, None)?;
        if *weight == 0 {
            return Err(ScaleError::NotAWeight);
        }
        for earlier in &newcomers {
            if earlier.name.is_same_host(name) {
                return Err(ScaleError::Duplicate(name.clone()));
            }
            if earlier.server.as_ref().is_some_and(|other| other.is_same_place(server)) {
                let (place, other) = (server.place(), earlier.name.clone());
                return Err(ScaleError::PlaceTaken { place, other });
            }
        }
        let index = u32::try_from(newcomers.len()).unwrap_or(u32::MAX);
        newcomers.push(Newcomer {
            id: ReplicaId(state.next_id.0.saturating_add(index)),
            weight: *weight,
            name: name.clone(),
            incarnation: Incarnation::FIRST,
            server: Some(server.clone()),
        });
    }
    has_room(state, newcomers.len())?;
    Ok(newcomers)
}
