//! The end of a roll.

use crate::fleet::{notes::Note, state::State, supervisor::context::Context};

/// All replicas run from what is wanted: that is the fleet's revision from now on.
pub(crate) fn complete(state: &mut State, cx: &mut Context<'_>) {
    state.make_from(state.wanted.clone(), None);
    state.roll.start_over();
    cx.note(Note::RollCompleted);
}
