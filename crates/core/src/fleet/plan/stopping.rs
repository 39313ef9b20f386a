//! Which instances are to go, and how far that is.

use super::step::{Deadlines, Step, stopped_by};
use crate::fleet::{
    message::StopManner,
    observed::{EjectReason, Instance, Phase, StopProgress},
    state::{Engine, Reaping, State},
    values::Keeper,
};

/// Instances whose replica is neither desired nor about to join; all of them where the balancer ends
/// with its replicas.
pub(super) fn leftover_steps(state: &State, deadlines: &mut Deadlines, steps: &mut Vec<Step>) {
    for (id, instance) in &state.instances {
        let is_kept = state.is_desired(id.replica) || state.is_newcomer(id.replica);
        let is_others = instance.keeper == Keeper::Others;
        if is_kept && (is_others || !state.stops_replicas()) {
            continue;
        }
        match instance.phase {
            Phase::Admitted { .. } => steps.push(Step::Drain(*id)),
            Phase::Warming { .. } | Phase::Ejected { .. } => {
                steps.push(Step::Stop(*id, stop_manner(instance)));
            }
            // A lookup that is under way is of no use any more.
            Phase::Starting { .. } if is_others => {
                steps.push(Step::Stop(*id, StopManner::Graceful));
            }
            Phase::Starting { .. } | Phase::Draining { .. } | Phase::Stopping { .. } => {}
        }
    }
    for (id, instance) in &state.instances {
        if let Phase::Draining { until } = instance.phase
            && deadlines.is_due(until)
        {
            steps.push(Step::Stop(*id, StopManner::Graceful));
        }
    }
}

/// Stops that waited for the engine, and those that must be tried again; so many at a time, so that
/// slow ones keep an engine from nothing else.
pub(super) fn stopping_steps(state: &State, deadlines: &mut Deadlines, steps: &mut Vec<Step>) {
    if state.engine != Engine::Up {
        return;
    }
    let mut left = stops_left(state);
    for (id, instance) in &state.instances {
        let Phase::Stopping { progress, .. } = instance.phase else {
            continue;
        };
        match progress {
            StopProgress::Due { manner, not_before } => {
                if deadlines.is_due(not_before) && left > 0 {
                    left -= 1;
                    steps.push(Step::RequestStop(*id, manner));
                }
            }
            StopProgress::Requested { lost_at } => {
                if deadlines.is_due(lost_at) {
                    steps.push(Step::RequestStop(*id, StopManner::Kill));
                }
            }
        }
    }
}

/// Strays that are to be removed.
pub(super) fn reaping_steps(state: &State, deadlines: &mut Deadlines, steps: &mut Vec<Step>) {
    let requested = steps.iter().filter(|step| matches!(step, Step::RequestStop(..))).count();
    let mut left = stops_left(state).saturating_sub(requested);
    for (handle, reaping) in &state.reaping {
        match reaping {
            Reaping::Due => {
                if state.engine == Engine::Up && left > 0 {
                    left -= 1;
                    steps.push(Step::RequestReap(handle.clone()));
                }
            }
            Reaping::Requested { lost_at } => {
                if deadlines.is_due(*lost_at) {
                    steps.push(Step::ForgetReap(handle.clone()));
                }
            }
        }
    }
}

fn stops_left(state: &State) -> usize {
    let is_under_way = |instance: &&Instance| {
        matches!(instance.phase, Phase::Stopping { progress: StopProgress::Requested { .. }, .. })
    };
    let stops = state.instances.values().filter(is_under_way).count();
    let is_under_way = |reaping: &&Reaping| matches!(reaping, Reaping::Requested { .. });
    let reaps = state.reaping.values().filter(is_under_way).count();
    state.limits.stops_max.saturating_sub(stops + reaps)
}

/// A frozen process cannot obey a signal.
pub(super) fn stop_manner(instance: &Instance) -> StopManner {
    match instance.phase {
        Phase::Ejected { reason: EjectReason::Paused, .. } => StopManner::Kill,
        _ => StopManner::Graceful,
    }
}

/// Starts whose result is lost, and instances that do not get ready.
pub(super) fn overdue_steps(state: &State, deadlines: &mut Deadlines, steps: &mut Vec<Step>) {
    let stopped = stopped_by(steps);
    let ours = state.instances.iter().filter(|(_, i)| i.keeper == Keeper::Ringmaster);
    for (id, instance) in ours {
        match instance.phase {
            Phase::Starting { since, .. }
                if deadlines.is_due(since + state.limits.start_lost()) =>
            {
                steps.push(Step::ForgetStart(*id));
            }
            Phase::Warming { since, .. } => {
                let waits = instance.is_ready(state.limits.probe_passes);
                if state.is_desired(id.replica)
                    && !waits
                    && deadlines.is_due(since + state.limits.start_deadline)
                    && !stopped.contains(id)
                {
                    steps.push(Step::GiveUp(*id));
                }
            }
            _ => {}
        }
    }
}
