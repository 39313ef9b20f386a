//! The simulated store: what it decides is the arbiter's; what reaches it, and when, is chance.

use ringmaster_core::{
    fleet::{desired::Desired, ids::Moment, message::WriteId},
    roles::{
        acknowledgements::Report,
        arbiter::Arbiter,
        ids::{Fence, RequestId, Version},
        lease::{Reply, Request},
        publication::{Delta, Publication},
    },
};

use super::{
    clock::Clock,
    world::{Occurrence, Who, World},
};

/// What a process asks the store for.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Lease(Request),
    /// In which term, if in one.
    Load(Option<Fence>),
    /// `None`: the state again, because the store had lost it.
    Write(Option<WriteId>, Version, Box<Desired>),
    Publish(Box<Publication>, Option<Box<Delta>>),
    ReadTable,
    Report(Report),
}

/// What the store tells a process.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Lease(RequestId, Reply),
    Loaded(Option<Fence>, Option<(Version, Box<Desired>)>),
    Written(Option<WriteId>, Version, Result<Box<Desired>, String>),
    Table(Option<Box<Publication>>),
    /// There is a new table, and how it is made from the one before.
    Changed(Version, Option<Box<Delta>>),
    Report(Report),
}

pub(super) struct Store {
    pub(super) arbiter: Arbiter,
    pub(super) clock: Clock,
    pub(super) state: Option<(Version, Desired)>,
    pub(super) table: Option<Publication>,
    /// It answers nothing before this moment, and then all of it.
    pub(super) frozen_until: Moment,
    /// It refuses connections until this moment.
    pub(super) away_until: Moment,
    pub(super) emptied_at: Option<Moment>,
}

impl Store {
    pub(super) fn new(arbiter: Arbiter, clock: Clock) -> Self {
        Self {
            arbiter,
            clock,
            state: None,
            table: None,
            frozen_until: Moment(0),
            away_until: Moment(0),
            emptied_at: None,
        }
    }

    pub(super) fn empty(&mut self, now: Moment) {
        self.arbiter.empty();
        self.state = None;
        self.table = None;
        self.emptied_at = Some(now);
    }
}

impl World {
    /// A process sends something to the store, which it may never reach.
    pub(super) fn call(&mut self, who: Who, call: Call) {
        if self.store.away_until > self.now {
            // Refused at once.
            if let Call::Lease(request) = call {
                self.after(1, Occurrence::Told(who, Told::Lease(request.id, Reply::Failed)));
            }
            return;
        }
        if let Some(delay) = self.way(who) {
            self.after(delay, Occurrence::Call(who, call));
        }
    }

    /// How long a message takes between a process and the store; `None`: it is lost.
    fn way(&mut self, who: Who) -> Option<u64> {
        if self.is_cut(who) || self.chance(self.trouble / 3.0) {
            return None;
        }
        Some(match () {
            () if self.chance(self.trouble / 5.0) => self.draw(50, 4_000),
            () if self.chance(self.trouble) => self.draw(5, 300),
            () => self.draw(1, 5),
        })
    }

    fn tell(&mut self, who: Who, told: Told) {
        if let Some(delay) = self.way(who) {
            self.after(delay, Occurrence::Told(who, told));
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
                self.tell(who, Told::Lease(request.id, reply));
            }
            Call::Load(term) => {
                let state = self.store.state.clone();
                let loaded = state.map(|(version, desired)| (version, Box::new(desired)));
                self.tell(who, Told::Loaded(term, loaded));
            }
            Call::Write(write, version, desired) => self.write(who, write, version, *desired)?,
            Call::Publish(publication, delta) => {
                let now = self.store.clock.at(self.now);
                if self.store.arbiter.publish(publication.version(), now).is_ok() {
                    let version = publication.version();
                    self.store.table = Some(*publication);
                    for who in self.balancers_known() {
                        self.tell(who, Told::Changed(version, delta.clone()));
                    }
                }
            }
            Call::ReadTable => {
                let table = self.store.table.clone().map(Box::new);
                self.tell(who, Told::Table(table));
            }
            Call::Report(report) => {
                for who in self.supervisors_known() {
                    self.tell(who, Told::Report(report.clone()));
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
                self.judge.written(self.store.state.as_ref(), version, generation)?;
                self.store.state = Some((version, desired.clone()));
                Ok(Box::new(desired))
            }
            Err(refusal) => Err(refusal.to_string()),
        };
        self.tell(who, Told::Written(write, version, result));
        Ok(())
    }
}
