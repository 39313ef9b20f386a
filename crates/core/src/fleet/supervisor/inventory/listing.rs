//! Lists of all instances: each says what there was when it was asked for.

use std::sync::Arc;

use super::{boot::boot, reconcile::reconcile, revisions};
use crate::fleet::{
    ids::Moment,
    message::{Action, EngineError, Listing},
    notes::Note,
    state::{Boot, Engine, State},
    supervisor::context::Context,
};

/// Asks for a list.
pub(crate) fn request(state: &mut State, cx: &mut Context<'_>) {
    state.listing.begin(cx.now, state.limits.list_interval);
    cx.act(Action::List { requested_at: cx.now });
}

/// A list has come.
pub(crate) fn listed(
    state: &mut State,
    cx: &mut Context<'_>,
    requested_at: Moment,
    result: Result<Listing, EngineError>,
) {
    let found_nothing = result.as_ref().is_ok_and(|listing| listing.found.is_empty());
    if let Some(shutdown) = state.shutdown.as_mut().filter(|_| found_nothing) {
        shutdown.found_nothing(requested_at);
    }
    if !state.listing.end(requested_at) {
        return;
    }
    match result {
        Ok(listing) => {
            engine_is(state, cx, Engine::Up);
            take(state, cx, &listing, requested_at);
        }
        Err(error) => {
            state.listing.next = cx.now + state.limits.list_retry;
            engine_is(state, cx, Engine::Away(error.to_string().into()));
        }
    }
}

fn take(state: &mut State, cx: &mut Context<'_>, listing: &Listing, requested_at: Moment) {
    state.foreign_names = listing.foreign_names.iter().cloned().collect();
    for identity in listing.found.iter().filter_map(|found| found.identity.as_ref()) {
        state.saw_identity(identity);
    }
    let is_first = state.boot == Boot::AwaitingList;
    match state.boot {
        Boot::AwaitingList => boot(state, cx, listing),
        Boot::Done => reconcile(state, cx, listing, requested_at),
    }
    revisions::take(state, cx, listing, is_first);
    state.forget_removed_replicas(requested_at);
}

fn engine_is(state: &mut State, cx: &mut Context<'_>, engine: Engine) {
    let before = state.set_engine(engine);
    match (before, &state.engine) {
        (Engine::Up, Engine::Away(error)) => {
            cx.note(Note::EngineAway { error: Arc::clone(error) });
        }
        (Engine::Away(_), Engine::Up) => cx.note(Note::EngineBack),
        _ => {}
    }
}
