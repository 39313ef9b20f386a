//! Lookups of hosts.

use std::{net::SocketAddr, sync::Arc};

use super::addresses::wins_address;
use crate::fleet::{
    ids::InstanceId,
    message::Action,
    notes::Note,
    observed::{EjectReason, Lookup, Phase},
    state::State,
    supervisor::{context::Context, transitions::address::relocate},
    values::Keeper,
};

/// Looks up where a server is. A host that is an address needs no lookup.
pub(crate) fn resolve(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    let Some(server) = state.server_of(id.replica).cloned() else { return };
    if let Some(address) = server.address() {
        return resolved(state, cx, id, Ok(address));
    }
    if let Some(instance) = state.instances.get_mut(&id) {
        instance.lookup = Lookup::Waiting { requested_at: cx.now };
        cx.act(Action::Resolve { instance: id, host: server.host, port: server.port });
    }
}

/// Where a server is, or why that is not known. A place that was known stays known while its name
/// cannot be looked up: its checks decide about it.
pub(crate) fn resolved(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    result: Result<SocketAddr, Arc<str>>,
) {
    let next = cx.now + state.limits.lookup_interval;
    let Some(instance) = state.instances.get_mut(&id) else { return };
    if instance.keeper == Keeper::Ringmaster || instance.is_leaving() {
        return;
    }
    instance.lookup = Lookup::Idle { next };
    let known = instance.address();
    if matches!(instance.phase, Phase::Starting { .. }) {
        instance.phase = Phase::never_admitted(None, EjectReason::Unresolved, cx.now);
    }
    let address = match result {
        Ok(address) => address,
        Err(why) => {
            if known.is_none() {
                keep_problem(state, cx, id, why);
            }
            return;
        }
    };
    if known == Some(address) || !wins_address(state, cx, id, address) {
        return;
    }
    if known.is_some() {
        return relocate(state, cx, id, address);
    }
    if let Some(instance) = state.instances.get_mut(&id) {
        instance.warm(address, cx.now);
        if instance.last_probe.take().is_some() {
            cx.note(Note::Resolved { instance: id, name: instance.name.clone(), address });
        }
    }
}

/// Keeps what prevents an instance from being reached. Said when it begins, however often it is
/// found again.
fn keep_problem(state: &mut State, cx: &mut Context<'_>, id: InstanceId, why: Arc<str>) {
    let Some(instance) = state.instances.get_mut(&id) else { return };
    if instance.last_probe.replace(Arc::clone(&why)).is_none() {
        cx.note(Note::NotReady { instance: id, name: instance.name.clone(), why });
    }
}
