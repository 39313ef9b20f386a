//! Stops, and the end of draining.

use crate::fleet::{
    endings::LastWords,
    ids::InstanceId,
    message::{Action, EngineError},
    notes::Note,
    observed::{Phase, StopProgress},
    state::State,
    supervisor::context::Context,
    values::StopManner,
};

/// Its last request has ended: draining need not go on.
pub(crate) fn drained(state: &mut State, cx: &Context<'_>, id: InstanceId) {
    if let Some(Phase::Draining { until }) =
        state.instances.get_mut(&id).map(|instance| &mut instance.phase)
    {
        *until = cx.now;
    }
}

/// Asks the driver to stop an instance.
pub(crate) fn request_stop(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    manner: StopManner,
) {
    let lost_at = cx.now + state.limits.stop_deadline();
    let Some(instance) = state.instances.get_mut(&id) else { return };
    let Some(handle) = instance.handle.clone() else {
        // Only a start without a result has no handle, and such an instance is never stopped.
        state.remove(id, cx.now);
        return state.list_soon(cx.now);
    };
    if let Some(progress) = instance.stop_progress() {
        *progress = StopProgress::Requested { lost_at };
    }
    cx.act(Action::Stop { instance: id, handle, manner });
}

/// A stop has ended.
pub(crate) fn stopped(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    last_words: Option<LastWords>,
    result: Result<(), EngineError>,
) {
    if let Some(words) = last_words {
        keep_last_words(state, cx, id, words);
    }
    let retry_at = cx.now + state.limits.stop_retry;
    let Some(instance) = state.instances.get_mut(&id) else { return };
    let name = instance.name.clone();
    let Some(progress) = instance.stop_progress() else { return };
    match result {
        Ok(()) => {
            state.remove(id, cx.now);
            cx.note(Note::Stopped { instance: id, name });
        }
        Err(error) => {
            *progress = StopProgress::Due { manner: StopManner::Kill, not_before: retry_at };
            if matches!(error, EngineError::Away(_)) {
                state.list_soon(cx.now);
            }
            cx.note(Note::StopFailed { instance: id, name, error: error.to_string().into() });
        }
    }
}

/// Completes the ending that was kept when the death was seen. The engine may have reported the
/// removal already, so the instance itself is not asked for.
fn keep_last_words(state: &mut State, cx: &mut Context<'_>, id: InstanceId, words: LastWords) {
    let name = state.endings.of_instance(id).map(|ending| ending.name.clone());
    if let Some(name) = name {
        let ending = state.keep_ending(id, &name, words, cx.now);
        cx.note(Note::Ended { ending });
    }
}
