//! The effects of actions in the engine, also of a supervisor that has lost the lease.

use ringmaster_core::fleet::{
    command::CommandResult,
    ids::{Handle, InstanceId, Moment},
    message::{Action, Event, Revision, Sighting, StartError, StartRequest, Started, StopManner},
};

use crate::roles::{occurrence::Occurrence, world::World};

impl World {
    /// Carries out one action of the core of a term.
    pub(super) fn carry_out(&mut self, index: usize, action: Action) -> Result<(), String> {
        let is_effect = !matches!(action, Action::Respond(..) | Action::AwaitDrain { .. });
        if is_effect {
            self.begin_effect(index)?;
        }
        let serial = self.parties[index].term.as_ref().map_or(0, |term| term.serial);
        match action {
            Action::Start(request) => {
                self.report.starts += 1;
                let slow = if self.is_engine_slow() { 12_000 } else { 300 };
                let delay = self.draw(20, slow);
                self.after(delay, Occurrence::Create(index, serial, Box::new(request)));
            }
            Action::Stop { instance, handle, manner } => {
                let last_words = self.engine.last_words(&handle);
                let last_words = last_words.filter(|_| manner == StopManner::Collect).map(Box::new);
                let delay = self.remove_soon(handle);
                let event = Event::Stopped { instance, last_words, result: Ok(()) };
                self.result(index, serial, delay, event);
            }
            Action::Reap { handle } => {
                let delay = self.remove_soon(handle.clone());
                self.result(index, serial, delay, Event::Reaped { handle, result: Ok(()) });
            }
            Action::List { requested_at } => {
                let taken_in = self.draw(0, 50);
                self.after(taken_in, Occurrence::TakeList(index, serial, requested_at));
            }
            Action::Probe { instance, address, .. } => {
                self.after(1, Occurrence::ProbeArrives(index, serial, instance, address));
            }
            Action::Resolve { host, .. } => {
                return Err(format!("no server is registered, and '{host}' is looked up"));
            }
            Action::AwaitDrain { instance } => self.await_drain(index, instance),
            Action::Persist { .. } => self.persist(index, action),
            Action::Respond(_, answer) => self.answered(&answer),
        }
        Ok(())
    }

    fn answered(&mut self, answer: &CommandResult) {
        match answer {
            Ok(_) => self.report.commands_done += 1,
            Err(_) => self.report.commands_refused += 1,
        }
    }

    fn is_engine_slow(&mut self) -> bool {
        self.chance(self.engine_trouble)
    }

    /// Sends the result of an effect, unless it is lost.
    fn result(&mut self, index: usize, serial: u64, delay: u64, event: Event) {
        if !self.chance(self.engine_trouble / 5.0) {
            self.after(delay, Occurrence::EffectResult(index, serial, Box::new(event)));
        }
    }

    fn remove_soon(&mut self, handle: Handle) -> u64 {
        let slow = if self.is_engine_slow() { 8_000 } else { 300 };
        let delay = self.draw(5, slow);
        self.after(delay, Occurrence::Remove(handle));
        delay + 5
    }

    pub(super) fn create(
        &mut self,
        index: usize,
        serial: u64,
        request: &StartRequest,
    ) -> Result<(), String> {
        let instance = request.instance;
        if self.engine.refuses(request) {
            let result = Err(StartError::NameTaken(request.name.clone()));
            self.result(index, serial, 5, Event::Started { instance, result });
            return Ok(());
        }
        for bearer in self.engine.running_bearers(&request.name) {
            self.checker.displaced(bearer, instance)?;
        }
        let is_over = self.parties[index].term.as_ref().is_none_or(|term| term.serial != serial);
        self.report.late_starts += u64::from(is_over);
        let ready_at = Moment(self.now.0 + self.draw(5, 400));
        let handle = self.engine.create(request, ready_at);
        let Some(container) = self.engine.containers.get(&handle) else { return Ok(()) };
        let (address, identity) = (container.address, &container.identity);
        let revision = Revision { spec: identity.spec.clone(), image: identity.image.clone() };
        let result = match self.chance(self.engine_trouble / 5.0) {
            true => Err(StartError::Unclear("connection reset".into())),
            false => Ok(Started { handle, address, revision }),
        };
        self.result(index, serial, 5, Event::Started { instance, result });
        Ok(())
    }

    pub(super) fn remove(&mut self, handle: &Handle) {
        if let Some(container) = self.engine.containers.remove(handle) {
            let instance = container.identity.instance;
            self.engine_says(instance, handle.clone(), Sighting::Removed);
        }
    }

    /// Sends an engine event to all supervisors; some do not receive it.
    pub(super) fn engine_says(&mut self, instance: InstanceId, handle: Handle, sighting: Sighting) {
        for index in 0..self.parties.len() {
            let serial = self.parties[index].term.as_ref().map_or(0, |term| term.serial);
            let (handle, sighting) = (handle.clone(), sighting.clone());
            let delay = self.draw(1, 20);
            self.result(index, serial, delay, Event::EngineSaw { instance, handle, sighting });
        }
    }

    pub(super) fn take_list(&mut self, index: usize, serial: u64, requested_at: Moment) {
        let result = Ok(self.engine.listing());
        let slow = if self.is_engine_slow() { 3_000 } else { 50 };
        let delay = self.draw(1, slow);
        self.result(index, serial, delay, Event::Listed { requested_at, result });
    }
}
