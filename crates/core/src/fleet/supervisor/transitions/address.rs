//! An instance listens somewhere else, or cannot be reached any more.

use std::net::SocketAddr;

use super::eject::eject;
use crate::fleet::{
    ids::InstanceId, observed::EjectReason, observed::Instance, state::State,
    supervisor::context::Context,
};

/// All others at an address.
pub(crate) fn holders(state: &State, address: SocketAddr, but: InstanceId) -> Vec<InstanceId> {
    let holds = state.instances.iter().filter(|(_, i)| i.address() == Some(address));
    holds.map(|(id, _)| *id).filter(|id| *id != but).collect()
}

/// Engines give a dead container's address to the next one at once: an instance that held it before
/// is gone.
pub(crate) fn evict_holders(
    state: &mut State,
    cx: &mut Context<'_>,
    address: SocketAddr,
    newcomer: InstanceId,
) {
    for id in holders(state, address, newcomer) {
        eject(state, cx, id, EjectReason::AddressReused);
        state.with_instance(id, Instance::forget_address);
        state.list_soon(cx.now);
    }
}

/// It cannot be reached any more: what answers at its old address is something else.
pub(crate) fn disconnect(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    eject(state, cx, id, EjectReason::Disconnected);
    state.with_instance(id, Instance::forget_address);
}

/// It listens somewhere else now, and must pass there first.
pub(crate) fn relocate(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    address: SocketAddr,
) {
    evict_holders(state, cx, address, id);
    disconnect(state, cx, id);
    // The result of a heartbeat to where it was must not be taken for one from where it is.
    let settled = cx.now + state.limits.probe_timeout;
    state.with_instance(id, |instance| instance.relocate(address, settled, cx.now));
}
