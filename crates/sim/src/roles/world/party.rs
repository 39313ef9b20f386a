//! The occurrences of a simulated supervisor.

use crate::roles::{
    clock::MachineClock,
    occurrence::{Call, Occurrence, StoreMessage, Who},
    party::{POLL_MS, Party, Term, holder},
    world::World,
};
use ringmaster_core::{
    fleet::{
        desired::Desired,
        ids::InstanceId,
        message::{Action, Event},
        supervisor::Supervisor,
    },
    roles::{
        acknowledgements::Acknowledgements,
        ids::{Fence, ProcessId, Version},
        lease::{LeaseChange, Step, Stored},
        publication::{self, Publication},
    },
};
use std::collections::BTreeMap;

impl World {
    pub(super) fn begin_party(&mut self, index: usize) {
        let old = &self.parties[index];
        let (epoch, copy, is_cut) = (old.epoch + 1, old.copy.clone(), old.is_cut);
        let (offset, rate) = (self.draw(0, 100_000), self.draw(970, 1_031));
        let clock = MachineClock::new(offset, rate);
        let party = Party { copy, is_cut, ..Party::new(index, epoch, clock, self.now) };
        self.parties[index] = party;
        let who = Who::Supervisor(index, epoch);
        self.after(0, Occurrence::LeaseWakes(who, 0));
        self.after(0, Occurrence::Poll(who));
    }

    pub(super) fn lease_wakes(&mut self, index: usize, wish: u64) -> Result<(), String> {
        if self.parties[index].wishes != wish {
            return Ok(());
        }
        let now = self.parties[index].clock.at(self.now);
        let jitter = self.roll();
        let step = self.parties[index].lease.tick(now, jitter);
        self.lease_stepped(index, step)
    }

    pub(super) fn lease_stepped(&mut self, index: usize, step: Step) -> Result<(), String> {
        let who = Who::Supervisor(index, self.parties[index].epoch);
        if let Some(request) = step.send {
            self.call(who, Call::Lease(request));
        }
        match step.change {
            Some(LeaseChange::Won(fence)) => self.win(index, fence)?,
            Some(LeaseChange::Lost { fence, why }) => {
                self.remember(format!("{index} lost {}: {why:?}", fence.0));
                self.parties[index].term = None;
            }
            None => {}
        }
        if let Some(stored) = step.stored {
            self.fill_again(index, stored);
        }
        let party = &mut self.parties[index];
        party.wishes += 1;
        if let Some(wake_at) = step.wake_at {
            let (wish, moment) = (party.wishes, party.clock.when(wake_at));
            self.at(moment.max(self.now), Occurrence::LeaseWakes(who, wish));
        }
        Ok(())
    }

    fn win(&mut self, index: usize, fence: Fence) -> Result<(), String> {
        self.remember(format!("{index} won {}", fence.0));
        self.report.terms += 1;
        let (serial, now) = (self.report.terms, self.now);
        self.checker.won(fence, now)?;
        let party = &mut self.parties[index];
        party.term = Some(Term {
            fence,
            serial,
            core: None,
            acknowledgements: Acknowledgements::new(party.clock.at(now)),
            published: None,
            draining: BTreeMap::new(),
            writes: 0,
            wishes: 0,
        });
        let who = Who::Supervisor(index, party.epoch);
        self.call(who, Call::Load(Some(fence)));
        Ok(())
    }

    pub(super) fn supervisor_receives(
        &mut self,
        index: usize,
        message: StoreMessage,
    ) -> Result<(), String> {
        let now = self.parties[index].clock.at(self.now);
        match message {
            StoreMessage::Lease(id, reply) => {
                let jitter = self.roll();
                let step = self.parties[index].lease.replied(id, reply, now, jitter);
                self.lease_stepped(index, step)
            }
            StoreMessage::Loaded(term, loaded) => {
                self.loaded(index, term, loaded.map(|(version, desired)| (version, *desired)))
            }
            StoreMessage::Written(write, version, result) => {
                let party = &mut self.parties[index];
                if party.term.as_ref().is_none_or(|term| term.fence != version.fence) {
                    return Ok(());
                }
                let result = result.map(|desired| party.keep(version, *desired));
                match write {
                    Some(write) => {
                        let result = result.map_err(Into::into);
                        self.turn(index, Event::Persisted { write, result })
                    }
                    None => Ok(()),
                }
            }
            StoreMessage::Report(report) => {
                let fence = report.acknowledged.fence;
                if let Some(term) = &mut self.parties[index].term {
                    // A report that is older than the last one is refused.
                    let _ = term.acknowledgements.take(report, now);
                }
                let step = self.parties[index].lease.heard(fence, now);
                self.lease_stepped(index, step)?;
                self.check_drains(index)
            }
            StoreMessage::Table(_) | StoreMessage::Changed(..) => Ok(()),
        }
    }

    fn loaded(
        &mut self,
        index: usize,
        asked_in: Option<Fence>,
        loaded: Option<(Version, Desired)>,
    ) -> Result<(), String> {
        let now = self.now;
        let seed = self.draw(0, u64::MAX);
        let party = &mut self.parties[index];
        let acts = party.may_act(now);
        let version = loaded.as_ref().map(|(version, _)| *version);
        let waits = |term: &mut Term| {
            // A state read before the term began may be older than the last write of another term.
            term.core.is_none() && acts == Some(term.fence) && asked_in == Some(term.fence)
        };
        let begins = party.term.as_mut().is_some_and(waits);
        if begins {
            // The copy may be newer than the state of an emptied store.
            party.copy = loaded.or(party.copy.take());
        } else if let Some((version, desired)) = loaded {
            party.keep(version, desired);
        }
        let stored = party.copy.as_ref().map(|(_, desired)| desired.clone());
        let Some(term) = party.term.as_mut().filter(|_| begins) else { return Ok(()) };
        self.checker.loaded(version, &self.store)?;
        let mut settings = self.settings.clone();
        settings.seed = seed;
        let core = Supervisor::new(settings, stored, party.clock.at(now));
        term.core = Some(core.map_err(|error| format!("the state cannot be used: {error}"))?);
        self.turn(index, Event::Tick)
    }

    /// Writes the state and the table again that the store has lost.
    fn fill_again(&mut self, index: usize, stored: Stored) {
        let who = Who::Supervisor(index, self.parties[index].epoch);
        let party = &mut self.parties[index];
        let Some(term) = party.term.as_mut() else { return };
        let Some(core) = &term.core else { return };
        let table = term.published.clone().filter(|held| stored.table != Some(held.version()));
        let writes = core.state().writing.under_way.is_some();
        let lost = party
            .copy
            .as_ref()
            .filter(|(version, _)| !writes && stored.state.is_none_or(|stored| stored < *version));
        let state = lost.map(|(_, desired)| {
            term.writes += 1;
            let version = Version { fence: term.fence, number: term.writes };
            Call::Write(None, version, Box::new(desired.clone()))
        });
        if let Some(state) = state {
            self.report.refills += 1;
            self.call(who, state);
        }
        if let Some(table) = table {
            self.call(who, Call::Publish(Box::new(table), None));
        }
    }

    /// Checks what has no wake-up of its own.
    pub(super) fn poll(&mut self, index: usize) -> Result<(), String> {
        let who = Who::Supervisor(index, self.parties[index].epoch);
        self.after(POLL_MS, Occurrence::Poll(who));
        // A standby keeps a copy, and a new supervisor may not have received the state yet.
        let term = self.parties[index].term.as_ref();
        if term.is_none_or(|term| term.core.is_none()) {
            let asked_in = term.map(|term| term.fence);
            self.call(who, Call::Load(asked_in));
        }
        let now = self.parties[index].clock.at(self.now);
        if let Some(term) = &mut self.parties[index].term {
            let _ = term.acknowledgements.agreement(now);
        }
        self.check_drains(index)
    }

    fn check_drains(&mut self, index: usize) -> Result<(), String> {
        let now = self.parties[index].clock.at(self.now);
        let Some(term) = &mut self.parties[index].term else { return Ok(()) };
        let drained = |(instance, since): (&InstanceId, &Version)| {
            term.acknowledgements.is_drained(*instance, *since, now).then_some(*instance)
        };
        let drained: Vec<InstanceId> = term.draining.iter().filter_map(drained).collect();
        let live = term.acknowledgements.live(now).map(|known| known.report.balancer.clone());
        let live: Vec<ProcessId> = live.collect();
        for instance in drained {
            if let Some(term) = &mut self.parties[index].term {
                term.draining.remove(&instance);
            }
            self.checker.drained(instance, &live, &self.balancers)?;
            self.report.drains += 1;
            self.turn(index, Event::Drained { instance })?;
        }
        Ok(())
    }

    pub(super) fn core_wakes(
        &mut self,
        index: usize,
        serial: u64,
        wish: u64,
    ) -> Result<(), String> {
        match &self.parties[index].term {
            Some(term) if term.serial == serial && term.wishes == wish => {
                self.turn(index, Event::Tick)
            }
            _ => Ok(()),
        }
    }

    /// One turn of the core of a term, if it still lasts.
    pub(super) fn turn(&mut self, index: usize, event: Event) -> Result<(), String> {
        let now = self.now;
        let fence = self.parties[index].may_act(now);
        let party = &mut self.parties[index];
        let (local, who) = (party.clock.at(now), Who::Supervisor(index, party.epoch));
        let Some(term) = party.term.as_mut().filter(|term| Some(term.fence) == fence) else {
            return Ok(());
        };
        let Some(core) = &mut term.core else { return Ok(()) };
        let turn = core.handle(event, local);
        self.report.turns += 1;
        if !turn.is_quiet {
            self.publish(index)?;
        }
        for action in turn.actions {
            if !matches!(action, Action::Probe { .. } | Action::Respond(..)) {
                self.remember(format!("{index} -> {}", crate::trace::Brief(&action)));
            }
            self.carry_out(index, action)?;
        }
        let party = &mut self.parties[index];
        let Some(term) = &mut party.term else { return Ok(()) };
        term.wishes += 1;
        if let Some(wake_at) = turn.wake_at {
            let (serial, wish) = (term.serial, term.wishes);
            let moment = party.clock.when(wake_at).max(now);
            self.at(moment, Occurrence::CoreWakes(who, serial, wish));
        }
        Ok(())
    }

    fn publish(&mut self, index: usize) -> Result<(), String> {
        let party = &mut self.parties[index];
        let who = Who::Supervisor(index, party.epoch);
        let local = party.clock.at(self.now);
        let Some(term) = &mut party.term else { return Ok(()) };
        let Some(core) = &term.core else { return Ok(()) };
        let table = core.table();
        if term.published.as_ref().is_some_and(|held| held.table() == &table) {
            return Ok(());
        }
        let number = term.published.as_ref().map_or(1, |held| held.version().number + 1);
        let version = Version { fence: term.fence, number };
        let published = Publication::new(version, table)
            .map_err(|error| format!("a table that cannot be: {error}"))?;
        term.acknowledgements.published(published.table().ring.digest(), local);
        let delta = term.published.as_ref().and_then(|held| publication::delta(held, &published));
        term.published = Some(published.clone());
        self.begin_effect(index)?;
        self.checker.published(published.clone())?;
        self.call(who, Call::Publish(Box::new(published), delta.map(Box::new)));
        Ok(())
    }

    /// Checks every effect at its beginning.
    pub(super) fn begin_effect(&mut self, index: usize) -> Result<(), String> {
        let now = self.now;
        let Some(fence) = self.parties[index].may_act(now) else {
            return Err(format!("{index} begins an effect without a lease"));
        };
        let serial = self.parties[index].term.as_ref().map_or(0, |term| term.serial);
        let others = self.parties.iter().enumerate().filter(|(other, _)| *other != index);
        let acting = others.filter(|(_, party)| party.may_act(now).is_some());
        let acting: Vec<usize> = acting.map(|(other, _)| other).collect();
        let holder = holder(index, self.parties[index].epoch);
        self.checker.effect(&holder, fence, serial, &acting, &self.store, now)
    }

    pub(super) fn persist(&mut self, index: usize, action: Action) {
        let party = &mut self.parties[index];
        let who = Who::Supervisor(index, party.epoch);
        let (Some(term), Action::Persist { write, desired }) = (&mut party.term, action) else {
            return;
        };
        term.writes += 1;
        let version = Version { fence: term.fence, number: term.writes };
        self.call(who, Call::Write(Some(write), version, Box::new(desired)));
    }

    pub(super) fn await_drain(&mut self, index: usize, instance: InstanceId) {
        let Some(term) = &mut self.parties[index].term else { return };
        let since = term.published.as_ref().map(Publication::version).unwrap_or_default();
        term.draining.insert(instance, since);
    }

    pub(super) fn supervisors_known(&self) -> Vec<Who> {
        let running = self.parties.iter().enumerate().filter(|(_, party)| party.is_alive);
        running.map(|(index, party)| Who::Supervisor(index, party.epoch)).collect()
    }
}
