//! An instance has ended by itself.

use super::failure;
use crate::fleet::{
    endings::LastWords, ids::InstanceId, notes::Note, observed::Instance, observed::Phase,
    state::State, supervisor::context::Context,
};

/// It does not run any more; what is left of it is removed.
pub(crate) fn died(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    exit_code: Option<i64>,
) {
    let Some(instance) = state.instances.get_mut(&id) else { return };
    let before = instance.clone();
    if instance.collect(cx.now) {
        ended(state, cx, id, &before, exit_code);
    }
}

/// Nothing is left of it.
pub(crate) fn vanished(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    let Some(before) = state.remove(id, cx.now) else { return };
    if matches!(before.phase, Phase::Stopping { .. }) {
        cx.note(Note::Stopped { instance: id, name: before.name });
    } else {
        ended(state, cx, id, &before, None);
    }
}

fn ended(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    before: &Instance,
    exit_code: Option<i64>,
) {
    let admitted = before.is_admitted();
    cx.note(Note::Died { instance: id, name: before.name.clone(), exit_code, admitted });
    let words = LastWords::of_exit(exit_code);
    state.keep_error(id.replica, &format!("it ended: {words}"), cx.now);
    state.keep_ending(id, &before.name, words, cx.now);
    if before.is_leaving() {
        return;
    }
    let how = match exit_code {
        Some(code) => format!("it exited with code {code} before it passed its heartbeat"),
        None => "it ended before it passed its heartbeat".to_owned(),
    };
    failure::fail_newcomer(state, cx, id, None, &how);
    failure::back_off(state, cx, id, before);
    let why = match exit_code {
        Some(code) => format!("it ended by itself with code {code}"),
        None => "it ended by itself".to_owned(),
    };
    failure::count_against_roll(state, cx, before, &why.into());
}
