//! Out of the table for good.

use crate::fleet::{
    ids::InstanceId, message::Action, notes::Note, state::State, supervisor::context::Context,
    values::Keeper, values::StopManner,
};

/// Out of the table; its open requests may end.
pub(crate) fn drain(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    let until = cx.now + state.limits.drain;
    let Some(instance) = state.instances.get_mut(&id) else { return };
    instance.drain(until);
    cx.note(Note::Draining { instance: id, name: instance.name.clone() });
    cx.act(Action::AwaitDrain { instance: id });
}

/// It is not needed any more, and not, or no longer, in the table: the driver is to stop it. What
/// others keep is only forgotten.
pub(crate) fn release(state: &mut State, cx: &mut Context<'_>, id: InstanceId, manner: StopManner) {
    let Some(instance) = state.instances.get_mut(&id) else { return };
    if instance.keeper == Keeper::Others {
        drop(state.remove(id, cx.now));
        return;
    }
    instance.stop(manner, cx.now);
    cx.note(Note::Stopping { instance: id, name: instance.name.clone() });
}
