//! The world of one run: virtual time, the queue of occurrences, and their delivery.

mod balancer;
mod converged;
mod effects;
mod faults;
mod party;
mod store;

use std::{collections::VecDeque, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use ringmaster_core::{
    fleet::{
        ids::Moment,
        limits::Limits,
        message::{Event, ProbeOutcome},
        state::Keeper,
        supervisor::Settings,
        victim::VictimRule,
    },
    ring::{Placement, RingSettings, hash},
    roles::{arbiter::Arbiter, ids::Holder, lease::Timing},
};

use super::{
    Report, Scenario,
    balancer::{Balancer, READ_MS, REPORT_MS},
    check::Checker,
    clock::MachineClock,
    occurrence::{Call, Occurrence, Who},
    party::{Party, holder},
    store::Store,
};
use crate::{engine::Engine, queue::Queue};

/// One simulated world.
pub struct World {
    pub(super) scenario: Scenario,
    pub(super) settings: Settings,
    pub(super) now: Moment,
    rng: StdRng,
    pub(super) engine: Engine,
    pub(super) store: Store,
    pub(super) parties: Vec<Party>,
    pub(super) balancers: Vec<Balancer>,
    pub(super) checker: Checker,
    /// Probability that a message is late; some are lost.
    pub(super) trouble: f64,
    /// Probability that the engine is slow or loses an event.
    pub(super) engine_trouble: f64,
    pub(super) faults_ended: bool,
    pub(super) commands: u64,
    pub(super) report: Report,
    queue: Queue<Occurrence>,
    recent: VecDeque<(Moment, String)>,
}

const RECENT_MAX: usize = 80;

fn settings(scenario: &Scenario) -> Settings {
    let limits = Limits {
        probe_interval: Duration::from_secs(2),
        list_interval: Duration::from_secs(10),
        warm_interval: Duration::from_millis(200),
        ..Limits::default()
    };
    let ring = RingSettings {
        slots: 128,
        virtual_servers: 3,
        placement: Placement::Hash,
        ..RingSettings::default()
    };
    Settings {
        servers: Vec::new(),
        limits,
        keeper: Keeper::Ringmaster,
        ring,
        victim: VictimRule::ALL[0],
        replicas: scenario.replicas,
        seed: scenario.seed,
    }
}

impl World {
    /// A world at its start.
    pub fn new(scenario: &Scenario) -> Self {
        let mut rng = StdRng::seed_from_u64(scenario.seed);
        let mut clock =
            || MachineClock::new(rng.random_range(0..100_000), rng.random_range(970..1_031));
        let store = Store::new(Arbiter::new(Timing::default().ttl), clock());
        let parties =
            (0..scenario.supervisors).map(|index| Party::new(index, 0, clock(), Moment(0)));
        let parties = parties.collect();
        let mut world = Self {
            scenario: scenario.clone(),
            settings: settings(scenario),
            now: Moment(0),
            rng,
            engine: Engine::new(),
            store,
            parties,
            balancers: (0..scenario.balancers).map(|_| Balancer::new()).collect(),
            checker: Checker::default(),
            trouble: scenario.trouble,
            engine_trouble: scenario.trouble,
            faults_ended: false,
            commands: 0,
            report: Report::default(),
            queue: Queue::default(),
            recent: VecDeque::new(),
        };
        (0..scenario.supervisors).for_each(|index| world.begin_party(index));
        (0..scenario.balancers).for_each(|index| world.begin_balancer(index, false));
        world.schedule_faults();
        world
    }

    pub(super) fn after(&mut self, delay_ms: u64, occurrence: Occurrence) {
        self.at(Moment(self.now.0 + delay_ms), occurrence);
    }

    pub(super) fn at(&mut self, moment: Moment, occurrence: Occurrence) {
        self.queue.push(moment, occurrence);
    }

    pub(super) fn chance(&mut self, part: f64) -> bool {
        self.rng.random_bool(part.clamp(0.0, 1.0))
    }

    pub(super) fn roll(&mut self) -> f64 {
        self.rng.random()
    }

    /// At least `from`, less than `to`.
    pub(super) fn draw(&mut self, from: u64, to: u64) -> u64 {
        self.rng.random_range(from..to)
    }

    pub(super) fn choose<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.choose(&mut self.rng)
    }

    /// The identity of the process that sent a message, if it still runs.
    pub(super) fn holder(&self, who: Who) -> Option<Holder> {
        match who {
            Who::Supervisor(index, epoch) => Some(holder(index, epoch)),
            Who::Balancer(..) => None,
        }
    }

    pub(super) fn remember(&mut self, line: String) {
        let so_far = self.report.trace ^ self.now.0.rotate_left(32);
        self.report.trace = so_far.rotate_left(5) ^ hash::xxh3(line.as_bytes());
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((self.now, line));
    }

    /// Simulates until a moment.
    ///
    /// # Errors
    /// The first broken property.
    pub fn play(&mut self, until: Moment) -> Result<(), String> {
        while let Some((moment, occurrence)) = self.queue.pop_until(until) {
            self.now = moment;
            self.happen(occurrence).map_err(|broken| self.explain(&broken))?;
        }
        self.now = until;
        Ok(())
    }

    pub(super) fn explain(&self, broken: &str) -> String {
        let recent = self.recent.iter().map(|(at, line)| format!("{:>8} {line}", at.0));
        let recent: Vec<_> = recent.collect();
        let (seed, now) = (self.scenario.seed, self.now.0);
        format!("seed {seed} at {now} ms: {broken}\n{}", recent.join("\n"))
    }

    /// Drops occurrences of a run that has ended, and delays those of a frozen process.
    fn happen(&mut self, occurrence: Occurrence) -> Result<(), String> {
        let who = match &occurrence {
            Occurrence::Deliver(who, _)
            | Occurrence::LeaseWakes(who, _)
            | Occurrence::Poll(who)
            | Occurrence::CoreWakes(who, ..)
            | Occurrence::WorkersLoaded(who, _)
            | Occurrence::Reports(who)
            | Occurrence::Reads(who)
            | Occurrence::ClientRequest(who)
            | Occurrence::ClientResponse(who, _) => Some(*who),
            Occurrence::EffectResult(index, ..) => {
                Some(Who::Supervisor(*index, self.parties[*index].epoch))
            }
            _ => None,
        };
        match who {
            Some(Who::Supervisor(index, epoch)) => {
                let party = &self.parties[index];
                if !party.is_alive || party.epoch != epoch {
                    return Ok(());
                }
                if party.frozen_until > self.now {
                    self.at(party.frozen_until, occurrence);
                    return Ok(());
                }
                self.supervisor_does(index, occurrence)
            }
            Some(Who::Balancer(index, epoch)) => {
                let balancer = &self.balancers[index];
                if !balancer.is_alive || balancer.epoch != epoch {
                    return Ok(());
                }
                self.balancer_does(index, occurrence)
            }
            None => self.world_does(occurrence),
        }
    }

    fn supervisor_does(&mut self, index: usize, occurrence: Occurrence) -> Result<(), String> {
        match occurrence {
            Occurrence::Deliver(_, message) => self.supervisor_receives(index, message),
            Occurrence::LeaseWakes(_, wish) => self.lease_wakes(index, wish),
            Occurrence::Poll(_) => self.poll(index),
            Occurrence::CoreWakes(_, serial, wish) => self.core_wakes(index, serial, wish),
            Occurrence::EffectResult(_, serial, event) => {
                let term = self.parties[index].term.as_ref();
                match term.is_some_and(|term| term.serial == serial) {
                    true => self.turn(index, *event),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn balancer_does(&mut self, index: usize, occurrence: Occurrence) -> Result<(), String> {
        let who = Who::Balancer(index, self.balancers[index].epoch);
        match occurrence {
            Occurrence::Deliver(_, message) => self.balancer_receives(index, message),
            Occurrence::WorkersLoaded(_, held) => return self.workers_loaded(index, *held),
            Occurrence::Reports(_) => {
                self.send_report(index);
                self.after(REPORT_MS, Occurrence::Reports(who));
            }
            Occurrence::Reads(_) => {
                self.call(who, Call::ReadTable);
                self.after(READ_MS, Occurrence::Reads(who));
            }
            Occurrence::ClientRequest(_) => self.client_requests(index),
            Occurrence::ClientResponse(_, instance) => self.client_receives(index, instance),
            _ => {}
        }
        Ok(())
    }

    fn world_does(&mut self, occurrence: Occurrence) -> Result<(), String> {
        match occurrence {
            Occurrence::Call(who, call) => return self.called(who, call),
            Occurrence::Create(index, serial, request) => {
                return self.create(index, serial, &request);
            }
            Occurrence::Remove(handle) => self.remove(&handle),
            Occurrence::TakeList(index, serial, requested_at) => {
                self.take_list(index, serial, requested_at)
            }
            Occurrence::ProbeArrives(index, serial, instance, address) => {
                let outcome = self.engine.answer_at(address, self.now);
                let is_late = matches!(outcome, ProbeOutcome::Silent(_));
                let delay = if is_late { 399 } else { self.draw(1, 5) };
                let event = Box::new(Event::Probed { instance, outcome });
                self.after(delay, Occurrence::EffectResult(index, serial, event));
            }
            // Faults that were scheduled before the end of all faults are dropped.
            Occurrence::Fault(fault) if !self.faults_ended => return self.inflict(fault),
            _ => {}
        }
        Ok(())
    }
}
