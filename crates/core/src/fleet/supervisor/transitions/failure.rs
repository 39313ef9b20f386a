//! What an instance's failure counts against: its replica's next start, the running addition, the
//! roll. And how the running command is given up.

use std::{sync::Arc, time::Duration};

use crate::fleet::{
    command::ScaleError,
    ids::InstanceId,
    message::StartError,
    notes::Note,
    observed::Instance,
    operation::{AddStage, Operation},
    state::State,
    supervisor::context::Context,
};

/// How long a given-up addition waits for what it had started to go.
const ROLL_BACK_DEADLINE: Duration = Duration::from_secs(15);

/// Counts an unexpected end against a desired replica.
pub(crate) fn back_off(state: &mut State, cx: &mut Context<'_>, id: InstanceId, before: &Instance) {
    if !state.is_desired(id.replica) {
        return;
    }
    let jitter = cx.chance.jitter();
    let backoff = state.backoffs.entry(id.replica).or_default();
    backoff.record(cx.now, before.admitted_for(cx.now), &state.limits, jitter);
    let (failures, delay) = (backoff.failures(), backoff.not_before().since(cx.now));
    if !delay.is_zero() {
        cx.note(Note::BackedOff { replica: id.replica, failures, delay });
    }
}

/// Reports a start that came to nothing, with the time until the next.
pub(crate) fn note_failed_start(
    state: &State,
    cx: &mut Context<'_>,
    instance: InstanceId,
    failed: &Instance,
    error: Arc<str>,
) {
    let backoff = state.backoffs.get(&instance.replica);
    let retry_in = backoff.map_or(cx.now, |backoff| backoff.not_before()).since(cx.now);
    cx.note(Note::StartFailed { instance, name: failed.name.clone(), error, retry_in });
}

/// An instance has ended, or does not pass: if a roll has brought it, and it has not served for
/// longer than newcomers are watched, the roll may be at fault.
pub(crate) fn count_against_roll(
    state: &mut State,
    cx: &mut Context<'_>,
    instance: &Instance,
    why: &Arc<str>,
) {
    let watched = state.limits.bake.max(state.limits.stable_after);
    let has_proved = instance.admitted_for(cx.now).is_some_and(|served| served > watched);
    if !state.is_on_trial(instance) || state.is_roll_stopped() || has_proved {
        return;
    }
    let has_failed = state.roll.fail(why);
    let (name, failures, error) = (instance.name.clone(), state.roll.failures, Arc::clone(why));
    cx.note(Note::RollFailed { name, failures, error });
    if has_failed {
        state.reject_wanted();
        cx.note(Note::RollStopped { error: Arc::clone(why) });
    }
}

/// A newcomer cannot join: the whole addition is given up.
pub(crate) fn fail_newcomer(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    error: Option<&StartError>,
    why: &str,
) {
    let Some(Operation::Adding { newcomers, named, stage, .. }) = &state.operation else {
        return;
    };
    let Some(index) = newcomers.iter().position(|newcomer| newcomer.id == id.replica) else {
        return;
    };
    // Once the state is being written the commit decides; the plan starts it anew after that.
    if !matches!(stage, AddStage::Warming { .. }) || newcomers[index].server.is_some() {
        return;
    }
    let name = newcomers[index].name.clone();
    let error = match error {
        Some(StartError::NameTaken(_)) if index < *named => ScaleError::Foreign(name),
        _ => ScaleError::StartFailed(format!("replica '{name}' could not be started: {why}")),
    };
    give_up_command(state, cx, error);
}

/// The running command has no effect: an addition is rolled back first, any other is over at once.
pub(crate) fn give_up_command(state: &mut State, cx: &mut Context<'_>, error: ScaleError) {
    match &mut state.operation {
        Some(Operation::Adding { stage, .. }) => {
            let deadline = cx.now + ROLL_BACK_DEADLINE;
            cx.note(Note::RolledBack { error: error.to_string() });
            *stage = AddStage::RollingBack { error, deadline };
        }
        Some(Operation::Removing { command, .. } | Operation::Changing { command, .. }) => {
            let command = *command;
            state.operation = None;
            cx.note(Note::RolledBack { error: error.to_string() });
            cx.respond(command, Err(error));
        }
        None => {}
    }
}
