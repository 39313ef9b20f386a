//! What each desired replica needs: its instance admitted, a successor started, siblings let go.

use super::{
    servers,
    step::{Deadlines, Step},
    stopping::stop_manner,
};
use crate::fleet::{
    desired::Replica,
    ids::{InstanceId, Moment, ReplicaId},
    notes::StartCause,
    observed::{EjectReason, Health, Instance, Passes, Phase, of_replica},
    state::{Engine, State},
    values::Keeper,
};

/// How much may still be begun in this round.
pub(super) struct Budget {
    starts: usize,
}

impl Budget {
    pub(super) fn of(state: &State) -> Self {
        let ours = state.instances.values().filter(|i| i.keeper == Keeper::Ringmaster);
        let starting = ours.filter(|i| matches!(i.phase, Phase::Starting { .. })).count();
        Self { starts: state.limits.starts_max.saturating_sub(starting) }
    }

    /// Takes one of the starts that are left.
    pub(super) fn take_start(&mut self) -> bool {
        let is_left = self.starts > 0;
        self.starts = self.starts.saturating_sub(1);
        is_left
    }
}

/// The steps of all desired replicas. `replacements`: how many living ones may be replaced.
pub(super) fn steps(
    state: &State,
    mut replacements: usize,
    budget: &mut Budget,
    deadlines: &mut Deadlines,
    steps: &mut Vec<Step>,
) {
    let mut may_roll = is_ready_to_roll(state, deadlines);
    for replica in state.desired.replicas() {
        let siblings = Siblings::of(state, replica.id());
        if let Some(admission) = admission(state, &siblings) {
            steps.push(admission);
            continue;
        }
        surplus_steps(state, &siblings, steps);
        if replica.server.is_some() {
            servers::begin_step(replica.id(), siblings.is_empty(), steps);
            continue;
        }
        let Some(mut cause) = start_cause(state, replica.id(), &siblings, deadlines) else {
            continue;
        };
        // A living one is replaced only where that is allowed, whatever by.
        let may_try = cause != StartCause::Failing || replacements > 0;
        if may_roll && may_try && is_hopeless(state, replica.id()) {
            cause = StartCause::Outdated;
        }
        let is_allowed = match cause {
            StartCause::Failing => replacements > 0,
            StartCause::Outdated => may_roll,
            StartCause::Missing | StartCause::Addition => true,
        };
        if !is_allowed || !budget.take_start() {
            continue;
        }
        match cause {
            StartCause::Failing => replacements -= 1,
            // One by one.
            StartCause::Outdated => may_roll = false,
            StartCause::Missing | StartCause::Addition => {}
        }
        steps.push(Step::Start(replica.id(), cause));
    }
    let begins = steps.iter().any(|step| matches!(step, Step::Start(..)));
    let is_complete = !begins && is_rolled_out(state, deadlines);
    if is_complete {
        steps.push(Step::CompleteRoll);
    }
}

/// The instances of one desired replica, sorted out.
struct Siblings<'a> {
    admitted: Option<(InstanceId, &'a Instance)>,
    /// The highest incarnation that has passed and waits.
    ready: Option<(InstanceId, &'a Instance)>,
    /// Starting or warming.
    coming: Vec<(InstanceId, &'a Instance)>,
    /// Alive and out of the table, lowest incarnation first.
    ejected: Vec<(InstanceId, &'a Instance)>,
}

impl<'a> Siblings<'a> {
    /// Whether there is none but those on their way out.
    fn is_empty(&self) -> bool {
        self.admitted.is_none() && self.coming.is_empty() && self.ejected.is_empty()
    }

    fn of(state: &'a State, replica: ReplicaId) -> Self {
        let mut all = Self { admitted: None, ready: None, coming: Vec::new(), ejected: Vec::new() };
        for known in of_replica(&state.instances, replica) {
            match known.1.phase {
                Phase::Admitted { .. } => all.admitted = Some(known),
                Phase::Starting { .. } | Phase::Warming { .. } => all.coming.push(known),
                Phase::Ejected { .. } => all.ejected.push(known),
                Phase::Draining { .. } | Phase::Stopping { .. } => {}
            }
            if known.1.is_ready(state.limits.probe_passes) {
                all.ready = Some(known);
            }
        }
        all
    }

    /// Whether a higher incarnation may turn out to pass: after a restart of the balancer the
    /// highest passing one stays, so a lower one waits for its first heartbeat.
    fn higher_is_untested(&self, than: InstanceId) -> bool {
        self.coming.iter().any(|(id, instance)| {
            *id > than && matches!(instance.phase, Phase::Warming { passes: Passes::Untested, .. })
        })
    }
}

/// The step that puts the replica's newest passing instance into the table, where it belongs there.
fn admission(state: &State, siblings: &Siblings<'_>) -> Option<Step> {
    match (siblings.admitted, siblings.ready) {
        (None, Some((ready, _))) if !siblings.higher_is_untested(ready) => {
            Some(Step::Admit { instance: ready, instead_of: None })
        }
        (Some((admitted, old)), Some((ready, new)))
            if ready > admitted && is_replaceable_by(state, old, new) =>
        {
            Some(Step::Admit { instance: ready, instead_of: Some(admitted) })
        }
        _ => None,
    }
}

/// Whether an admitted instance gives way to a passing one of a higher incarnation.
fn is_replaceable_by(state: &State, old: &Instance, new: &Instance) -> bool {
    !old.is_passing() || (state.is_outdated(old) && !state.is_outdated(new))
}

/// Siblings that are not needed: everything beside a good admitted instance, and what is ejected
/// beside any.
fn surplus_steps(state: &State, siblings: &Siblings<'_>, steps: &mut Vec<Step>) {
    let Some((admitted, serving)) = siblings.admitted else {
        return;
    };
    let still_wanted = |id: InstanceId, coming: &Instance| {
        id > admitted && is_replaceable_by(state, serving, coming)
    };
    let unwanted = siblings.coming.iter().filter(|(id, coming)| !still_wanted(*id, coming));
    for (id, instance) in unwanted.chain(&siblings.ejected) {
        // A start that is under way cannot be called back; its instance is stopped once known.
        if instance.handle.is_some() {
            steps.push(Step::Stop(*id, stop_manner(instance)));
        }
    }
}

fn start_cause(
    state: &State,
    replica: ReplicaId,
    siblings: &Siblings<'_>,
    deadlines: &mut Deadlines,
) -> Option<StartCause> {
    let may_start = state.keeper == Keeper::Ringmaster
        && state.engine == Engine::Up
        && !state.writing.is_first
        && state.shutdown.is_none();
    if !may_start || !siblings.coming.is_empty() {
        return None;
    }
    let newest_ejected = siblings.ejected.last();
    let replace_at = |since: Moment| since + state.limits.replace_after;
    let cause = match (siblings.admitted, newest_ejected) {
        (Some((_, instance)), _) => match instance.phase {
            Phase::Admitted { health: Health::Failing { since, .. }, .. } => {
                deadlines.is_due(replace_at(since)).then_some(StartCause::Failing)
            }
            _ => state.is_outdated(instance).then_some(StartCause::Outdated),
        },
        (None, Some((_, instance))) => match instance.phase {
            // It lives, and gets no requests because that was asked for.
            Phase::Ejected { reason: EjectReason::Drained, .. } => None,
            Phase::Ejected { since, .. } => {
                deadlines.is_due(replace_at(since)).then_some(StartCause::Failing)
            }
            _ => None,
        },
        (None, None) => Some(StartCause::Missing),
    }?;
    let not_before = state.backoffs.get(&replica).map_or(Moment(0), |b| b.not_before());
    deadlines.is_due(not_before).then_some(cause)
}

/// Whether the next outdated instance may be replaced: one by one, only while all replicas are well
/// that can be, and after the last newcomer was watched for long enough.
fn is_ready_to_roll(state: &State, deadlines: &mut Deadlines) -> bool {
    let is_any_outdated = || state.instances.values().any(|instance| state.is_outdated(instance));
    state.wanted.is_some()
        && !state.is_roll_stopped()
        && state.operation.is_none()
        && (state.is_rolling() || is_any_outdated())
        && state
            .desired
            .replicas()
            .iter()
            .filter(|replica| concerns_roll(replica))
            .all(|replica| is_well(state, replica.id()) || is_hopeless(state, replica.id()))
        && deadlines.is_due(state.roll.bakes_until)
}

/// Whether all replicas of ours that get requests run what is wanted, and at least one does unless
/// there is none.
fn is_rolled_out(state: &State, deadlines: &mut Deadlines) -> bool {
    let ours = || state.desired.replicas().iter().filter(|replica| concerns_roll(replica));
    let is_outdated = |replica: &Replica| {
        state.admitted(replica.id()).is_some_and(|instance| state.is_outdated(instance))
    };
    state.is_rolling()
        && !state.is_roll_stopped()
        && state.operation.is_none()
        && ours().all(|replica| is_well(state, replica.id()))
        && (ours().next().is_none() || ours().any(|replica| !replica.is_drained))
        && deadlines.is_due(state.roll.bakes_until)
        && !ours().any(is_outdated)
}

/// What others keep is not rolled.
fn concerns_roll(replica: &Replica) -> bool {
    replica.server.is_none()
}

/// Unexpected ends in a row after which what a replica was made from is taken for its fault.
const HOPELESS_AFTER: u32 = 2;

/// Whether a replica does not come to serve as what it was: then what is wanted now is tried with it
/// first, as there is nothing to lose.
fn is_hopeless(state: &State, replica: ReplicaId) -> bool {
    let failures = state.backoffs.get(&replica).map_or(0, |backoff| backoff.failures());
    state.is_rolling()
        && failures >= HOPELESS_AFTER
        && of_replica(&state.instances, replica)
            .all(|(_, instance)| !instance.is_passing() && !state.is_on_trial(instance))
}

/// Whether a replica has a passing instance, or is drained, and none is on its way.
fn is_well(state: &State, replica: ReplicaId) -> bool {
    let mut passes = state.desired.replica(replica).is_some_and(|known| known.is_drained);
    of_replica(&state.instances, replica).all(|(_, instance)| {
        passes |= instance.is_passing();
        !instance.is_coming()
    }) && passes
}
