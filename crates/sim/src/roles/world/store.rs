//! The messages to and from the simulated store.

use crate::roles::{
    occurrence::{Call, Occurrence, StoreMessage, Who},
    world::World,
};
use ringmaster_core::{
    fleet::{desired::Desired, message::WriteId},
    roles::{ids::Version, lease::Reply},
};

impl World {
    /// Sends a message to the store, which may be lost.
    pub(super) fn call(&mut self, who: Who, call: Call) {
        if self.store.away_until > self.now {
            // The connection is refused at once.
            if let Call::Lease(request) = call {
                self.after(
                    1,
                    Occurrence::Deliver(who, StoreMessage::Lease(request.id, Reply::Failed)),
                );
            }
            return;
        }
        if let Some(delay) = self.delay_of_message(who) {
            self.after(delay, Occurrence::Call(who, call));
        }
    }

    /// The delay of a message between a process and the store; `None` if it is lost.
    fn delay_of_message(&mut self, who: Who) -> Option<u64> {
        if self.is_cut(who) || self.chance(self.trouble / 3.0) {
            return None;
        }
        Some(match () {
            () if self.chance(self.trouble / 5.0) => self.draw(50, 4_000),
            () if self.chance(self.trouble) => self.draw(5, 300),
            () => self.draw(1, 5),
        })
    }

    fn send(&mut self, who: Who, message: StoreMessage) {
        if let Some(delay) = self.delay_of_message(who) {
            self.after(delay, Occurrence::Deliver(who, message));
        }
    }

    pub(super) fn called(&mut self, who: Who, call: Call) -> Result<(), String> {
        if self.store.frozen_until > self.now {
            self.at(self.store.frozen_until, Occurrence::Call(who, call));
            return Ok(());
        }
        if self.store.away_until > self.now {
            return Ok(());
        }
        self.report.messages += 1;
        match call {
            Call::Lease(request) => {
                let Some(holder) = self.holder(who) else { return Ok(()) };
                let now = self.store.clock.at(self.now);
                let reply = self.store.arbiter.ask(&holder, &request, now);
                self.send(who, StoreMessage::Lease(request.id, reply));
            }
            Call::Load(term) => {
                let state = self.store.state.clone();
                let loaded = state.map(|(version, desired)| (version, Box::new(desired)));
                self.send(who, StoreMessage::Loaded(term, loaded));
            }
            Call::Write(write, version, desired) => self.write(who, write, version, *desired)?,
            Call::Publish(publication, delta) => {
                let now = self.store.clock.at(self.now);
                if self.store.arbiter.publish(publication.version(), now).is_ok() {
                    let version = publication.version();
                    self.store.table = Some(*publication);
                    for who in self.balancers_known() {
                        self.send(who, StoreMessage::Changed(version, delta.clone()));
                    }
                }
            }
            Call::ReadTable => {
                let table = self.store.table.clone().map(Box::new);
                self.send(who, StoreMessage::Table(table));
            }
            Call::Report(report) => {
                for who in self.supervisors_known() {
                    self.send(who, StoreMessage::Report(report.clone()));
                }
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        who: Who,
        write: Option<WriteId>,
        version: Version,
        desired: Desired,
    ) -> Result<(), String> {
        let (generation, now) = (desired.generation(), self.store.clock.at(self.now));
        let result = match self.store.arbiter.write(version, generation, now) {
            Ok(()) => {
                self.checker.written(self.store.state.as_ref(), version, generation)?;
                self.store.state = Some((version, desired.clone()));
                Ok(Box::new(desired))
            }
            Err(refusal) => Err(refusal.to_string()),
        };
        self.send(who, StoreMessage::Written(write, version, result));
        Ok(())
    }
}
