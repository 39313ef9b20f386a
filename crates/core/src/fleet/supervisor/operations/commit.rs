//! Writes of the desired state, and what the running command does when its write has ended: one
//! write under way at a time, each with a deadline.
//!
//! A write that is overdue is taken as lost, as if it had failed: whether the file will hold its
//! state is not known, so the committed state is written again. The store takes care that a write
//! that still hangs cannot end after a newer one.

use std::sync::Arc;

use super::{change::leave_old_place, checks::no_room};
use crate::fleet::{
    command::{Done, ScaleError},
    desired::Desired,
    ids::{InstanceId, ReplicaName},
    message::{Action, WriteId},
    notes::{Cause, Note},
    operation::{AddStage, ChangeStage, Operation, RemoveStage},
    state::{State, WriteUnderWay},
    supervisor::{
        context::Context,
        transitions::{admit::admit, failure::give_up_command},
    },
};

/// What the running command leads to.
struct Outcome {
    cause: Cause,
    names: Vec<ReplicaName>,
    after: Desired,
}

/// Writes the committed state again: names or incarnations have changed.
pub(crate) fn write_again(state: &mut State, cx: &mut Context<'_>) {
    state.writing.stale = false;
    let desired = state.desired.clone();
    write(state, cx, desired);
}

fn write(state: &mut State, cx: &mut Context<'_>, desired: Desired) -> WriteId {
    let write = state.writing.begin(cx.now);
    cx.act(Action::Persist { write, desired });
    write
}

/// A write has ended.
pub(crate) fn persisted(
    state: &mut State,
    cx: &mut Context<'_>,
    write: WriteId,
    result: Result<(), Arc<str>>,
) {
    if state.writing.answered(write) {
        write_ended(state, cx, write, result);
    }
}

/// The write under way is overdue.
pub(crate) fn forget_write(state: &mut State, cx: &mut Context<'_>) {
    let Some(WriteUnderWay { write, .. }) = state.writing.under_way else { return };
    state.writing.hangs = true;
    let why = state.disk_hangs();
    write_ended(state, cx, write, Err(Arc::clone(&why)));
    // At once: should the disk answer again, what was given up must not be what it finds.
    state.writing.not_before = cx.now;
    // It has waited for a disk that does not answer; the next write would only wait longer.
    if let Some(
        Operation::Removing { stage: RemoveStage::Accepted, .. }
        | Operation::Changing { stage: ChangeStage::Accepted, .. },
    ) = state.operation
    {
        give_up_command(state, cx, ScaleError::NotPersisted(why.to_string()));
    }
}

fn write_ended(
    state: &mut State,
    cx: &mut Context<'_>,
    write: WriteId,
    result: Result<(), Arc<str>>,
) {
    let retry_at = cx.now + state.limits.persist_retry;
    state.writing.end(result.is_err().then_some(retry_at));
    if let Err(error) = &result {
        cx.note(Note::PersistFailed { error: Arc::clone(error) });
    }
    if state.operation.as_ref().and_then(Operation::write) != Some(write) {
        return;
    }
    match result {
        Ok(()) => take_effect(state, cx),
        Err(error) => give_up_command(state, cx, ScaleError::NotPersisted(error.to_string())),
    }
}

/// What the running command leads to, applied to the state as it is now.
fn outcome(state: &State) -> Option<Result<Outcome, ScaleError>> {
    let operation = state.operation.as_ref()?;
    let cause = operation.cause();
    Some(match operation {
        Operation::Adding { newcomers, .. } => {
            let names = newcomers.iter().map(|newcomer| newcomer.name.clone()).collect();
            let after = state.desired.with(newcomers).map_err(no_room);
            after.map(|after| Outcome { cause, names, after })
        }
        Operation::Removing { ids, names, .. } => {
            let after = state.desired.without(ids);
            Ok(Outcome { cause, names: names.clone(), after })
        }
        Operation::Changing { change, .. } => {
            let id = change.subject().1;
            let replica = id.and_then(|id| state.desired.replica(id));
            let names = replica.map(|replica| replica.name.clone()).into_iter().collect();
            let after = change.apply(&state.desired).map_err(no_room);
            after.map(|after| Outcome { cause, names, after })
        }
    })
}

/// Writes the state that the running command leads to.
pub(crate) fn commit(state: &mut State, cx: &mut Context<'_>) {
    let Some(Ok(Outcome { after, .. })) = outcome(state) else { return };
    let write = write(state, cx, after);
    match &mut state.operation {
        Some(Operation::Adding { stage, .. }) => *stage = AddStage::Writing(write),
        Some(Operation::Removing { stage, .. }) => *stage = RemoveStage::Writing(write),
        Some(Operation::Changing { stage, .. }) => *stage = ChangeStage::Writing(write),
        None => {}
    }
}

/// The one step that moves keys.
fn take_effect(state: &mut State, cx: &mut Context<'_>) {
    let Some(Ok(Outcome { cause, names, after })) = outcome(state) else { return };
    let change = Box::new(state.desired.change_to(&after));
    let was_empty = state.desired.replicas().is_empty();
    let before = std::mem::replace(&mut state.desired, after);
    cx.note(Note::Committed { cause, names: names.clone(), change: change.clone() });
    match &mut state.operation {
        Some(Operation::Removing { ids, stage, .. }) => {
            let deadline = cx.now + state.limits.removal_deadline(ids.len());
            *stage = RemoveStage::Leaving { deadline };
        }
        Some(Operation::Adding { command, newcomers, .. }) => {
            let (command, newcomers) = (*command, std::mem::take(newcomers));
            state.operation = None;
            let needed = state.limits.probe_passes;
            for newcomer in newcomers {
                let id = InstanceId { replica: newcomer.id, incarnation: newcomer.incarnation };
                if was_empty {
                    state.establish_like(id);
                }
                // A newcomer that fails since the write began is supervised like any other.
                if state.instances.get(&id).is_some_and(|i| i.is_ready(needed)) {
                    admit(state, cx, id);
                }
            }
            cx.respond(command, Ok(Done::Added(names)));
        }
        Some(Operation::Changing { command, change: kind, .. }) => {
            let (command, id) = (*command, kind.subject().1);
            state.operation = None;
            if let Some(id) = id {
                leave_old_place(state, cx, &before, id);
            }
            cx.respond(command, Ok(Done::Changed(change)));
        }
        None => {}
    }
}
