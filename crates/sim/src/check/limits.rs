//! Limits: effects under way, living instances that are replaced, and failed rolls.

use ringmaster_core::fleet::{
    ids::{InstanceId, Moment},
    limits::OnUnhealthy,
    message::{Action, StartRequest, Turn},
    notes::{Note, StartCause},
    observed::{Instance, Phase, StopProgress, of_replica},
    state::{Keeper, Reaping, State},
};

use super::{Broken, ensure};

/// Registered servers are neither started nor stopped.
pub(super) fn what_others_keep_is_left_alone(state: &State, turn: &Turn) -> Broken {
    let touches = |action: &&Action| {
        matches!(action, Action::Start(_) | Action::Stop { .. } | Action::Reap { .. })
    };
    let touched = turn.actions.iter().find(touches);
    ensure(state.keeper == Keeper::Ringmaster || touched.is_none(), || {
        format!("kept by others: {touched:?}")
    })?;
    for action in &turn.actions {
        let (Action::Start(StartRequest { instance, .. }) | Action::Stop { instance, .. }) = action
        else {
            continue;
        };
        ensure(state.server_of(instance.replica).is_none(), || {
            format!("a registered server is touched: {action:?}")
        })?;
    }
    Ok(())
}

/// Starts and stops that are under way stay within their limits.
pub(super) fn effects_are_bounded(state: &State) -> Broken {
    let ours = || state.instances.values().filter(|i| i.keeper == Keeper::Ringmaster);
    let phases = || ours().map(|instance| &instance.phase);
    let starts = phases().filter(|phase| matches!(phase, Phase::Starting { .. })).count();
    ensure(starts <= state.limits.starts_max, || format!("{starts} starts at once"))?;
    let is_under_way = |phase: &&Phase| {
        matches!(phase, Phase::Stopping { progress: StopProgress::Requested { .. }, .. })
    };
    let reaps =
        state.reaping.values().filter(|reaping| matches!(reaping, Reaping::Requested { .. }));
    let stops = phases().filter(is_under_way).count() + reaps.count();
    ensure(stops <= state.limits.stops_max, || format!("{stops} stops at once"))
}

/// Only a few living instances are replaced at a time, and none while most have just begun to fail.
pub(super) fn living_are_replaced_carefully(state: &State, turn: &Turn, now: Moment) -> Broken {
    let replaces = |note: &Note| matches!(note, Note::Starting { cause: StartCause::Failing, .. });
    let begun = turn.notes.iter().filter(|note| replaces(note)).count();
    if begun == 0 {
        return Ok(());
    }
    let (mut living, mut failing, mut replaced) = (0, 0, 0);
    let ours = state.desired.replicas().iter();
    for replica in ours.filter(|replica| replica.server.is_none() && !replica.is_drained) {
        let all: Vec<(InstanceId, &Instance)> =
            of_replica(&state.instances, replica.id()).collect();
        let has = |test: fn(&Instance) -> bool| all.iter().any(|(_, instance)| test(instance));
        let lives = has(|i| matches!(i.phase, Phase::Admitted { .. } | Phase::Ejected { .. }));
        let fails = lives && !has(Instance::is_passing);
        living += usize::from(lives);
        failing += usize::from(fails);
        replaced += usize::from(fails && has(Instance::is_coming));
    }
    ensure(state.limits.on_unhealthy == OnUnhealthy::Replace, || {
        "a living instance is replaced though it must not be".to_owned()
    })?;
    let is_panic = living >= 4 && failing * 2 > living;
    if !is_panic {
        // Replacements that began before a death or a removal may exceed the limit now.
        let ours = state.desired.replicas().iter();
        let ours = ours.filter(|replica| replica.server.is_none() && !replica.is_drained);
        let most = state.limits.replace_max.of(ours.count()).max(begun);
        return ensure(replaced <= most, || format!("{replaced} living ones replaced at once"));
    }
    let held = state.panic_since.is_some_and(|since| now >= since + state.limits.panic_hold);
    ensure(held && replaced == 1, || {
        format!("{replaced} living ones replaced while {failing} of {living} fail")
    })
}

/// A rejected revision is not started again, and healing starts a revision that is known to work.
pub(super) fn a_stopped_roll_stays_stopped(state: &State, turn: &Turn) -> Broken {
    for note in &turn.notes {
        let Note::Starting { instance, cause, .. } = note else { continue };
        let request = turn.actions.iter().find_map(|action| match action {
            Action::Start(request) if request.instance == *instance => Some(request),
            _ => None,
        });
        let Some(request) = request else { continue };
        if *cause == StartCause::Outdated {
            ensure(!state.is_roll_stopped(), || format!("{instance} rolls on"))?;
        } else if let Some(revision) = state.desired.revision()
            && (!state.desired.replicas().is_empty() || state.is_roll_stopped())
        {
            ensure(request.image == revision.image, || {
                format!("{instance} is started from {:?}, which is on trial", request.image)
            })?;
        }
    }
    Ok(())
}
