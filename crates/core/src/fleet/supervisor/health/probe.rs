//! Heartbeats: what is sent, and what their results change.

use std::sync::Arc;

use crate::fleet::{
    ids::{InstanceId, Moment},
    message::{Action, ProbeOutcome},
    notes::Note,
    observed::{EjectReason, Health, Passes, Phase, Probing},
    state::State,
    supervisor::{context::Context, transitions::admit::readmit},
    values::Keeper,
};

/// A heartbeat that changed nothing.
pub(crate) struct Routine {
    /// When the next one of the instance is due; `None`: the instance is gone.
    pub(crate) next: Option<Moment>,
}

/// Sends a heartbeat.
pub(crate) fn send(state: &mut State, cx: &mut Context<'_>, id: InstanceId) {
    let deadline = cx.now + state.limits.probe_timeout;
    let Some(instance) = state.instances.get_mut(&id) else { return };
    let Some(address) = instance.address() else { return };
    let suspect = matches!(instance.probing, Probing::Idle { suspect: true, .. });
    instance.probing = Probing::Waiting { sent: cx.now, suspect };
    cx.act(Action::Probe { instance: id, address, deadline });
}

/// Takes in a heartbeat that passed, where nothing else follows: its instance is in the table, passes,
/// and is not suspected. `None`: it changes more than that.
pub(crate) fn passed_as_ever(state: &mut State, id: InstanceId, now: Moment) -> Option<Routine> {
    let interval = state.limits.probe_interval;
    let Some(instance) = state.instances.get_mut(&id) else { return Some(Routine { next: None }) };
    let Phase::Admitted { health: Health::Passing { failures: 0 }, .. } = instance.phase else {
        return None;
    };
    let Probing::Waiting { sent, suspect: false } = instance.probing else { return None };
    let next = (sent + interval).max(now);
    instance.probe_at(next);
    Some(Routine { next: Some(next) })
}

/// Takes in the result of any other heartbeat.
pub(crate) fn probed(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    outcome: &ProbeOutcome,
) {
    let limits = &state.limits;
    let Some(instance) = state.instances.get_mut(&id) else { return };
    let Probing::Waiting { sent, suspect } = instance.probing else { return };
    let passed = *outcome == ProbeOutcome::Passed;
    // What others keep may be away for long.
    let is_ours = instance.keeper == Keeper::Ringmaster;
    let warms = is_ours && matches!(instance.phase, Phase::Warming { .. }) && !passed;
    let next = if warms { cx.now + limits.warm_interval } else { sent + limits.probe_interval };
    instance.probe_at(next.max(cx.now));
    match &mut instance.phase {
        Phase::Warming { passes, .. } => *passes = counted(*passes, passed),
        // Whether it may come back at once when it is no longer drained.
        Phase::Ejected { passes, reason: EjectReason::Drained, .. } => {
            *passes = counted(*passes, passed);
        }
        // Sent before it was taken out by the engine's word, which only the engine takes back.
        Phase::Ejected { reason, .. } if !reason.is_by_heartbeat() => {}
        Phase::Ejected { passes, reason, .. } => {
            *passes = counted(*passes, passed);
            if let Some(why) = reason_of(outcome) {
                *reason = why;
            }
            if passes.reach(limits.probe_passes) {
                readmit(state, cx, id);
            }
        }
        Phase::Admitted { health, .. } => {
            let needed = if suspect { 1 } else { limits.probe_misses };
            let before = *health;
            *health = next_health(before, outcome, needed, cx.now);
            if let (Health::Passing { .. }, Health::Failing { reason, .. }) = (before, *health) {
                note_if_kept(state, cx, id, reason);
            }
        }
        Phase::Starting { .. } | Phase::Draining { .. } | Phase::Stopping { .. } => {}
    }
    keep_outcome(state, cx, id, outcome);
    if matches!(outcome, ProbeOutcome::NoAnswer(_) | ProbeOutcome::Silent(_)) {
        // It may have died without a word from the engine.
        state.list_soon(cx.now);
    }
}

/// Says that the last living instance fails; any other is ejected by the plan, which notes it.
fn note_if_kept(state: &State, cx: &mut Context<'_>, id: InstanceId, reason: EjectReason) {
    let another = state.instances.iter().any(|(other, instance)| {
        *other != id && state.is_desired(other.replica) && instance.is_passing()
    });
    if !another && let Some(instance) = state.instances.get(&id) {
        cx.note(Note::KeptAsLast { instance: id, name: instance.name.clone(), reason });
    }
}

/// Keeps what a heartbeat met, if that was bad.
fn keep_outcome(state: &mut State, cx: &mut Context<'_>, id: InstanceId, outcome: &ProbeOutcome) {
    let Some(instance) = state.instances.get_mut(&id) else { return };
    let is_warming = matches!(instance.phase, Phase::Warming { .. });
    match outcome {
        // While it warms, the answer that it did not pass with says more.
        ProbeOutcome::Passed if is_warming => {}
        ProbeOutcome::Passed => instance.last_probe = None,
        ProbeOutcome::BadAnswer(why) | ProbeOutcome::Silent(why) | ProbeOutcome::NoAnswer(why) => {
            let before = instance.last_probe.replace(Arc::clone(why));
            // Our own are just starting; what others keep should be there already.
            if before.is_none() && is_warming && instance.keeper == Keeper::Others {
                let (name, why) = (instance.name.clone(), Arc::clone(why));
                cx.note(Note::NotReady { instance: id, name, why });
            }
        }
    }
}

fn counted(passes: Passes, passed: bool) -> Passes {
    if passed { passes.plus_one() } else { Passes::InARow(0) }
}

fn reason_of(outcome: &ProbeOutcome) -> Option<EjectReason> {
    match outcome {
        ProbeOutcome::Passed => None,
        ProbeOutcome::BadAnswer(_) => Some(EjectReason::Failing),
        ProbeOutcome::Silent(_) => Some(EjectReason::Silent),
        ProbeOutcome::NoAnswer(_) => Some(EjectReason::Unreachable),
    }
}

fn next_health(health: Health, outcome: &ProbeOutcome, needed: u32, now: Moment) -> Health {
    let Some(reason) = reason_of(outcome) else {
        return Health::Passing { failures: 0 };
    };
    match health {
        Health::Passing { failures } if failures + 1 < needed => {
            Health::Passing { failures: failures + 1 }
        }
        Health::Passing { .. } => Health::Failing { since: now, reason },
        Health::Failing { since, .. } => Health::Failing { since, reason },
    }
}
