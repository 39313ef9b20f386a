//! Into the table: for the first time, and again.

use crate::fleet::{
    ids::InstanceId,
    notes::Note,
    observed::{EjectReason, Phase, Probing},
    state::State,
    supervisor::context::Context,
};

/// A passing newcomer enters; it is its replica's committed instance from now on.
pub(crate) fn admit(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    let admitted = state.with_instance(id, |instance| {
        instance.admit(cx.now).map(|address| (instance.name.clone(), address))
    });
    let Some(Some((name, address))) = admitted else { return };
    state.watch_newcomer(id, cx.now);
    state.commit_instance(id, &name);
    cx.note(Note::Admitted { instance: id, name, address });
}

/// An ejected instance that passes enters again, unless its replica has another one there.
pub(crate) fn readmit(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    if state.admitted(id.replica).is_some() {
        return;
    }
    let Some(instance) = state.instances.get_mut(&id) else { return };
    if !instance.readmit(cx.now) {
        return;
    }
    let name = instance.name.clone();
    state.watch_newcomer(id, cx.now);
    cx.note(Note::Readmitted { instance: id, name });
}

/// An ejected instance that fails enters again, since no other passes.
pub(crate) fn readmit_failing(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    let Some(instance) = state.instances.get_mut(&id) else { return };
    if instance.readmit_failing(cx.now) {
        cx.note(Note::ReadmittedAsLast { instance: id, name: instance.name.clone() });
    }
}

/// An instance whose replica is no longer drained enters again if it passes, and is checked at once
/// if not.
pub(crate) fn undrain(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    let needed = state.limits.probe_passes;
    let Some(instance) = state.instances.get_mut(&id) else { return };
    let Phase::Ejected { reason, passes, since, .. } = &mut instance.phase else { return };
    // It was out on purpose: only from now on it may fail for too long.
    (*reason, *since) = (EjectReason::Unreachable, cx.now);
    if passes.reach(needed) {
        return readmit(state, cx, id);
    }
    if let Probing::Idle { next, .. } = &mut instance.probing {
        *next = cx.now;
    }
}
