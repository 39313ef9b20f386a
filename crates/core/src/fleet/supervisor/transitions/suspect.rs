//! A request failed, or the image's own health check did.

use crate::fleet::{
    ids::InstanceId, message::FailureKind, notes::Note, state::State, supervisor::context::Context,
};

/// One heartbeat at once, within limits; whether anything followed.
pub(crate) fn suspect(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    kind: FailureKind,
) -> bool {
    let Some(instance) = state.instances.get_mut(&id) else { return false };
    let suspected = instance.suspect(kind, &state.limits, cx.now);
    if let Some(unnoted) = suspected.noted {
        cx.note(Note::Suspected { instance: id, name: instance.name.clone(), kind, unnoted });
    }
    suspected.probes || suspected.noted.is_some()
}
