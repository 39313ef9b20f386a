//! A retry of what was given up or waits.

use crate::fleet::{
    command::{CommandResult, Done},
    ids::Moment,
    notes::Note,
    state::State,
    supervisor::context::Context,
};

/// What a retry would try again.
pub(super) fn preview(state: &State, now: Moment) -> Done {
    let roll = state.is_roll_stopped();
    let waiting = state.backoffs.values().filter(|b| b.not_before() > now).count();
    Done::Retried { roll, waiting }
}

/// Tries again at once what was given up or waits.
pub(super) fn retry(state: &mut State, cx: &mut Context<'_>) -> CommandResult {
    let waits = preview(state, cx.now);
    if state.is_roll_stopped() {
        state.make_from(state.desired.revision().cloned(), None);
        cx.note(Note::RollRetried);
    }
    state.roll.start_over();
    state.backoffs.clear();
    Ok(waits)
}
