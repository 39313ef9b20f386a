//! The removal of strays.

use crate::fleet::{
    ids::Handle,
    message::{Action, EngineError},
    notes::Note,
    state::{Reaping, State},
    supervisor::context::Context,
};

/// Asks the driver to remove a stray.
pub(crate) fn request_reap(state: &mut State, cx: &mut Context<'_>, handle: Handle) {
    let lost_at = cx.now + state.limits.stop_deadline();
    state.reaping.insert(handle.clone(), Reaping::Requested { lost_at });
    cx.act(Action::Reap { handle });
}

/// The removal of a stray is lost: the next list finds it again.
pub(crate) fn forget_reap(state: &mut State, handle: &Handle) {
    state.reaping.remove(handle);
}

/// The removal of a stray has ended.
pub(crate) fn reaped(
    state: &mut State,
    cx: &mut Context<'_>,
    handle: Handle,
    result: Result<(), EngineError>,
) {
    if let (Some(_), Err(error)) = (state.reaping.remove(&handle), result) {
        cx.note(Note::ReapFailed { handle, error: error.to_string().into() });
    }
}
