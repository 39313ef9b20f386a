//! The end of a command that had something to wait for, or waited for too long.

use crate::fleet::{
    command::{Done, ScaleError},
    observed::of_replica,
    operation::{AddStage, Operation},
    state::State,
    supervisor::{context::Context, transitions::failure::give_up_command},
};

/// Responds to the running command: what it waited for is gone, or it has waited long enough.
pub(crate) fn finish(state: &mut State, cx: &mut Context<'_>) {
    match state.operation.take() {
        Some(Operation::Adding { command, stage: AddStage::RollingBack { error, .. }, .. }) => {
            cx.respond(command, Err(error))
        }
        Some(Operation::Removing { command, ids, names, .. }) => {
            let left = ids.iter().find_map(|&id| of_replica(&state.instances, id).next());
            let answer = match left {
                None => Ok(Done::Removed(names)),
                Some((_, instance)) => Err(ScaleError::Unfinished(format!(
                    "out of the ring for good, but '{}' could not be removed yet; it is tried again",
                    instance.name
                ))),
            };
            cx.respond(command, answer);
        }
        other => debug_assert!(other.is_none(), "only these stages are finished: {other:?}"),
    }
}

/// The addition has missed its deadline.
pub(crate) fn fail_overdue(state: &mut State, cx: &mut Context<'_>) {
    let Some(Operation::Adding { newcomers, .. }) = &state.operation else { return };
    let needed = state.limits.probe_passes;
    let late = newcomers.iter().find(|newcomer| {
        !of_replica(&state.instances, newcomer.id).any(|(_, i)| i.is_ready(needed))
    });
    let Some(late) = late else { return };
    let why = match of_replica(&state.instances, late.id).next_back() {
        Some((_, instance)) => state.not_passed(instance),
        None => "could not be started in time".to_owned(),
    };
    let error = ScaleError::StartFailed(format!("replica '{}' {why}", late.name));
    give_up_command(state, cx, error);
}
