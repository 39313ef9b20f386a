//! Which instance has an address. Engines give one to one instance at a time; where others keep the
//! replicas, two names may come to mean one address. Then the first in the order of the
//! configuration keeps it: the order decides, not the time, so the two never take turns.

use std::net::SocketAddr;

use crate::fleet::{
    ids::InstanceId,
    notes::Note,
    observed::{EjectReason, Instance, Phase},
    state::State,
    supervisor::{
        context::Context,
        transitions::{address::holders, eject::eject},
    },
    values::Keeper,
};

/// Settles which instance has an address that others gave to it: whether it is this instance's. A
/// holder that comes after it gives way.
pub(super) fn wins_address(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    address: SocketAddr,
) -> bool {
    let holders = holders(state, address, id);
    // An engine knows which container has an address; a name may be out of date.
    let is_ours = |holder: &InstanceId| {
        let holder = state.instances.get(holder);
        holder.is_some_and(|instance| instance.keeper == Keeper::Ringmaster)
    };
    if let Some(&first) = holders.iter().find(|holder| **holder < id || is_ours(holder)) {
        gives_way(state, cx, id, (first, address));
        return false;
    }
    for later in holders {
        gives_way(state, cx, later, (id, address));
    }
    true
}

fn gives_way(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    (to, address): (InstanceId, SocketAddr),
) {
    let by = state.instances.get(&to).map(|instance| instance.name.clone());
    let Some((by, instance)) = by.zip(state.instances.get(&id)) else { return };
    let name = instance.name.clone();
    let taken = EjectReason::AddressTaken;
    let is_known = matches!(instance.phase, Phase::Ejected { reason, .. } if reason == taken);
    eject(state, cx, id, taken);
    state.with_instance(id, Instance::forget_address);
    if !is_known {
        cx.note(Note::AddressTaken { instance: id, name, address, by });
    }
}
