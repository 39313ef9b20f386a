//! The supervisor: the whole surface of the control core. An event and a moment go in; actions,
//! notes and the time of the next wake-up come out. It never does anything by itself.
//!
//! [`Supervisor::handle`] hands an event to one concern, then plans ([`super::plan`]) and hands each
//! step to one, until nothing is left to do. A concern is functions over the [`State`] and a context
//! with what they give out. No concern calls another:
//!
//! | concern | is about |
//! |---|---|
//! | `health` | heartbeats, and the panic of a fleet of which most fail |
//! | `lifecycle` | starts, stops, the removal of strays, the end of a roll |
//! | `operations` | commands: `add`, `remove`, `change`, and the write that commits them |
//! | `inventory` | the list of all instances, boot, what the engine reports by itself |
//! | `servers` | the places of registered servers |
//! | `shutdown` | the end of the balancer's run |
//!
//! What they have in common lies below them: `transitions` (an instance is admitted, ejected,
//! drained, or has failed, each in one place, with what is reported about it) and the transitions
//! of [`State`] and of an instance themselves, which emit nothing.

mod context;
mod health;
mod inventory;
mod lifecycle;
mod operations;
mod servers;
mod settings;
mod shutdown;
#[cfg(test)]
mod tests;
mod transitions;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

pub use self::settings::Settings;
use self::{
    context::{Chance, Context, Outbox},
    health::{panic, probe},
    inventory::{listing, sightings},
    lifecycle::{roll, start, stop, stray},
    operations::{commit, finish, queue},
    servers::resolve,
    transitions::{admit, drain, eject, suspect},
};
use super::{
    desired::Desired,
    ids::Moment,
    message::{Event, ProbeOutcome, Turn},
    notes::Note,
    observed::{EjectReason, Phase, of_replica},
    plan::{self, Step, plan},
    roll::Roll,
    state::{Boot, Engine, Finish, ListSchedule, State, WriteSchedule},
    table::{RoutingTable, Target},
};
use crate::ring::RingError;

/// The control core of one fleet.
#[derive(Debug)]
pub struct Supervisor {
    state: State,
    settings: Settings,
    chance: Chance,
    outbox: Outbox,
    /// Until when only heartbeats are to be done, if nothing else happens; `None`: a whole plan has
    /// to be made first.
    settled: Option<Settled>,
}

/// What the last whole plan left.
#[derive(Clone, Copy, Debug)]
struct Settled {
    /// The earliest deadline that is no heartbeat's.
    until: Option<Moment>,
    /// When the next heartbeat is due.
    probe_at: Option<Moment>,
}

/// More rounds of planning than any turn can need; beyond it, steps undo each other.
const ROUNDS_MAX: usize = 64;

impl Supervisor {
    /// Starts to supervise a fleet, from its stored state if there is one. Ring settings that
    /// differ from those that were configured before win; a ring that was changed since stays.
    ///
    /// # Errors
    /// Ring settings that cannot be, or on which the stored replicas find no room.
    pub fn new(
        settings: Settings,
        stored: Option<Desired>,
        now: Moment,
    ) -> Result<Self, RingError> {
        let is_stored = stored.is_some();
        let mut notes = Vec::new();
        let stored = match stored {
            Some(stored) => stored,
            None => Desired::empty(settings.ring.clone())?,
        };
        let changed = stored.configured() != &settings.ring;
        let desired = if stored.ring().settings() == &settings.ring || !changed {
            stored.clone()
        } else {
            let desired = stored.on_ring(settings.ring.clone())?;
            notes.push(Note::RingChanged { change: Box::new(stored.change_to(&desired)) });
            desired
        };
        let desired = desired.configured_as(settings.ring.clone());
        let state = State {
            next_id: desired.next_id(),
            limits: settings.limits.clone(),
            keeper: settings.keeper,
            boot: Boot::AwaitingList,
            is_stored,
            desired,
            instances: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            backoffs: BTreeMap::new(),
            wanted: None,
            roll: Roll::default(),
            panic_since: None,
            calm_since: None,
            reaping: BTreeMap::new(),
            engine: Engine::Up,
            listing: ListSchedule::new(now),
            writing: WriteSchedule::new(changed, now),
            operation: None,
            queue: VecDeque::new(),
            foreign_names: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            adopted: BTreeSet::new(),
            shutdown: None,
            departed: BTreeMap::new(),
            endings: Arc::default(),
        };
        let chance = Chance::new(settings.seed);
        let outbox = Outbox { actions: Vec::new(), notes };
        Ok(Self { state, settings, chance, outbox, settled: None })
    }

    /// Takes in one event, and says what is to be done.
    ///
    /// At rest nearly all events are heartbeats that pass, and the time for the next ones. They
    /// change nothing that another rule of the plan looks at, so only the heartbeats are planned
    /// then: a thousand replicas would keep a core busy otherwise.
    pub fn handle(&mut self, event: Event, now: Moment) -> Turn {
        let is_quiet = self.take_in(event, now) && self.state.shutdown.is_none();
        match self.settled.filter(|settled| is_quiet && settled.until.is_none_or(|at| at > now)) {
            Some(settled) => self.quiet_turn(settled, now),
            None => {
                let (state, cx) = self.at(now);
                shutdown::follow(state, &cx);
                self.whole_turn(now)
            }
        }
    }

    fn quiet_turn(&mut self, mut settled: Settled, now: Moment) -> Turn {
        if settled.probe_at.is_some_and(|at| at <= now) {
            for step in plan::probes(&self.state, now).steps {
                self.carry_out(step, now);
            }
            settled.probe_at = plan::probes(&self.state, now).probe_at;
        }
        self.settled = Some(settled);
        self.turn(plan::earlier(settled.until, settled.probe_at), true)
    }

    fn whole_turn(&mut self, now: Moment) -> Turn {
        self.settled = None;
        for _ in 0..ROUNDS_MAX {
            let plan = plan(&self.state, now);
            if plan.steps.is_empty() {
                let (until, probe_at) = (plan.settled_until, plan.probe_at);
                self.settled = Some(Settled { until, probe_at });
                return self.turn(plan.wake_at(), false);
            }
            for step in plan.steps {
                self.carry_out(step, now);
            }
        }
        debug_assert!(false, "steps undo each other: {:?}", plan(&self.state, now).steps);
        // Never spin: go on at the next event or second.
        self.turn(Some(now + std::time::Duration::from_secs(1)), false)
    }

    fn turn(&mut self, wake_at: Option<Moment>, is_quiet: bool) -> Turn {
        Turn {
            actions: std::mem::take(&mut self.outbox.actions),
            notes: std::mem::take(&mut self.outbox.notes),
            wake_at,
            is_quiet,
        }
    }

    /// The state, and what a concern works with beside it.
    fn at(&mut self, now: Moment) -> (&mut State, Context<'_>) {
        let Self { state, settings, chance, outbox, .. } = self;
        (state, Context { now, settings, chance, outbox })
    }

    /// Hands an event to its concern; whether it was nothing but a heartbeat as it should be.
    fn take_in(&mut self, event: Event, now: Moment) -> bool {
        if let Event::Probed { instance, outcome: ProbeOutcome::Passed } = &event
            && let Some(routine) = probe::passed_as_ever(&mut self.state, *instance, now)
        {
            if let Some(settled) = self.settled.as_mut().filter(|_| routine.next.is_some()) {
                settled.probe_at = plan::earlier(settled.probe_at, routine.next);
            }
            return true;
        }
        let (state, mut cx) = self.at(now);
        let cx = &mut cx;
        match event {
            Event::Tick => return true,
            Event::RequestFailed { instance, kind } => {
                return !suspect::suspect(state, cx, instance, kind);
            }
            Event::Probed { instance, outcome } => probe::probed(state, cx, instance, &outcome),
            Event::Scale(command, request) => queue::take(state, cx, command, request),
            Event::Loaded(in_flight) => state.in_flight = in_flight,
            Event::Started { instance, result } => start::ended(state, cx, instance, result),
            Event::Stopped { instance, last_words, result } => {
                stop::stopped(state, cx, instance, last_words.map(|words| *words), result);
            }
            Event::Reaped { handle, result } => stray::reaped(state, cx, handle, result),
            Event::Drained { instance } => stop::drained(state, cx, instance),
            Event::EngineSaw { instance, handle, sighting } => {
                sightings::saw(state, cx, instance, &handle, &sighting);
            }
            Event::Listed { requested_at, result } => {
                listing::listed(state, cx, requested_at, result)
            }
            Event::StreamChanged => state.list_soon(now),
            Event::Resolved { instance, result } => resolve::resolved(state, cx, instance, result),
            Event::Persisted { write, result } => commit::persisted(state, cx, write, result),
            Event::ShutDown { stop_replicas } => shutdown::begin(state, cx, stop_replicas),
        }
        false
    }

    /// Hands a step of the plan to its concern.
    fn carry_out(&mut self, step: Step, now: Moment) {
        let (state, mut cx) = self.at(now);
        let cx = &mut cx;
        match step {
            Step::Probe(id) => probe::send(state, cx, id),
            Step::List => listing::request(state, cx),
            Step::Persist => commit::write_again(state, cx),
            Step::ForgetWrite => commit::forget_write(state, cx),
            Step::Admit { instance, instead_of } => {
                if let Some(old) = instead_of {
                    drain::drain(state, cx, old);
                }
                admit::admit(state, cx, instance);
            }
            Step::Eject(id) => eject::eject_failing(state, cx, id),
            Step::ReadmitAsLast(id) => admit::readmit_failing(state, cx, id),
            Step::Drain(id) => drain::drain(state, cx, id),
            Step::EjectDrained(id) => eject::eject_drained(state, cx, id),
            Step::Undrain(id) => admit::undrain(state, cx, id),
            Step::Resolve(id) => resolve::resolve(state, cx, id),
            Step::Stop(id, manner) => drain::release(state, cx, id, manner),
            Step::RequestStop(id, manner) => stop::request_stop(state, cx, id, manner),
            Step::GiveUp(id) => start::give_up(state, cx, id),
            Step::ForgetStart(id) => start::forget(state, cx, id),
            Step::Start(replica, cause) => start::next(state, cx, replica, cause),
            Step::RequestReap(handle) => stray::request_reap(state, cx, handle),
            Step::ForgetReap(handle) => stray::forget_reap(state, &handle),
            Step::BeginPanic { failing, living } => panic::begin(state, cx, failing, living),
            Step::CalmPanic(calm_since) => panic::calm(state, calm_since),
            Step::EndPanic => panic::end(state, cx),
            Step::CompleteRoll => roll::complete(state, cx),
            Step::BeginCommand => queue::begin(state, cx),
            Step::CommitCommand => commit::commit(state, cx),
            Step::FailCommand => finish::fail_overdue(state, cx),
            Step::FinishCommand => finish::finish(state, cx),
        }
    }

    /// How the shutdown ended; `None` while it goes on, and when none was asked for.
    pub fn finish(&self) -> Option<Finish> {
        self.state.finish()
    }

    /// All that is known.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the data plane is to read; derived.
    pub fn table(&self) -> RoutingTable {
        let desired = &self.state.desired;
        let targets = desired.replicas().iter().map(|replica| {
            let mut siblings = of_replica(&self.state.instances, replica.id());
            siblings.find_map(|(instance, known)| match known.phase {
                Phase::Admitted { address, .. } => {
                    Some(Target { instance, name: known.name.clone(), address })
                }
                _ => None,
            })
        });
        let may_finish = |phase: &Phase| match phase {
            Phase::Draining { .. } => true,
            Phase::Stopping { may_finish, .. } => *may_finish,
            Phase::Ejected { reason, .. } => EjectReason::can_finish(*reason),
            _ => false,
        };
        let instances = self.state.instances.iter();
        RoutingTable {
            generation: desired.generation(),
            ring: Arc::clone(desired.ring()),
            targets: targets.collect(),
            finishing: instances.filter(|(_, i)| may_finish(&i.phase)).map(|(id, _)| *id).collect(),
        }
    }
}
