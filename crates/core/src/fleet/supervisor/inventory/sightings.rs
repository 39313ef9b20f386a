//! What the engine reports by itself.

use crate::fleet::{
    ids::{Handle, InstanceId},
    message::{FailureKind, Sighting},
    notes::Note,
    observed::{EjectReason, Exit, Phase},
    state::State,
    supervisor::{
        context::Context,
        transitions::{
            address::disconnect,
            eject::eject,
            end::{died, vanished},
            suspect::suspect,
        },
    },
};

/// Takes in a report about an instance.
pub(crate) fn saw(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    handle: &Handle,
    sighting: &Sighting,
) {
    let Some(instance) = state.instances.get_mut(&id) else { return };
    if instance.handle.as_ref().is_some_and(|current| current != handle) {
        return;
    }
    if matches!(instance.phase, Phase::Starting { .. }) {
        return saw_while_starting(state, cx, id, handle, sighting);
    }
    // A list that was asked for before this knows less.
    instance.known_at = cx.now;
    match sighting {
        Sighting::Died { exit_code } => died(state, cx, id, *exit_code),
        Sighting::Removed => vanished(state, cx, id),
        Sighting::Paused => eject(state, cx, id, EjectReason::Paused),
        Sighting::Disconnected => {
            disconnect(state, cx, id);
            state.list_soon(cx.now);
        }
        Sighting::Unpaused => instance.unpause(cx.now),
        Sighting::OutOfMemory => {
            cx.note(Note::OutOfMemory { instance: id, name: instance.name.clone() });
        }
        Sighting::Unhealthy => {
            suspect(state, cx, id, FailureKind::ImageCheck);
        }
    }
}

/// Keeps the end of an instance whose start has not ended yet: the start's own result says whether
/// this container was it, or what an earlier attempt had left.
fn saw_while_starting(
    state: &mut State,
    cx: &Context<'_>,
    id: InstanceId,
    handle: &Handle,
    sighting: &Sighting,
) {
    let exit = match sighting {
        Sighting::Died { exit_code } => Exit(*exit_code),
        Sighting::Removed => Exit(None),
        _ => return,
    };
    if let Some(Phase::Starting { ended, .. }) =
        state.instances.get_mut(&id).map(|instance| &mut instance.phase)
        // The removal says less than the death that came before it.
        && ended.as_ref().is_none_or(|(earlier, _)| earlier != handle)
    {
        *ended = Some((handle.clone(), exit));
        state.list_soon(cx.now);
    }
}
