//! What an event changes. What follows from it is the plan's business.

use std::{net::SocketAddr, sync::Arc};

use rand::RngExt;

use crate::fleet::supervisor::Supervisor;
use crate::fleet::{
    ids::{Handle, InstanceId, Moment},
    message::{
        EngineError, Event, FailureKind, LastWords, ProbeOutcome, Sighting, StartError, Started,
        StopManner,
    },
    notes::Note,
    observed::{EjectReason, Exit, Health, Instance, Passes, Phase, Probing, StopProgress},
    plan,
    state::{Engine, Reaping},
    values::Keeper,
};

impl Supervisor {
    /// What an event changes; whether that is nothing but heartbeats as they should be.
    pub(in crate::fleet::supervisor) fn take_in(&mut self, event: Event, now: Moment) -> bool {
        match event {
            Event::Tick => return true,
            Event::Probed { instance, outcome: ProbeOutcome::Passed }
                if self.passes_as_ever(instance, now) =>
            {
                return true;
            }
            Event::Scale(command, request) => self.take_command(command, request, now),
            Event::Loaded(in_flight) => self.state.in_flight = in_flight,
            Event::Probed { instance, outcome } => self.probed(instance, outcome, now),
            Event::Started { instance, result } => self.started(instance, result, now),
            Event::Stopped { instance, last_words, result } => {
                if let Some(words) = last_words {
                    self.keep_last_words(instance, *words, now);
                }
                self.stopped(instance, result, now);
            }
            Event::Drained { instance } => self.drained(instance, now),
            Event::EngineSaw { instance, handle, sighting } => {
                self.engine_saw(instance, &handle, sighting, now);
            }
            Event::Listed { asked, result } => {
                self.note_sweep(asked, &result);
                self.listed(asked, result, now);
            }
            Event::RequestFailed { instance, kind } => {
                return !self.request_failed(instance, kind, now);
            }
            Event::Resolved { instance, result } => self.resolved(instance, result, now),
            Event::Persisted { write, result } => self.persisted(write, result, now),
            Event::Reaped { handle, result } => self.reaped(handle, result),
            Event::StreamChanged => self.state.list_soon(now),
            Event::ShutDown { stop_replicas } => self.shut_down(stop_replicas, now),
        }
        false
    }

    /// A heartbeat passed of an instance that is in the table, passes, and is not suspected.
    fn passes_as_ever(&mut self, id: InstanceId, now: Moment) -> bool {
        let interval = self.state.limits.probe_interval;
        let Some(instance) = self.state.instances.get_mut(&id) else { return true };
        let Phase::Admitted { health: Health::Passing { failures: 0 }, .. } = instance.phase else {
            return false;
        };
        let Probing::Waiting { sent, suspect: false } = instance.probing else { return false };
        let next = (sent + interval).max(now);
        instance.probing = Probing::Idle { next, suspect: false };
        if let Some(settled) = &mut self.settled {
            settled.probe_at = plan::earlier(settled.probe_at, Some(next));
        }
        true
    }

    fn probed(&mut self, id: InstanceId, outcome: ProbeOutcome, now: Moment) {
        let limits = &self.state.limits;
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        let Probing::Waiting { sent, suspect } = instance.probing else {
            return;
        };
        let passed = outcome == ProbeOutcome::Passed;
        // What others keep may be away for long.
        let is_ours = instance.keeper == Keeper::Ringmaster;
        let warms = is_ours && matches!(instance.phase, Phase::Warming { .. }) && !passed;
        let next = if warms { now + limits.warm_interval } else { sent + limits.probe_interval };
        instance.probing = Probing::Idle { next: next.max(now), suspect: false };
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
                if let Some(why) = reason_of(&outcome) {
                    *reason = why;
                }
                if passes.reach(limits.probe_passes) {
                    self.readmit(id, now);
                }
            }
            Phase::Admitted { health, .. } => {
                let needed = if suspect { 1 } else { limits.probe_misses };
                let before = *health;
                *health = next_health(before, &outcome, needed, now);
                if let (Health::Passing { .. }, Health::Failing { reason, .. }) = (before, *health)
                {
                    self.note_if_kept(id, reason);
                }
            }
            Phase::Starting { .. } | Phase::Draining { .. } | Phase::Stopping { .. } => {}
        }
        self.keep_probe(id, &outcome);
        if matches!(outcome, ProbeOutcome::NoAnswer(_) | ProbeOutcome::Silent(_)) {
            // It may have died without a word from the engine.
            self.state.list_soon(now);
        }
    }

    /// Says that the last living instance fails; any other is ejected by the plan, which notes it.
    fn note_if_kept(&mut self, id: InstanceId, reason: EjectReason) {
        let another = self.state.instances.iter().any(|(other, instance)| {
            *other != id && self.state.is_desired(other.replica) && instance.is_passing()
        });
        if !another && let Some(instance) = self.state.instances.get(&id) {
            let name = instance.name.clone();
            self.note(Note::KeptAsLast { instance: id, name, reason });
        }
    }

    pub(in crate::fleet::supervisor) fn readmit(&mut self, id: InstanceId, now: Moment) {
        let taken = self.state.admitted(id.replica).is_some();
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        let Phase::Ejected { address: Some(address), .. } = instance.phase else {
            return;
        };
        if taken {
            return;
        }
        instance.phase =
            Phase::Admitted { address, since: now, health: Health::Passing { failures: 0 } };
        let name = instance.name.clone();
        self.bake(id, now);
        self.note(Note::Readmitted { instance: id, name });
    }

    fn started(&mut self, id: InstanceId, result: Result<Started, StartError>, now: Moment) {
        let phase = self.state.instances.get(&id).map(|instance| &instance.phase);
        let ended = match phase {
            Some(Phase::Starting { ended, .. }) => Some(ended.clone()),
            _ => None,
        };
        let is_current = ended.is_some();
        match result {
            Ok(started) if is_current => {
                self.evict_holders(started.address, id, now);
                let Some(instance) = self.state.instances.get_mut(&id) else {
                    return;
                };
                // Another one of the same labels may have ended: what an earlier attempt left.
                let ended = ended.flatten().filter(|(handle, _)| *handle == started.handle);
                instance.handle = Some(started.handle);
                instance.known_at = now;
                instance.phase = Phase::Warming {
                    address: started.address,
                    since: now,
                    passes: Passes::Untested,
                };
                instance.probing = Probing::Idle { next: now, suspect: false };
                self.runs(id, started.revision);
                if let Some((_, Exit(exit_code))) = ended {
                    self.died(id, exit_code, now);
                }
            }
            // Nobody waits for it any more.
            Ok(started) => self.reap(started.handle),
            Err(error) => {
                if matches!(error, StartError::Unclear(_)) {
                    self.state.list_soon(now);
                }
                if is_current {
                    self.start_failed(id, &error, now);
                }
            }
        }
    }

    fn start_failed(&mut self, id: InstanceId, error: &StartError, now: Moment) {
        let Some(instance) = self.state.remove(id, now) else {
            return;
        };
        if let StartError::Ended { last_words, .. } = error {
            self.state.keep_ending(id, &instance.name, LastWords::clone(last_words), now);
        }
        self.state.keep_error(id.replica, &error.to_string(), now);
        self.fail_newcomer(id, Some(error), &error.to_string(), now);
        match error {
            StartError::NoImage(_) if self.lose_revision(instance.image.as_ref()) => {}
            _ => self.back_off(id, &instance, now),
        }
        // An engine that is away says nothing of what is to be started.
        if matches!(error, StartError::Refused(_) | StartError::NoImage(_)) {
            self.count_against_roll(&instance, &error.to_string().into(), now);
        }
        let not_before = self.state.backoffs.get(&id.replica).map_or(now, |b| b.not_before());
        self.note(Note::StartFailed {
            instance: id,
            name: instance.name,
            error: error.to_string().into(),
            retry_in: not_before.since(now),
        });
    }

    /// Engines give a dead container's address to the next one at once; whoever held it is gone.
    pub(in crate::fleet::supervisor) fn evict_holders(
        &mut self,
        address: SocketAddr,
        newcomer: InstanceId,
        now: Moment,
    ) {
        for id in self.holders(address, newcomer) {
            self.eject(id, EjectReason::AddressReused, now);
            self.forget_address(id);
            self.state.list_soon(now);
        }
    }

    fn stopped(&mut self, id: InstanceId, result: Result<(), EngineError>, now: Moment) {
        let retry = self.state.limits.stop_retry;
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        let Phase::Stopping { progress, .. } = &mut instance.phase else {
            return;
        };
        let name = instance.name.clone();
        match result {
            Ok(()) => {
                self.state.remove(id, now);
                self.note(Note::Stopped { instance: id, name });
            }
            Err(error) => {
                *progress = StopProgress::Due { manner: StopManner::Kill, not_before: now + retry };
                if matches!(error, EngineError::Away(_)) {
                    self.state.list_soon(now);
                }
                let error = error.to_string().into();
                self.note(Note::StopFailed { instance: id, name, error });
            }
        }
    }

    fn drained(&mut self, id: InstanceId, now: Moment) {
        if let Some(Phase::Draining { until }) =
            self.state.instances.get_mut(&id).map(|instance| &mut instance.phase)
        {
            *until = now;
        }
    }

    /// One heartbeat at once, but no more often than the minimum interval: a trickle of failed
    /// requests must not turn into heartbeats at the speed of the network. Returns whether anything
    /// followed.
    fn request_failed(&mut self, id: InstanceId, kind: FailureKind, now: Moment) -> bool {
        let limits = &self.state.limits;
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return false;
        };
        if !instance.is_admitted() {
            return false;
        }
        let suspicion = &mut instance.suspicion;
        let probes =
            now >= suspicion.probe_from && matches!(instance.probing, Probing::Idle { .. });
        if probes {
            instance.probing = Probing::Idle { next: now, suspect: true };
            suspicion.probe_from = now + limits.suspect_interval;
        }
        if suspicion.kind == Some(kind) && now < suspicion.note_from {
            suspicion.unnoted = suspicion.unnoted.saturating_add(1);
            return probes;
        }
        let unnoted = std::mem::take(&mut suspicion.unnoted);
        suspicion.kind = Some(kind);
        suspicion.note_from = now + limits.suspect_note_interval;
        let name = instance.name.clone();
        self.note(Note::Suspected { instance: id, name, kind, unnoted });
        true
    }

    fn engine_saw(&mut self, id: InstanceId, handle: &Handle, sighting: Sighting, now: Moment) {
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        if instance.handle.as_ref().is_some_and(|current| current != handle) {
            return;
        }
        if matches!(instance.phase, Phase::Starting { .. }) {
            return self.seen_while_starting(id, handle, &sighting, now);
        }
        // A list that was asked for before this knows less.
        instance.known_at = now;
        let name = instance.name.clone();
        match sighting {
            Sighting::Died { exit_code } => self.died(id, exit_code, now),
            Sighting::Removed => self.vanished(id, now),
            Sighting::Paused => self.eject(id, EjectReason::Paused, now),
            Sighting::Disconnected => {
                self.disconnect(id, now);
                self.state.list_soon(now);
            }
            Sighting::Unpaused => self.unpaused(id, now),
            Sighting::OutOfMemory => self.note(Note::OutOfMemory { instance: id, name }),
            Sighting::Unhealthy => drop(self.request_failed(id, FailureKind::ImageCheck, now)),
        }
    }

    pub(in crate::fleet::supervisor) fn unpaused(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        if let Phase::Ejected { reason: reason @ EjectReason::Paused, .. } = &mut instance.phase {
            *reason = EjectReason::Unreachable;
            instance.probing = Probing::Idle { next: now, suspect: false };
        }
    }

    /// It does not run any more; what is left of it is removed.
    pub(in crate::fleet::supervisor) fn died(
        &mut self,
        id: InstanceId,
        exit_code: Option<i64>,
        now: Moment,
    ) {
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        // The driver that stops it removes it too.
        if matches!(instance.phase, Phase::Stopping { .. }) {
            return;
        }
        let before = instance.clone();
        instance.phase = Phase::Stopping {
            in_peace: false,
            progress: StopProgress::Due { manner: StopManner::Collect, not_before: now },
        };
        self.ended(id, &before, exit_code, now);
    }

    /// Nothing is left of it.
    pub(in crate::fleet::supervisor) fn vanished(&mut self, id: InstanceId, now: Moment) {
        let Some(before) = self.state.remove(id, now) else {
            return;
        };
        if matches!(before.phase, Phase::Stopping { .. }) {
            self.note(Note::Stopped { instance: id, name: before.name });
        } else {
            self.ended(id, &before, None, now);
        }
    }

    fn ended(&mut self, id: InstanceId, before: &Instance, exit_code: Option<i64>, now: Moment) {
        let admitted = before.is_admitted();
        self.note(Note::Died { instance: id, name: before.name.clone(), exit_code, admitted });
        let words = LastWords::of_exit(exit_code);
        self.state.keep_error(id.replica, &format!("it ended: {words}"), now);
        self.state.keep_ending(id, &before.name, words, now);
        if before.is_leaving() {
            return;
        }
        let how = match exit_code {
            Some(code) => format!("it exited with code {code} before it passed its heartbeat"),
            None => "it ended before it passed its heartbeat".to_owned(),
        };
        self.fail_newcomer(id, None, &how, now);
        self.back_off(id, before, now);
        let why = match exit_code {
            Some(code) => format!("it ended by itself with code {code}"),
            None => "it ended by itself".to_owned(),
        };
        self.count_against_roll(before, &why.into(), now);
    }

    /// Counts an unexpected end against a desired replica.
    pub(in crate::fleet::supervisor) fn back_off(
        &mut self,
        id: InstanceId,
        before: &Instance,
        now: Moment,
    ) {
        if !self.state.is_desired(id.replica) {
            return;
        }
        let roll = self.chance.jitter.random::<f64>();
        let backoff = self.state.backoffs.entry(id.replica).or_default();
        backoff.record(now, before.admitted_for(now), &self.state.limits, roll);
        let (failures, delay) = (backoff.failures(), backoff.not_before().since(now));
        if !delay.is_zero() {
            self.note(Note::BackedOff { replica: id.replica, failures, delay });
        }
    }

    /// Takes a living instance out of the table, or keeps it from entering, by the engine's word.
    pub(in crate::fleet::supervisor) fn eject(
        &mut self,
        id: InstanceId,
        why: EjectReason,
        now: Moment,
    ) {
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        let name = instance.name.clone();
        match &mut instance.phase {
            Phase::Admitted { address, since, .. } => {
                instance.phase = Phase::Ejected {
                    address: Some(*address),
                    since: now,
                    reason: why,
                    admitted_for: now.since(*since),
                    passes: Passes::InARow(0),
                };
                self.note(Note::Ejected { instance: id, name, reason: why });
            }
            Phase::Ejected { reason, passes, .. } => {
                *reason = why;
                *passes = Passes::InARow(0);
            }
            Phase::Warming { address, since, .. } => {
                instance.phase = Phase::Ejected {
                    address: Some(*address),
                    since: *since,
                    reason: why,
                    admitted_for: std::time::Duration::ZERO,
                    passes: Passes::InARow(0),
                };
                self.fail_newcomer(id, None, &format!("it was {}", why.name()), now);
            }
            Phase::Starting { .. } | Phase::Draining { .. } | Phase::Stopping { .. } => {}
        }
    }

    /// It cannot be reached any more: whoever answers at its old address is somebody else.
    pub(in crate::fleet::supervisor) fn disconnect(&mut self, id: InstanceId, now: Moment) {
        self.eject(id, EjectReason::Disconnected, now);
        self.forget_address(id);
    }

    pub(in crate::fleet::supervisor) fn forget_address(&mut self, id: InstanceId) {
        if let Some(Phase::Ejected { address, .. }) =
            self.state.instances.get_mut(&id).map(|instance| &mut instance.phase)
        {
            *address = None;
        }
    }

    /// Has a stray removed; said once, however many lists show it meanwhile.
    pub(in crate::fleet::supervisor) fn reap(&mut self, handle: Handle) {
        if !self.state.reaping.contains_key(&handle) {
            self.state.reaping.insert(handle.clone(), Reaping::Due);
            self.note(Note::Reaped { handle });
        }
    }

    fn reaped(&mut self, handle: Handle, result: Result<(), EngineError>) {
        if self.state.reaping.remove(&handle).is_none() {
            return;
        }
        if let Err(error) = result {
            self.note(Note::ReapFailed { handle, error: error.to_string().into() });
        }
    }

    pub(in crate::fleet::supervisor) fn engine_is(&mut self, engine: Engine) {
        match (&self.state.engine, &engine) {
            (Engine::Up, Engine::Away(error)) => {
                let error = Arc::clone(error);
                self.note(Note::EngineAway { error });
            }
            (Engine::Away(_), Engine::Up) => self.note(Note::EngineBack),
            _ => {}
        }
        self.state.engine = engine;
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
