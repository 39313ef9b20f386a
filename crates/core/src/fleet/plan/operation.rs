//! The running command, and the next one.

use super::{
    replicas::Budget,
    step::{Deadlines, Step},
};
use crate::fleet::{
    ids::ReplicaId,
    notes::StartCause,
    observed::{Instance, of_replica},
    operation::{AddStage, ChangeStage, Operation, RemoveStage},
    state::{Engine, State},
};

/// The running command, or the next one.
pub(super) fn operation_step(state: &State, deadlines: &mut Deadlines, steps: &mut Vec<Step>) {
    let Some(operation) = &state.operation else {
        if !state.queue.is_empty() && !state.writing.is_first {
            steps.push(Step::BeginCommand);
        }
        return;
    };
    let can_write = state.writing.under_way.is_none();
    match operation {
        Operation::Adding { newcomers, stage: AddStage::Warming { deadline }, .. } => {
            let is_over = deadlines.is_due(*deadline);
            let all_ready = newcomers.iter().all(|newcomer| {
                let mut instances = of_replica(&state.instances, newcomer.id).map(|(_, i)| i);
                match newcomer.server {
                    // It joins whether it is well or not: that is for others to mend.
                    Some(_) => is_over || instances.any(Instance::is_tested),
                    None => instances.any(|i| i.is_ready(state.limits.probe_passes)),
                }
            });
            if all_ready && can_write {
                steps.push(Step::CommitCommand);
            } else if is_over && !all_ready {
                steps.push(Step::FailCommand);
            }
        }
        Operation::Adding { newcomers, stage: AddStage::RollingBack { deadline, .. }, .. } => {
            let gone =
                newcomers.iter().all(|n| of_replica(&state.instances, n.id).next().is_none());
            if gone || deadlines.is_due(*deadline) {
                steps.push(Step::FinishCommand);
            }
        }
        Operation::Removing { stage: RemoveStage::Accepted, .. }
        | Operation::Changing { stage: ChangeStage::Accepted, .. } => {
            if can_write {
                steps.push(Step::CommitCommand);
            }
        }
        Operation::Removing { ids, stage: RemoveStage::Leaving { deadline }, .. } => {
            let gone = ids.iter().all(|&id| of_replica(&state.instances, id).next().is_none());
            if gone || deadlines.is_due(*deadline) {
                steps.push(Step::FinishCommand);
            }
        }
        Operation::Adding { stage: AddStage::Writing(_), .. }
        | Operation::Removing { stage: RemoveStage::Writing(_), .. }
        | Operation::Changing { stage: ChangeStage::Writing(_), .. } => {}
    }
}

/// Newcomers that have no instance yet: they are started as others get ready.
pub(super) fn newcomer_steps(state: &State, budget: &mut Budget, steps: &mut Vec<Step>) {
    let Some(Operation::Adding { newcomers, stage: AddStage::Warming { .. }, .. }) =
        &state.operation
    else {
        return;
    };
    // Where one newcomer has failed the whole addition is rolled back, so a newcomer without instance
    // in this stage was never started.
    let waits = |id: &ReplicaId| of_replica(&state.instances, *id).next().is_none();
    for newcomer in newcomers.iter().filter(|newcomer| waits(&newcomer.id)) {
        if newcomer.server.is_none() && (state.engine != Engine::Up || !budget.take_start()) {
            return;
        }
        steps.push(Step::Start(newcomer.id, StartCause::Addition));
    }
}
