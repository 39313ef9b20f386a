//! Too many fail at once: when that begins, and when it is over.

use crate::fleet::{ids::Moment, notes::Note, state::State, supervisor::context::Context};

/// Too many fail at once: no living one is replaced for a while.
pub(crate) fn begin(state: &mut State, cx: &mut Context<'_>, failing: usize, living: usize) {
    state.panic_since = Some(cx.now);
    cx.note(Note::PanicBegan { failing, living, hold: state.limits.panic_hold });
}

/// Since when no more than half of them fail; `None`: too many do again.
pub(crate) fn calm(state: &mut State, calm_since: Option<Moment>) {
    state.calm_since = calm_since;
}

/// Most have passed for a while.
pub(crate) fn end(state: &mut State, cx: &mut Context<'_>) {
    (state.panic_since, state.calm_since) = (None, None);
    cx.note(Note::PanicEnded);
}
