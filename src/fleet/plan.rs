//! What to do next: a pure function of the state. It leaves no meaningful choice to whoever
//! carries it out, and planning again after that gives nothing.
//!
//! Each rule first classifies (member, newcomer, leftover; admitted, ready, coming), then decides.
//! Deadlines are asked of [`Clock`], which remembers the earliest one that is not due: that is when
//! the core wants to be woken.

use std::time::Duration;

use super::{
    ids::{InstanceId, Moment, ReplicaId},
    message::StopManner,
    notes::StartCause,
    observed::{EjectReason, Health, Instance, Phase, Probing, StopProgress, of_replica},
    operation::{AddStage, ChangeStage, Operation, RemoveStage},
    state::{Boot, Engine, Keeper, State},
};

/// One step. Most also change the state; the supervisor says how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send a heartbeat.
    Probe(InstanceId),
    /// Ask for the list of all instances.
    List,
    /// Write the committed state again: names or incarnations have changed.
    Persist,
    /// Put a passing instance into the table; `instead_of` drains.
    Admit {
        /// Who enters.
        instance: InstanceId,
        /// Who leaves in the same step.
        instead_of: Option<InstanceId>,
    },
    /// Take a failing instance out of the table.
    Eject(InstanceId),
    /// Put a failing instance back into the table, since nobody else lives.
    ReadmitAsLast(InstanceId),
    /// Take an instance out of the table for good and let its requests end.
    Drain(InstanceId),
    /// Let an instance go that is not, or no longer, in the table.
    Stop(InstanceId, StopManner),
    /// Ask the driver to stop it.
    AskToStop(InstanceId, StopManner),
    /// An instance does not get ready: stop it and count that against its replica.
    GiveUp(InstanceId),
    /// The result of a start is lost: look for it by list.
    ForgetStart(InstanceId),
    /// Start the next incarnation of a replica.
    Start(ReplicaId, StartCause),
    /// Take the next command from the queue.
    BeginCommand,
    /// Write the state that the running command leads to.
    CommitCommand,
    /// The running command has missed its deadline.
    FailCommand,
    /// Answer the running command.
    FinishCommand,
}

/// Steps, and when to plan again if nothing happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// The earliest deadline that is not due yet.
    pub wake_at: Option<Moment>,
}

/// Knows the time, and remembers the earliest deadline that it was asked about.
struct Clock {
    now: Moment,
    wake_at: Option<Moment>,
}

impl Clock {
    fn is_due(&mut self, at: Moment) -> bool {
        if at <= self.now {
            return true;
        }
        self.wake_at = Some(self.wake_at.map_or(at, |earliest| earliest.min(at)));
        false
    }
}

/// What the state asks for at a moment.
pub fn plan(state: &State, now: Moment) -> Plan {
    let mut clock = Clock { now, wake_at: None };
    let mut steps = Vec::new();
    list_step(state, &mut clock, &mut steps);
    // Nobody waits for an engine that may never come.
    let is_hopeless = state.boot == Boot::AwaitingList && state.engine != Engine::Up;
    if is_hopeless && !state.queue.is_empty() {
        steps.push(Step::BeginCommand);
    }
    if state.boot == Boot::Done {
        operation_step(state, &mut clock, &mut steps);
        let kept = if state.stops_replicas() { &[] } else { state.desired.replicas() };
        for replica in kept {
            replica_steps(state, replica.id(), &mut clock, &mut steps);
        }
        leftover_steps(state, &mut clock, &mut steps);
        stopping_steps(state, &mut clock, &mut steps);
        overdue_steps(state, &mut clock, &mut steps);
        if !state.stops_replicas() {
            last_living_steps(state, &mut steps);
        }
        probe_steps(state, &mut clock, &mut steps);
        persist_step(state, &mut clock, &mut steps);
    }
    Plan { steps, wake_at: clock.wake_at }
}

fn list_step(state: &State, clock: &mut Clock, steps: &mut Vec<Step>) {
    let due = match state.listing.asked {
        None => state.listing.next,
        Some(asked) => asked + state.limits.list_deadline,
    };
    if clock.is_due(due) {
        steps.push(Step::List);
    }
}

fn persist_step(state: &State, clock: &mut Clock, steps: &mut Vec<Step>) {
    let wanted = state.writing.stale && state.writing.under_way.is_none();
    // A step of this plan may be about to write; it will write the names and incarnations too.
    let busy = steps.contains(&Step::CommitCommand);
    if wanted && !busy && clock.is_due(state.writing.not_before) {
        steps.push(Step::Persist);
    }
}

/// The running command, or the next one.
fn operation_step(state: &State, clock: &mut Clock, steps: &mut Vec<Step>) {
    let Some(operation) = &state.operation else {
        if !state.queue.is_empty() && !state.writing.is_first {
            steps.push(Step::BeginCommand);
        }
        return;
    };
    let can_write = state.writing.under_way.is_none();
    match operation {
        Operation::Adding { newcomers, stage: AddStage::Warming { deadline }, .. } => {
            let all_ready = newcomers.iter().all(|newcomer| {
                of_replica(&state.instances, newcomer.id)
                    .any(|(_, instance)| instance.is_ready(state.limits.probe_passes))
            });
            if all_ready && can_write {
                steps.push(Step::CommitCommand);
            } else if clock.is_due(*deadline) && !all_ready {
                steps.push(Step::FailCommand);
            }
        }
        Operation::Adding { newcomers, stage: AddStage::RollingBack { deadline, .. }, .. } => {
            let gone =
                newcomers.iter().all(|n| of_replica(&state.instances, n.id).next().is_none());
            if gone || clock.is_due(*deadline) {
                steps.push(Step::FinishCommand);
            }
        }
        Operation::Removing { stage: RemoveStage::Accepted, .. }
        | Operation::Changing { stage: ChangeStage::Accepted, .. } => {
            if can_write {
                steps.push(Step::CommitCommand);
            }
        }
        Operation::Removing { ids, stage: RemoveStage::Leaving { deadline }, .. } => {
            let gone = ids.iter().all(|&id| of_replica(&state.instances, id).next().is_none());
            if gone || clock.is_due(*deadline) {
                steps.push(Step::FinishCommand);
            }
        }
        Operation::Adding { stage: AddStage::Writing(_), .. }
        | Operation::Removing { stage: RemoveStage::Writing(_), .. }
        | Operation::Changing { stage: ChangeStage::Writing(_), .. } => {}
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
        use super::observed::Passes::Untested;
        self.coming.iter().any(|(id, instance)| {
            *id > than && matches!(instance.phase, Phase::Warming { passes: Untested, .. })
        })
    }
}

fn replica_steps(state: &State, replica: ReplicaId, clock: &mut Clock, steps: &mut Vec<Step>) {
    let siblings = Siblings::of(state, replica);
    match (siblings.admitted, siblings.ready) {
        (None, Some((ready, _))) if !siblings.higher_is_untested(ready) => {
            steps.push(Step::Admit { instance: ready, instead_of: None });
            return;
        }
        (Some((admitted, old)), Some((ready, new)))
            if ready > admitted && is_replaceable_by(old, new) =>
        {
            steps.push(Step::Admit { instance: ready, instead_of: Some(admitted) });
            return;
        }
        _ => {}
    }
    surplus_steps(&siblings, steps);
    let one_rolls = steps.iter().any(|step| matches!(step, Step::Start(_, StartCause::Outdated)));
    match start_cause(state, replica, &siblings, clock) {
        Some(StartCause::Outdated) if one_rolls => {}
        Some(cause) => steps.push(Step::Start(replica, cause)),
        None => {}
    }
}

/// Whether an admitted instance gives way to a passing one of a higher incarnation.
fn is_replaceable_by(old: &Instance, new: &Instance) -> bool {
    !old.is_passing() || (old.outdated && !new.outdated)
}

/// Siblings that are not needed: everything beside a good admitted instance, and what is ejected
/// beside any.
fn surplus_steps(siblings: &Siblings<'_>, steps: &mut Vec<Step>) {
    let Some((admitted, serving)) = siblings.admitted else {
        return;
    };
    let still_wanted =
        |id: InstanceId, coming: &Instance| id > admitted && is_replaceable_by(serving, coming);
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
    clock: &mut Clock,
) -> Option<StartCause> {
    let may_start = state.keeper == Keeper::Ringmaster
        && state.engine == Engine::Up
        && !state.writing.is_first
        && state.shutdown.is_none();
    if !may_start || !siblings.coming.is_empty() {
        return None;
    }
    let newest_ejected = siblings.ejected.last();
    let cause = match (siblings.admitted, newest_ejected) {
        (Some((_, instance)), _) => match instance.phase {
            Phase::Admitted { health: Health::Failing { since, .. }, .. } => {
                clock.is_due(since + state.limits.replace_after).then_some(StartCause::Failing)
            }
            _ => (instance.outdated && may_roll(state)).then_some(StartCause::Outdated),
        },
        (None, Some((_, instance))) => match instance.phase {
            Phase::Ejected { since, .. } => {
                clock.is_due(since + state.limits.replace_after).then_some(StartCause::Failing)
            }
            _ => None,
        },
        (None, None) => Some(StartCause::Missing),
    }?;
    let not_before = state.backoffs.get(&replica).map_or(Moment(0), |b| b.not_before());
    clock.is_due(not_before).then_some(cause)
}

/// Outdated instances are replaced one by one, and only while the whole fleet is well.
fn may_roll(state: &State) -> bool {
    state.operation.is_none()
        && state.desired.replicas().iter().all(|replica| {
            let mut siblings = of_replica(&state.instances, replica.id());
            let passing = state.admitted(replica.id()).is_some_and(Instance::is_passing);
            passing && !siblings.any(|(_, instance)| instance.is_coming())
        })
}

/// Instances whose replica is neither desired nor about to join; all of them where the balancer ends
/// with its replicas.
fn leftover_steps(state: &State, clock: &mut Clock, steps: &mut Vec<Step>) {
    for (id, instance) in &state.instances {
        let is_kept = state.is_desired(id.replica) || state.is_newcomer(id.replica);
        if is_kept && !state.stops_replicas() {
            continue;
        }
        match instance.phase {
            Phase::Admitted { .. } => steps.push(Step::Drain(*id)),
            Phase::Warming { .. } | Phase::Ejected { .. } => {
                steps.push(Step::Stop(*id, stop_manner(instance)));
            }
            Phase::Starting { .. } | Phase::Draining { .. } | Phase::Stopping { .. } => {}
        }
    }
    for (id, instance) in &state.instances {
        if let Phase::Draining { until } = instance.phase
            && clock.is_due(until)
        {
            steps.push(Step::Stop(*id, StopManner::Graceful));
        }
    }
}

/// Stops that waited for the engine, and those that must be tried again.
fn stopping_steps(state: &State, clock: &mut Clock, steps: &mut Vec<Step>) {
    if state.engine != Engine::Up {
        return;
    }
    for (id, instance) in &state.instances {
        let Phase::Stopping { progress, .. } = instance.phase else {
            continue;
        };
        let (manner, due) = match progress {
            StopProgress::Due { manner, not_before } => (manner, not_before),
            StopProgress::Asked { lost_at } => (StopManner::Kill, lost_at),
        };
        if clock.is_due(due) {
            steps.push(Step::AskToStop(*id, manner));
        }
    }
}

/// A frozen process cannot obey a signal.
fn stop_manner(instance: &Instance) -> StopManner {
    match instance.phase {
        Phase::Ejected { reason: EjectReason::Paused, .. } => StopManner::Kill,
        _ => StopManner::Graceful,
    }
}

/// Starts whose result is lost, and instances that do not get ready.
fn overdue_steps(state: &State, clock: &mut Clock, steps: &mut Vec<Step>) {
    if state.keeper == Keeper::Others {
        return;
    }
    for (id, instance) in &state.instances {
        match instance.phase {
            Phase::Starting { since, .. } if clock.is_due(since + state.limits.start_lost()) => {
                steps.push(Step::ForgetStart(*id));
            }
            Phase::Warming { since, .. } => {
                let waits = instance.is_ready(state.limits.probe_passes);
                if state.is_desired(id.replica)
                    && !waits
                    && clock.is_due(since + state.limits.start_deadline)
                    && !steps.contains(&Step::Stop(*id, StopManner::Graceful))
                {
                    steps.push(Step::GiveUp(*id));
                }
            }
            _ => {}
        }
    }
}

/// A failing instance leaves the table as soon as another passes; the last one that lives stays,
/// or comes back.
fn last_living_steps(state: &State, steps: &mut Vec<Step>) {
    let entering = steps.iter().any(|step| matches!(step, Step::Admit { .. }));
    let members = || state.instances.iter().filter(|(id, _)| state.is_desired(id.replica));
    let any_passing = members().any(|(_, instance)| instance.is_passing());
    if any_passing && !entering {
        let failing = members().filter(|(_, i)| i.is_admitted() && !i.is_passing());
        steps.extend(failing.map(|(id, _)| Step::Eject(*id)));
        return;
    }
    if entering || members().any(|(_, instance)| instance.is_admitted()) {
        return;
    }
    let last = members().filter_map(|(id, instance)| match instance.phase {
        Phase::Ejected { since, reason, address: Some(_), .. } if reason.may_serve_as_last() => {
            Some((since, *id))
        }
        _ => None,
    });
    // One that is about to be stopped in this plan is not brought back.
    let stopping = |id: &InstanceId| {
        steps.iter().any(|step| matches!(step, Step::Stop(stopped, _) if stopped == id))
    };
    if let Some((_, id)) = last.filter(|(_, id)| !stopping(id)).max() {
        steps.push(Step::ReadmitAsLast(id));
    }
}

fn probe_steps(state: &State, clock: &mut Clock, steps: &mut Vec<Step>) {
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
        if clock.is_due(due) {
            steps.push(Step::Probe(*id));
        }
    }
}

const LOST_PROBE: Duration = Duration::from_secs(2);
