//! The end of the balancer's run. Nothing is begun any more; where the replicas end with it, they
//! drain and stop, those included whose start is still under way, until a list finds nothing.

use super::{context::Context, transitions::failure::give_up_command};
use crate::fleet::{
    command::ScaleError,
    observed::Instance,
    operation::{AddStage, ChangeStage, Operation, RemoveStage},
    state::{Engine, Shutdown, State},
    values::Keeper,
};

/// The balancer is to end, or its replicas are to end with it, too.
pub(super) fn begin(state: &mut State, cx: &mut Context<'_>, stop_replicas: bool) {
    let stop_replicas = stop_replicas && state.keeper == Keeper::Ringmaster;
    let begun = state.shutdown.get_or_insert(Shutdown::new(stop_replicas, cx.now));
    if stop_replicas {
        begun.extend_to_replicas(cx.now);
    }
    for (id, _) in std::mem::take(&mut state.queue) {
        cx.respond(id, Err(ScaleError::ShuttingDown));
    }
    // What is being written may be on the disk already: it ends as it would have.
    if let Some(
        Operation::Adding { stage: AddStage::Warming { .. }, .. }
        | Operation::Removing { stage: RemoveStage::Accepted, .. }
        | Operation::Changing { stage: ChangeStage::Accepted, .. },
    ) = &state.operation
    {
        give_up_command(state, cx, ScaleError::ShuttingDown);
    }
}

/// After each event: how far it is.
pub(super) fn follow(state: &mut State, cx: &Context<'_>) {
    let is_away = state.engine != Engine::Up;
    let kept = |instance: &Instance| instance.keeper == Keeper::Others;
    let is_empty = state.instances.values().all(kept);
    let Some(shutdown) = &mut state.shutdown else { return };
    if shutdown.follow(is_away, is_empty, cx.now) {
        // Strays, and what came of starts that were reported as failed, are seen by list only.
        state.list_soon(cx.now);
    }
}
