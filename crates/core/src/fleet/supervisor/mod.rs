//! The supervisor: the whole surface of the control core. An event and a moment go in; actions,
//! notes and the time of the next wake-up come out. It never does anything by itself.
//!
//! `events` says what an event changes, [`super::plan`] what follows from the new state, and
//! `steps` how a step changes the state and which action it becomes.

mod context;
mod health;
mod inventory;
mod lifecycle;
mod operations;
mod servers;
mod shutdown;
#[cfg(test)]
mod tests;
mod transitions;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use rand::{SeedableRng, rngs::StdRng};

use super::{
    desired::Desired,
    ids::{Moment, ReplicaName},
    limits::Limits,
    message::{Action, Event, Turn, WriteId},
    notes::Note,
    observed::{EjectReason, Phase},
    plan::{self, plan},
    roll::Roll,
    server::Registration,
    state::{Boot, Engine, ListSchedule, State, WriteSchedule},
    table::{RoutingTable, Target},
    values::Keeper,
    victim::VictimRule,
};
use crate::ring::{RingError, RingSettings};

/// What a supervisor is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bounds.
    pub limits: Limits,
    /// Whether there is a driver that starts replicas; [`Keeper::Others`]: there is none.
    pub keeper: Keeper,
    /// The registered servers of the configuration.
    pub servers: Vec<Registration>,
    /// The ring.
    pub ring: RingSettings,
    /// The size of a fleet without state.
    pub replicas: usize,
    /// Who leaves when nobody is named.
    pub victim: VictimRule,
    /// For names, victims, and the jitter of back-offs.
    pub seed: u64,
}

/// Chance: one generator per purpose, so that a new draw in one place does not shift the others.
#[derive(Debug)]
struct Chance {
    names: StdRng,
    /// Names that a dry run has shown: the next to be drawn.
    undrawn: VecDeque<ReplicaName>,
    jitter: StdRng,
}

/// The control core of one fleet.
#[derive(Debug)]
pub struct Supervisor {
    state: State,
    settings: Settings,
    chance: Chance,
    /// Whether `state.desired` came from a state file.
    is_stored: bool,
    /// Notes to give out with the next turn.
    notes: Vec<Note>,
    /// Actions to give out with the next turn.
    actions: Vec<Action>,
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
            listing: ListSchedule { asked: None, last: None, next: now },
            writing: WriteSchedule {
                under_way: None,
                next: WriteId(1),
                stale: changed,
                not_before: now,
                is_first: false,
                hangs: false,
            },
            operation: None,
            queue: VecDeque::new(),
            foreign_names: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            adopted: BTreeSet::new(),
            shutdown: None,
            departed: BTreeMap::new(),
            endings: Arc::default(),
        };
        let chance = Chance {
            names: StdRng::seed_from_u64(settings.seed),
            undrawn: VecDeque::new(),
            jitter: StdRng::seed_from_u64(settings.seed.rotate_left(32) ^ 1),
        };
        Ok(Self { state, settings, chance, is_stored, notes, actions: Vec::new(), settled: None })
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
                self.follow_shutdown(now);
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
            actions: std::mem::take(&mut self.actions),
            notes: std::mem::take(&mut self.notes),
            wake_at,
            is_quiet,
        }
    }

    /// All that is known.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the data plane is to read; derived.
    pub fn table(&self) -> RoutingTable {
        let desired = &self.state.desired;
        let targets = desired.replicas().iter().map(|replica| {
            let mut siblings = super::observed::of_replica(&self.state.instances, replica.id());
            siblings.find_map(|(instance, known)| match known.phase {
                Phase::Admitted { address, .. } => {
                    Some(Target { instance, name: known.name.clone(), address })
                }
                _ => None,
            })
        });
        let may_finish = |phase: &Phase| match phase {
            Phase::Draining { .. } => true,
            Phase::Stopping { in_peace, .. } => *in_peace,
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

    fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }
}
