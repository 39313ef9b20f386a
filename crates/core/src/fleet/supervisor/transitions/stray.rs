//! What runs under our label and belongs to no instance.

use crate::fleet::{ids::Handle, notes::Note, state::State, supervisor::context::Context};

/// Has a stray removed; said once, however many lists show it meanwhile.
pub(crate) fn reap(state: &mut State, cx: &mut Context<'_>, handle: Handle) {
    if state.reap(&handle) {
        cx.note(Note::Reaped { handle });
    }
}
