//! Starts: of the next incarnation of a replica, or of a newcomer.

use std::sync::Arc;

use crate::fleet::{
    endings::LastWords,
    ids::{ImageId, InstanceId, ReplicaId},
    message::{StartError, Started},
    notes::{Note, StartCause},
    observed::{Exit, Phase, of_replica},
    operation::Operation,
    state::State,
    supervisor::{
        context::Context,
        transitions::{
            address::evict_holders,
            begin,
            drain::release,
            end::died,
            failure::{self, back_off, count_against_roll, note_failed_start},
            stray::reap,
        },
    },
    values::StopManner,
};

/// Starts what the plan asks for.
pub(crate) fn next(state: &mut State, cx: &mut Context<'_>, replica: ReplicaId, cause: StartCause) {
    if cause == StartCause::Addition {
        return newcomer(state, cx, replica);
    }
    let Some(known) = state.desired.replica(replica) else { return };
    if known.server.is_some() {
        return begin::begin_server(state, cx, replica);
    }
    let (member, committed_name) = (known.member.clone(), known.name.clone());
    let latest = state.incarnations.get(&replica).copied();
    if cause == StartCause::Failing {
        count_failing(state, cx, replica);
    }
    // A replica of which nothing was ever seen in this run bears the name that it was given.
    let name = match latest {
        None if !state.foreign_names.contains(&committed_name) => committed_name,
        _ => cx.chance.name(state, &[]),
    };
    let id = InstanceId { replica, incarnation: state.next_incarnation(replica) };
    begin::start(state, cx, id, name, (&member, cause));
}

/// Counts the failure of the instance that is replaced: once, however many starts of a successor
/// fail.
fn count_failing(state: &mut State, cx: &mut Context<'_>, replica: ReplicaId) {
    let failing = of_replica(&state.instances, replica)
        .rfind(|(_, instance)| !instance.is_leaving() && !instance.is_passing())
        .map(|(id, instance)| (id, instance.clone()));
    let Some((id, instance)) = failing else { return };
    let latest = state.incarnations.get(&replica).copied();
    if latest.is_none_or(|latest| latest == id.incarnation) {
        back_off(state, cx, id, &instance);
        let why = instance.last_probe.as_deref().unwrap_or("it failed for too long");
        state.keep_error(replica, why, cx.now);
        count_against_roll(state, cx, &instance, &why.into());
    }
}

/// Starts a newcomer of the running addition, with the place on the ring that it will have.
fn newcomer(state: &mut State, cx: &mut Context<'_>, replica: ReplicaId) {
    let Some(Operation::Adding { newcomers, places, .. }) = &state.operation else { return };
    let mut joining = newcomers.iter().zip(places);
    let Some((newcomer, member)) = joining.find(|(newcomer, _)| newcomer.id == replica) else {
        return;
    };
    if newcomer.server.is_some() {
        return begin::begin_server(state, cx, replica);
    }
    let id = InstanceId { replica, incarnation: newcomer.incarnation };
    let (name, member) = (newcomer.name.clone(), member.clone());
    begin::start(state, cx, id, name, (&member, StartCause::Addition));
}

/// A start has ended.
pub(crate) fn ended(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    result: Result<Started, StartError>,
) {
    let phase = state.instances.get(&id).map(|instance| &instance.phase);
    let is_current = matches!(phase, Some(Phase::Starting { .. }));
    match result {
        Ok(result) if is_current => started(state, cx, id, result),
        // It is not waited for any more.
        Ok(started) => reap(state, cx, started.handle),
        Err(error) => {
            if matches!(error, StartError::Unclear(_)) {
                state.list_soon(cx.now);
            }
            if is_current {
                failed(state, cx, id, &error);
            }
        }
    }
}

fn started(state: &mut State, cx: &mut Context<'_>, id: InstanceId, started: Started) {
    evict_holders(state, cx, started.address, id);
    let Some(instance) = state.instances.get_mut(&id) else { return };
    let ended = match &mut instance.phase {
        Phase::Starting { ended, .. } => ended.take(),
        _ => None,
    };
    // Another one of the same labels may have ended: what an earlier attempt left.
    let ended = ended.filter(|(handle, _)| *handle == started.handle);
    instance.handle = Some(started.handle);
    instance.known_at = cx.now;
    instance.warm(started.address, cx.now);
    state.runs(id, started.revision);
    if let Some((_, Exit(exit_code))) = ended {
        died(state, cx, id, exit_code);
    }
}

fn failed(state: &mut State, cx: &mut Context<'_>, id: InstanceId, error: &StartError) {
    let Some(instance) = state.remove(id, cx.now) else { return };
    if let StartError::Ended { last_words, .. } = error {
        state.keep_ending(id, &instance.name, LastWords::clone(last_words), cx.now);
    }
    let why: Arc<str> = error.to_string().into();
    state.keep_error(id.replica, &why, cx.now);
    failure::fail_newcomer(state, cx, id, Some(error), &why);
    match error {
        StartError::NoImage(_) if lose_revision(state, cx, instance.image.as_ref()) => {}
        _ => back_off(state, cx, id, &instance),
    }
    // An engine that is away says nothing of what is to be started.
    if matches!(error, StartError::Refused(_) | StartError::NoImage(_)) {
        count_against_roll(state, cx, &instance, &why);
    }
    note_failed_start(state, cx, id, &instance, why);
}

/// The engine does not have the fleet's image any more: what is wanted takes its place. Whether that
/// is so.
fn lose_revision(state: &mut State, cx: &mut Context<'_>, started: Option<&ImageId>) -> bool {
    let (Some(wanted), Some(revision)) = (&state.wanted, state.desired.revision()) else {
        return false;
    };
    let is_lost = revision.image.as_ref() == started && wanted.image != revision.image;
    let Some(image) = revision.image.clone().filter(|_| is_lost) else { return false };
    state.make_from(Some(wanted.clone()), None);
    cx.note(Note::RevisionLost { image });
    true
}

/// An instance does not get ready: it is stopped, and that counts against its replica.
pub(crate) fn give_up(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    let Some(instance) = state.instances.get(&id).cloned() else { return };
    release(state, cx, id, StopManner::Graceful);
    back_off(state, cx, id, &instance);
    let error: Arc<str> = format!("it {}", state.not_passed(&instance)).into();
    state.keep_error(id.replica, &error, cx.now);
    note_failed_start(state, cx, id, &instance, Arc::clone(&error));
    count_against_roll(state, cx, &instance, &error);
}

/// The result of a start is lost: a list shows what came of it.
pub(crate) fn forget(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    let Some(instance) = state.remove(id, cx.now) else { return };
    state.list_soon(cx.now);
    back_off(state, cx, id, &instance);
    let why = "the engine did not say whether it started";
    state.keep_error(id.replica, why, cx.now);
    failure::fail_newcomer(state, cx, id, None, why);
}
