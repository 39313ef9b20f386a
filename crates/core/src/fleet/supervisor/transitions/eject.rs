//! Out of the table, alive.

use super::failure;
use crate::fleet::{
    ids::InstanceId,
    notes::Note,
    observed::{Departure, EjectReason, Instance, Passes, Phase},
    state::State,
    supervisor::context::Context,
};

/// Takes a living instance out of the table, or keeps it from entering, for a reason that is no
/// heartbeat's.
pub(crate) fn eject(state: &mut State, cx: &mut Context<'_>, id: InstanceId, reason: EjectReason) {
    let Some(instance) = state.instances.get_mut(&id) else { return };
    match instance.eject(reason, cx.now) {
        Departure::Table => {
            cx.note(Note::Ejected { instance: id, name: instance.name.clone(), reason });
        }
        Departure::Warming => {
            failure::fail_newcomer(state, cx, id, None, &format!("it was {}", reason.name()));
        }
        Departure::Nothing => {}
    }
}

/// Takes an instance out of the table because its heartbeats fail.
pub(crate) fn eject_failing(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    let Some(instance) = state.instances.get_mut(&id) else { return };
    if let Some(reason) = instance.eject_failing(cx.now) {
        cx.note(Note::Ejected { instance: id, name: instance.name.clone(), reason });
    }
}

/// Out of the table because its replica is drained; its checks go on, so that it may come back at
/// once.
pub(crate) fn eject_drained(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    let needed = state.limits.probe_passes;
    let is_passing = state.instances.get(&id).is_some_and(Instance::is_passing);
    eject(state, cx, id, EjectReason::Drained);
    if let Some(Phase::Ejected { passes, .. }) =
        state.instances.get_mut(&id).map(|instance| &mut instance.phase)
    {
        *passes = Passes::InARow(if is_passing { needed } else { 0 });
    }
}
