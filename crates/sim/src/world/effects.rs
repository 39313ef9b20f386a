//! The results of starts, stops and heartbeats, with their faults.

use rand::RngExt;
use ringmaster_core::fleet::{
    ids::{Handle, InstanceId, Moment},
    message::{
        EngineError, Event, FoundState, ProbeOutcome, Revision, Sighting, StartError, StartRequest,
        Started, StopManner,
    },
};

use super::World;
use crate::occurrence::{Occurrence, StartReport};

impl World {
    pub(super) fn begin_start(&mut self, request: StartRequest) {
        let epoch = self.epoch;
        self.report.starts += 1;
        let instance = request.instance;
        let fail = |error: &str| Event::Started {
            instance,
            result: Err(StartError::Unclear(error.into())),
        };
        if !self.engine.is_up {
            return self.deliver(5, fail("engine away"));
        }
        let delay = self.rng.random_range(20..300);
        if self.engine.foreign.contains(&request.name) {
            let result = Err(StartError::NameTaken(request.name));
            return self.deliver(delay, Event::Started { instance, result });
        }
        if !self.is_trouble() {
            let report = StartReport::Honest(self.rng.random_range(0..50));
            return self.after(delay, Occurrence::Create { epoch, request, report });
        }
        match self.rng.random_range(0..6) {
            0 => {
                let result = Err(match self.rng.random_bool(0.5) {
                    true => StartError::Refused("port is allocated".into()),
                    false => StartError::NoImage("no such image".into()),
                });
                self.deliver(delay, Event::Started { instance, result });
            }
            1 => self.deliver(25_000, fail("timed out")),
            // The container is created, but the result is lost.
            5 => self.after(
                delay,
                Occurrence::Create { epoch: u32::MAX, request, report: StartReport::Honest(0) },
            ),
            2 => {
                let delay = self.rng.random_range(1_000..20_000);
                let report = StartReport::Honest(10);
                self.after(delay, Occurrence::Create { epoch, request, report });
            }
            3 => {
                let report = StartReport::Denies(self.rng.random_range(0..2_000));
                self.after(delay, Occurrence::Create { epoch, request, report });
            }
            _ => {
                // The driver gives up, and the engine creates the container long after.
                self.deliver(20_000, fail("timed out"));
                let delay = self.rng.random_range(20_001..60_000);
                let report = StartReport::Denies(0);
                self.after(delay, Occurrence::Create { epoch: u32::MAX, request, report });
            }
        }
    }

    pub(super) fn create(&mut self, epoch: u32, request: &StartRequest, report: StartReport) {
        let instance = request.instance;
        if !self.engine.is_up {
            let result = Err(StartError::Unclear("engine away".into()));
            let event = Event::Started { instance, result };
            return self.after(1, Occurrence::Deliver { epoch, event });
        }
        // The driver removes a container with the same name and then creates; an engine that does so
        // much later finds the name in use, and refuses.
        let is_late = epoch != self.epoch;
        if is_late && self.engine.containers.values().any(|c| c.identity.name == request.name) {
            return;
        }
        let ready_at = Moment(self.now.0 + self.rng.random_range(5..400));
        let handle = self.engine.create(request, ready_at);
        let Some(container) = self.engine.containers.get_mut(&handle) else { return };
        container.is_late = is_late;
        container.is_stubborn = self.rng.random_bool(self.trouble);
        let address = container.address;
        let image = container.identity.image.clone();
        let revision = Revision { spec: container.identity.spec.clone(), image: image.clone() };
        if image.is_some_and(|image| self.engine.bad.contains(&image)) {
            // Some end before their first pass, some later.
            container.is_undisturbed = false;
            let exits_in = self.rng.random_range(0..20_000);
            self.after(exits_in, Occurrence::Exit { handle: handle.clone() });
        } else if self.image_is_bad {
            container.is_undisturbed = false;
            let exits_in = self.rng.random_range(0..600);
            self.after(exits_in, Occurrence::Exit { handle: handle.clone() });
        }
        let (delay, result) = match report {
            StartReport::Honest(delay) => (delay, Ok(Started { handle, address, revision })),
            StartReport::Denies(delay) => {
                (delay, Err(StartError::Unclear("connection reset".into())))
            }
        };
        let event = Event::Started { instance, result };
        self.after(delay, Occurrence::Deliver { epoch, event });
    }

    pub(super) fn exit(&mut self, handle: &Handle) {
        let Some(container) = self.engine.containers.get_mut(handle) else { return };
        if matches!(container.state, FoundState::Running(_)) {
            container.state = FoundState::Exited { exit_code: Some(1) };
            let instance = container.identity.instance;
            self.engine_says(instance, handle.clone(), Sighting::Died { exit_code: Some(1) });
        }
    }

    pub(super) fn begin_stop(&mut self, instance: InstanceId, handle: Handle, manner: StopManner) {
        let collected = self.engine.last_words(&handle).filter(|_| manner == StopManner::Collect);
        let last_words = collected.map(Box::new);
        let result = |result| Event::Stopped { instance, last_words, result };
        if !self.engine.is_up {
            return self.deliver(5, result(Err(EngineError::Away("no answer".into()))));
        }
        if self.is_trouble() {
            // The stop is refused, or its result is lost.
            if self.rng.random_bool(0.8) {
                self.deliver(50, result(Err(EngineError::Refused("device busy".into()))));
            }
            return;
        }
        let is_stubborn = self.engine.containers.get(&handle).is_some_and(|c| c.is_stubborn);
        let delay = match manner {
            StopManner::Graceful if is_stubborn => 10_000,
            StopManner::Graceful => self.rng.random_range(5..500),
            StopManner::Kill | StopManner::Collect => self.rng.random_range(5..50),
        };
        self.after(delay, Occurrence::Remove { handle });
        self.deliver(delay + 5, result(Ok(())));
    }

    pub(super) fn begin_reap(&mut self, handle: Handle) {
        if !self.engine.is_up {
            let result = Err(EngineError::Away("no answer".into()));
            return self.deliver(5, Event::Reaped { handle, result });
        }
        let delay = self.rng.random_range(0..200);
        self.after(delay, Occurrence::Remove { handle: handle.clone() });
        // Sometimes the event of the end is lost.
        if !(self.is_trouble() && self.rng.random_bool(0.1)) {
            self.deliver(delay + 5, Event::Reaped { handle, result: Ok(()) });
        }
    }

    pub(super) fn remove(&mut self, handle: &Handle) {
        if self.engine.is_up
            && let Some(container) = self.engine.containers.remove(handle)
        {
            let instance = container.identity.instance;
            self.engine_says(instance, handle.clone(), Sighting::Removed);
        }
    }

    /// Engine events arrive soon, late, or never.
    pub(super) fn engine_says(&mut self, instance: InstanceId, handle: Handle, sighting: Sighting) {
        if self.is_trouble() {
            return;
        }
        let delay = if self.is_trouble() { 2_000 } else { self.rng.random_range(0..10) };
        self.deliver(delay, Event::EngineSaw { instance, handle, sighting });
    }

    pub(super) fn probe_arrives(
        &mut self,
        epoch: u32,
        instance: InstanceId,
        address: std::net::SocketAddr,
    ) {
        let lost = self.rng.random_bool(self.trouble / 20.0);
        if lost {
            self.engine.disturb(instance);
            self.upstreams.disturb(address);
            // A lost heartbeat is mostly reported as failed; sometimes no result arrives at all.
            if self.rng.random_bool(0.1) {
                return;
            }
        }
        let outcome = match lost {
            true => ProbeOutcome::NoAnswer("lost".into()),
            false => match self.upstreams.answer_at(address, self.now) {
                Some(outcome) => outcome,
                None => self.engine.answer_at(address, self.now),
            },
        };
        let timed_out = matches!(&outcome, ProbeOutcome::Silent(_))
            || matches!(&outcome, ProbeOutcome::NoAnswer(why) if &**why != "refused");
        let slow = if self.is_trouble() { 399 } else { 5 };
        let delay = if timed_out { 399 } else { self.rng.random_range(0..slow) };
        let event = Event::Probed { instance, outcome };
        self.after(delay, Occurrence::Deliver { epoch, event });
    }
}
