//! Later lists: what they say of known instances, and of those that should not be there.

use std::collections::BTreeSet;

use crate::fleet::{
    ids::{InstanceId, Moment},
    message::{Found, FoundState, Listing},
    observed::{EjectReason, Instance, Phase},
    state::State,
    supervisor::{
        context::Context,
        transitions::{
            address::{disconnect, relocate},
            eject::eject,
            end::{died, vanished},
            stray::reap,
        },
    },
};

/// Compares what was found with what is known.
pub(super) fn reconcile(
    state: &mut State,
    cx: &mut Context<'_>,
    listing: &Listing,
    requested_at: Moment,
) {
    let mut seen = BTreeSet::new();
    for found in &listing.found {
        match known(state, found) {
            Some(id) => {
                seen.insert(id);
                saw(state, cx, (id, found.state), requested_at);
            }
            None if has_departed(state, found, requested_at) => {}
            None => reap(state, cx, found.handle.clone()),
        }
    }
    // A list says nothing about a start under way: its container may not exist yet.
    let listable = state
        .instances
        .iter()
        .filter(|(_, instance)| instance.handle.is_some() && instance.known_at < requested_at);
    let missing: Vec<InstanceId> =
        listable.filter(|(id, _)| !seen.contains(id)).map(|(id, _)| *id).collect();
    for id in missing {
        vanished(state, cx, id);
    }
}

/// The instance that something found is.
fn known(state: &State, found: &Found) -> Option<InstanceId> {
    let id = found.identity.as_ref()?.instance;
    match &state.instances.get(&id)?.handle {
        Some(handle) => (handle == &found.handle).then_some(id),
        // Its start is under way and will say whether this is it.
        None => Some(id),
    }
}

/// Whether a list holds the rest of an instance that has gone since it was asked for. If something is
/// left nevertheless, the next list will say so.
fn has_departed(state: &State, found: &Found, requested_at: Moment) -> bool {
    let identity = found.identity.as_ref();
    let gone = identity.and_then(|identity| state.departed.get(&identity.instance));
    gone.is_some_and(|gone| *gone >= requested_at)
}

/// What the list says of an instance that is known. A list that was asked for before the instance
/// was known says nothing about it.
fn saw(
    state: &mut State,
    cx: &mut Context<'_>,
    (id, found): (InstanceId, FoundState),
    requested_at: Moment,
) {
    let Some(instance) = state.instances.get(&id) else { return };
    let is_starting = matches!(instance.phase, Phase::Starting { .. });
    if is_starting || instance.is_leaving() || instance.known_at >= requested_at {
        return;
    }
    let is_paused = matches!(instance.phase, Phase::Ejected { reason: EjectReason::Paused, .. });
    match found {
        FoundState::Exited { exit_code } => died(state, cx, id, exit_code),
        FoundState::Created => {}
        FoundState::Paused(_) => {
            if !is_paused {
                eject(state, cx, id, EjectReason::Paused);
            }
        }
        FoundState::Running(None) => disconnect(state, cx, id),
        FoundState::Running(Some(address)) => {
            state.with_instance(id, |instance| instance.unpause(cx.now));
            let is_elsewhere =
                state.instances.get(&id).and_then(Instance::address) != Some(address);
            // An instance that got this address after the list was asked for is right about it.
            let mut holders = state.instances.values();
            let is_old =
                holders.any(|i| i.address() == Some(address) && i.known_at >= requested_at);
            if is_elsewhere && !is_old {
                relocate(state, cx, id, address);
            }
        }
    }
}
