//! What to do next: a pure function of the state. It leaves no meaningful choice to the
//! shell that carries it out, and planning again after that gives nothing.
//!
//! Each rule first classifies (member, newcomer, leftover; admitted, ready, coming), then decides.
//! Deadlines are asked of `Deadlines`, which remembers the earliest one that is not due: that is when
//! the core wants to be woken.

mod operation;
mod panic;
mod replicas;
mod servers;
mod standing;
mod step;
mod stopping;

use std::time::Duration;

pub use self::step::{Plan, Step, earlier};
use self::{replicas::Budget, step::Deadlines};
use super::{
    ids::Moment,
    observed::{EjectReason, Phase, Probing},
    state::{Boot, Engine, State},
};

/// What the state asks for at a moment.
pub fn plan(state: &State, now: Moment) -> Plan {
    let mut deadlines = Deadlines::at(now);
    let mut steps = Vec::new();
    list_step(state, &mut deadlines, &mut steps);
    // A command does not wait for an engine that may never come.
    let is_hopeless = state.boot == Boot::AwaitingList && state.engine != Engine::Up;
    if is_hopeless && !state.queue.is_empty() {
        steps.push(Step::BeginCommand);
    }
    if state.boot != Boot::Done {
        return Plan { steps, settled_until: deadlines.wake_at, probe_at: None };
    }
    let mut budget = Budget::of(state);
    operation::operation_step(state, &mut deadlines, &mut steps);
    if !state.stops_replicas() {
        let replacements = panic::replacements(state, &mut deadlines, &mut steps);
        replicas::steps(state, replacements, &mut budget, &mut deadlines, &mut steps);
        servers::drain_steps(state, &mut steps);
    }
    operation::newcomer_steps(state, &mut budget, &mut steps);
    stopping::leftover_steps(state, &mut deadlines, &mut steps);
    stopping::stopping_steps(state, &mut deadlines, &mut steps);
    stopping::reaping_steps(state, &mut deadlines, &mut steps);
    stopping::overdue_steps(state, &mut deadlines, &mut steps);
    standing::steps(state, &mut steps);
    servers::lookup_steps(state, &mut deadlines, &mut steps);
    persist_step(state, &mut deadlines, &mut steps);
    let Plan { steps: probes, probe_at, .. } = probes(state, now);
    steps.extend(probes);
    Plan { steps, settled_until: deadlines.wake_at, probe_at }
}

/// Only the heartbeats of the plan: all that time alone can ask for as long as the rest is settled.
pub fn probes(state: &State, now: Moment) -> Plan {
    let mut deadlines = Deadlines::at(now);
    let mut steps = Vec::new();
    if state.boot == Boot::Done {
        probe_steps(state, &mut deadlines, &mut steps);
    }
    Plan { steps, settled_until: None, probe_at: deadlines.wake_at }
}

fn list_step(state: &State, deadlines: &mut Deadlines, steps: &mut Vec<Step>) {
    let due = match state.listing.requested_at {
        None => state.listing.next,
        Some(requested_at) => requested_at + state.limits.list_deadline,
    };
    if deadlines.is_due(due) {
        steps.push(Step::List);
    }
}

fn persist_step(state: &State, deadlines: &mut Deadlines, steps: &mut Vec<Step>) {
    if let Some(under_way) = state.writing.under_way
        && deadlines.is_due(under_way.requested_at + state.limits.persist_deadline)
    {
        steps.push(Step::ForgetWrite);
    }
    let wanted = state.writing.stale && state.writing.under_way.is_none();
    // A step of this plan may be about to write; it will write the names and incarnations too.
    let busy = steps.contains(&Step::CommitCommand);
    if wanted && !busy && deadlines.is_due(state.writing.not_before) {
        steps.push(Step::Persist);
    }
}

fn probe_steps(state: &State, deadlines: &mut Deadlines, steps: &mut Vec<Step>) {
    for (id, instance) in &state.instances {
        let frozen = matches!(instance.phase, Phase::Ejected { reason: EjectReason::Paused, .. });
        if instance.address().is_none() || frozen {
            continue;
        }
        let due = match instance.probing {
            Probing::Idle { next, .. } => next,
            // The shell answers each heartbeat; this bound only guards against its failure.
            Probing::Waiting { sent, .. } => sent + state.limits.probe_timeout + LOST_PROBE,
        };
        if deadlines.is_due(due) {
            steps.push(Step::Probe(*id));
        }
    }
}

const LOST_PROBE: Duration = Duration::from_secs(2);
