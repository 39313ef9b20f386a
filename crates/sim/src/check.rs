//! The properties: safety at every turn, and what must hold once all faults have ended.
//!
//! Each has been seen failing, by breaking the core on purpose:
//!
//! | property | a mutation that shows it failing |
//! |---|---|
//! | two targets share an address | `evict_holders` evicts none |
//! | a replica is admitted twice | the plan admits a ready one beside an admitted one |
//! | a failing instance beside another | the plan does not eject the failing |
//! | the table is empty though one lives | no `ReadmitAsLast`; ejecting the last passing one too |
//! | the table lags behind | `table` also takes the warming |
//! | in the table and out of it | admitted ones are `finishing` |
//! | enters without having passed | `is_ready` without passes; `readmit` at any result; a commit admits unpassed newcomers |
//! | enters paused or dead | a passed heartbeat readmits a paused one |
//! | of no use, and stays | joining instances are kept during their rollback |
//! | starts beside a start | the plan ignores `coming`; beside a healthy one: a current instance is rolled |
//! | two replicas roll at once | the plan ignores its other steps, or instances that start |
//! | too many starts, stops | the plan ignores the budget |
//! | too many living replaced at once, replaced in a panic | an allowance of all of them |
//! | rolls on though it was stopped | the plan ignores the rejected revision |
//! | heals from what is on trial | healing starts the wanted revision |
//! | a quiet turn leaves | a failed heartbeat taken for quiet |
//! | does not inherit its slots | a start's positions reversed |
//! | is started twice | the next incarnation counted from the committed one only |
//! | starts before the state is on disk | a first fleet does not wait for its first write |
//! | was healthy (ejected, died, stopped) | a failed request ejects; an event counts for every container with the same labels; a serving one is a leftover; a list reaps ours, is stale, or knows better than a later start |
//! | serves, and is ended | each list reaps the first that passes |
//! | the ring changed without a commit | a death removes its replica |
//! | moves between those who stay | a removal swaps positions of others |
//! | more than the minimum moves | the minimum computed a tenth too small |
//! | another fleet after a restart | placing anew at each start; reading labels in spite of a state file |
//! | added before it was on disk | a commit takes effect at once, or by the result of a lost write |
//! | removed before it was gone | `Removed` in spite of what is left |
//! | given up early | a removal is finished at once |
//! | a ring that is not on disk | a change takes effect when it is accepted |
//! | changed who there is | a weight of 3 drops its replica |
//! | is drained, and in the table | the plan sets aside none |
//! | moves keys (a drain) | a drained replica loses weight |
//! | steps undo each other | a registered server that fails gets a successor |
//! | answered twice | answering twice |
//! | a command is stuck, never answered | a rollback is never finished; a lost write is waited for |
//! | no wake-up was asked for | `Clock::is_due` remembers the last deadline only, or none |
//! | planning again gives steps | one round of planning only |
//! | not silent | persisting, or noting, at every list; `stale` never cleared |
//! | not converged | strays not reaped; never rolling; failing ones never replaced; stops not tried again; lost starts waited for |

mod commands;
mod converged;
mod healthy;
mod limits;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ringmaster_core::{
    fleet::{
        command::{CommandId, Request},
        desired::Desired,
        ids::{Handle, InstanceId, Moment},
        message::{Action, Event, ProbeOutcome, Sighting, Turn},
        notes::{Note, StartCause},
        observed::{EjectReason, Health, Instance, Phase, of_replica},
        operation::{AddStage, Operation},
        plan::plan,
        state::{Boot, State},
        supervisor::{Settings, Supervisor},
    },
    ring::Ring,
};

use super::{engine::Engine, upstreams::Upstreams};

/// Checks the properties of one run.
pub(super) struct Checker {
    settings: Settings,
    pending: BTreeMap<CommandId, (Request, Moment)>,
    /// When the last turn asked to be woken; `None` before the first turn.
    wake_at: Option<Option<Moment>>,
    is_silent: bool,
    before: Before,
    /// The ring that a restarted balancer must have.
    expected: Option<Desired>,
    /// Reported passes in a row of instances that are not in the table.
    passed: BTreeMap<InstanceId, u32>,
    /// Paused or dead by the last event of the engine.
    out_of_action: BTreeSet<Handle>,
    /// Instances that this run has started.
    started: BTreeSet<InstanceId>,
    /// Instances that a roll of this run has started.
    rolled: BTreeSet<InstanceId>,
    /// Whether this run began with a state file, or has tried to write one.
    has_written: bool,
    addresses: Vec<std::net::SocketAddr>,
    turns: u64,
}

/// After this many quiet turns the whole plan is made, to check that none of them missed a step.
const QUIET_CHECKED: u64 = 16;

/// The state before a turn.
struct Before {
    ring: Option<Arc<Ring>>,
    was_booted: bool,
    /// Instances that are admitted, passing, current and desired.
    healthy: BTreeMap<InstanceId, Option<Handle>>,
    about: About,
}

/// The instances whose state an event may make worse.
#[derive(Clone, Copy)]
enum About {
    NoInstance,
    Only(InstanceId),
    AnyInstance,
}

type Broken = Result<(), String>;

impl Checker {
    pub(super) fn new(settings: Settings) -> Self {
        let before = Before {
            ring: None,
            was_booted: false,
            healthy: BTreeMap::new(),
            about: About::NoInstance,
        };
        Self {
            settings,
            pending: BTreeMap::new(),
            wake_at: None,
            is_silent: false,
            before,
            expected: None,
            passed: BTreeMap::new(),
            out_of_action: BTreeSet::new(),
            started: BTreeSet::new(),
            rolled: BTreeSet::new(),
            has_written: false,
            addresses: Vec::new(),
            turns: 0,
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn commanded(&mut self, id: CommandId, request: &Request, now: Moment) {
        self.pending.insert(id, (request.clone(), now));
    }

    pub(super) fn expect_silence(&mut self) {
        self.is_silent = true;
    }

    pub(super) fn restarted(&mut self, disk: Option<&Desired>) {
        self.pending.clear();
        self.wake_at = None;
        self.expected = disk.cloned();
        self.passed.clear();
        self.out_of_action.clear();
        self.started.clear();
        self.rolled.clear();
        self.has_written = disk.is_some();
        self.before.healthy.clear();
    }

    pub(super) fn before_turn(
        &mut self,
        supervisor: &Supervisor,
        event: &Event,
        now: Moment,
    ) -> Broken {
        let state = supervisor.state();
        let is_early = self.wake_at.is_some_and(|wake_at| wake_at.is_none_or(|at| at > now));
        if is_early {
            let early = plan(state, now).steps;
            ensure(early.is_empty(), || format!("no wake-up was asked for {early:?}"))?;
        }
        self.before.ring = Some(Arc::clone(state.desired.ring()));
        self.before.was_booted = state.boot == Boot::Done;
        self.before.about = match event {
            // A name may now resolve to the address of another instance.
            Event::Listed { .. } | Event::Started { .. } | Event::Resolved { .. } => {
                About::AnyInstance
            }
            Event::Probed { instance, .. } | Event::EngineSaw { instance, .. } => {
                About::Only(*instance)
            }
            _ => About::NoInstance,
        };
        match event {
            Event::Probed { instance, outcome } if !self.before.healthy.contains_key(instance) => {
                let streak = self.passed.entry(*instance).or_default();
                *streak = if *outcome == ProbeOutcome::Passed { *streak + 1 } else { 0 };
            }
            Event::Persisted { .. } => self.has_written = true,
            Event::EngineSaw {
                handle, sighting: Sighting::Paused | Sighting::Died { .. }, ..
            } => {
                self.out_of_action.insert(handle.clone());
            }
            Event::EngineSaw { handle, sighting: Sighting::Unpaused, .. } => {
                self.out_of_action.remove(handle);
            }
            // It may have been resumed without an event.
            Event::Listed { .. } => self.out_of_action.clear(),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn after_turn(
        &mut self,
        supervisor: &Supervisor,
        turn: &Turn,
        now: Moment,
        world: (&Engine, &Upstreams),
    ) -> Broken {
        self.wake_at = Some(turn.wake_at);
        let state = supervisor.state();
        self.table_is_sound(state)?;
        self.ring_moves_only_by_commit(state, turn)?;
        self.restart_keeps_the_ring(state)?;
        let is_heartbeat = |action: &Action| matches!(action, Action::Probe { .. });
        self.turns += 1;
        if turn.is_quiet && self.turns.is_multiple_of(QUIET_CHECKED) {
            let missed = plan(state, now).steps;
            ensure(missed.is_empty(), || format!("a quiet turn leaves {missed:?}"))?;
        }
        if turn.notes.is_empty() && turn.actions.iter().all(is_heartbeat) {
            if !matches!(self.before.about, About::NoInstance | About::Only(_)) {
                self.before.healthy = healthy(state);
            }
            return Ok(());
        }
        // A first fleet starts without a state file if the disk does not respond.
        self.has_written |= turn.notes.iter().any(|n| matches!(n, Note::PersistFailed { .. }));
        let again = plan(state, now);
        ensure(again.steps.is_empty(), || format!("planning again gives {:?}", again.steps))?;
        table_is_derived(supervisor)?;
        self.only_those_that_passed_enter(state, turn)?;
        self.starts_are_bounded(state, turn)?;
        limits::effects_are_bounded(state)?;
        limits::what_others_keep_is_left_alone(state, turn)?;
        limits::living_are_replaced_carefully(state, turn, now)?;
        limits::a_stopped_roll_stays_stopped(state, turn)?;
        self.healthy_are_left_alone(state, turn, world)?;
        self.before.healthy = healthy(state);
        if self.is_silent {
            let quiet = |action: &Action| {
                is_heartbeat(action)
                    || matches!(action, Action::List { .. } | Action::Resolve { .. })
            };
            let loud = turn.actions.iter().find(|action| !quiet(action));
            ensure(loud.is_none() && turn.notes.is_empty(), || {
                format!("not silent: {loud:?} {:?}", turn.notes)
            })?;
        }
        Ok(())
    }

    /// No two targets have the same address, and each replica has at most one admitted instance. No
    /// failing instance is in the table beside one that passes. If none passes, the table has all that
    /// accept connections and no others. It is not empty while any instance lives.
    fn table_is_sound(&mut self, state: &State) -> Broken {
        self.addresses.clear();
        let (mut passing, mut unreachable, mut could_serve) = (0, 0, false);
        let (mut accepting, mut shut_out) = (BTreeSet::new(), BTreeSet::new());
        let mut previous = None;
        for (id, instance) in &state.instances {
            if !state.is_desired(id.replica) {
                ensure(is_leaving_or_joining(state, *id, instance), || {
                    format!("{id} is of no use, and stays")
                })?;
                continue;
            }
            if !state.is_eligible(id.replica) {
                ensure(!instance.is_admitted(), || format!("{id} is drained, and in the table"))?;
                continue;
            }
            match instance.phase {
                Phase::Admitted { address, .. } => {
                    ensure(!self.addresses.contains(&address), || {
                        format!("two targets share {address}")
                    })?;
                    ensure(previous != Some(id.replica), || {
                        format!("replica {} is admitted twice", id.replica)
                    })?;
                    previous = Some(id.replica);
                    self.addresses.push(address);
                    match instance.phase {
                        Phase::Admitted { health: Health::Failing { reason, .. }, .. } => {
                            match reason.accepts() {
                                true => drop(accepting.insert(id.replica)),
                                false => unreachable += 1,
                            }
                        }
                        _ => passing += 1,
                    }
                }
                Phase::Ejected { reason, address: Some(_), .. } => {
                    could_serve |= reason.is_by_heartbeat();
                    if reason.accepts() {
                        shut_out.insert(id.replica);
                    }
                }
                _ => {}
            }
        }
        ensure(passing == 0 || accepting.len() + unreachable == 0, || {
            "a failing instance is in the table beside one that passes".to_owned()
        })?;
        ensure(passing > 0 || accepting.is_empty() || unreachable == 0, || {
            "an unreachable instance is in the table beside one that accepts".to_owned()
        })?;
        ensure(passing > 0 || shut_out.is_subset(&accepting), || {
            format!("none passes, and {shut_out:?} are out of the table though they accept")
        })?;
        ensure(!self.addresses.is_empty() || !could_serve, || {
            "the table is empty though an instance lives".to_owned()
        })
    }

    /// No instance is admitted, for the first time or again, without having passed, or after the engine
    /// has reported it as paused or dead.
    fn only_those_that_passed_enter(&mut self, state: &State, turn: &Turn) -> Broken {
        for note in &turn.notes {
            if let Note::Admitted { instance, .. }
            | Note::Readmitted { instance, .. }
            | Note::ReadmittedAsLast { instance, .. } = note
            {
                let known = state.instances.get(instance);
                let handle = known.and_then(|known| known.handle.as_ref());
                ensure(handle.is_none_or(|handle| !self.out_of_action.contains(handle)), || {
                    format!("{instance} enters the table, paused or dead")
                })?;
            }
            match note {
                Note::Admitted { instance, .. } | Note::Readmitted { instance, .. } => {
                    let passed = self.passed.remove(instance).unwrap_or(0);
                    ensure(passed >= self.settings.limits.probe_passes, || {
                        format!("{instance} enters the table after {passed} passed heartbeats")
                    })?;
                }
                // A drained instance may return without a new pass.
                Note::Ejected { instance, reason: EjectReason::Drained, .. }
                | Note::Marked { instance, is_healthy: true, .. } => {
                    self.passed.insert(*instance, self.settings.limits.probe_passes);
                }
                Note::Ejected { instance, .. } => drop(self.passed.remove(instance)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Live instances stay within desired + surge; a replacement inherits its replica's slots; no
    /// incarnation is used twice; no instance starts before the state is on disk.
    fn starts_are_bounded(&mut self, state: &State, turn: &Turn) -> Broken {
        let lives = |id: &InstanceId, i: &Instance| !i.is_leaving() && state.is_desired(id.replica);
        for note in &turn.notes {
            let Note::Starting { instance, cause, .. } = note else { continue };
            let siblings = of_replica(&state.instances, instance.replica);
            for (id, sibling) in siblings.filter(|(id, i)| id != instance && lives(id, i)) {
                ensure(!sibling.is_coming(), || format!("{instance} starts beside {id}'s start"))?;
                ensure(!sibling.is_passing() || state.is_outdated(sibling), || {
                    format!("{instance} starts beside {id}, which is healthy")
                })?;
            }
            if *cause == StartCause::Outdated {
                self.rolled.insert(*instance);
                let coming = |id: &InstanceId, i: &Instance| {
                    lives(id, i)
                        && i.is_coming()
                        && self.rolled.contains(id)
                        && !state.is_outdated(i)
                };
                let rolling = state.instances.iter().filter(|(id, i)| coming(id, i));
                ensure(rolling.count() == 1, || "two replicas roll at once".to_owned())?;
            }
        }
        for action in &turn.actions {
            let Action::Start(request) = action else { continue };
            let id = request.instance;
            ensure(self.has_written, || format!("{id} starts before the state is on disk"))?;
            ensure(self.started.insert(id), || format!("{id} is started twice"))?;
            let known = state.desired.replica(id.replica);
            ensure(known.is_none_or(|known| known.member.positions == request.positions), || {
                format!("{id} does not inherit its replica's slots")
            })?;
        }
        Ok(())
    }
}

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Broken {
    if holds { Ok(()) } else { Err(broken()) }
}

/// Whether an instance of no desired replica is on its way out, or may still join.
fn is_leaving_or_joining(state: &State, id: InstanceId, instance: &Instance) -> bool {
    let is_starting = matches!(instance.phase, Phase::Starting { .. });
    let awaited = match &state.operation {
        Some(Operation::Adding {
            newcomers,
            stage: AddStage::Warming { .. } | AddStage::Writing(_),
            ..
        }) => newcomers.iter().any(|newcomer| newcomer.id == id.replica),
        _ => false,
    };
    instance.is_leaving() || is_starting || awaited
}

/// The table follows from the instances: it has the admitted ones of desired replicas, and none that
/// is leaving.
fn table_is_derived(supervisor: &Supervisor) -> Broken {
    let (state, table) = (supervisor.state(), supervisor.table());
    let targets: BTreeSet<_> = table.targets.iter().flatten().map(|t| t.instance).collect();
    let is_target = |id: &InstanceId, i: &Instance| i.is_admitted() && state.is_desired(id.replica);
    let admitted = state.instances.iter().filter(|(id, i)| is_target(id, i)).map(|(id, _)| *id);
    ensure(targets == admitted.collect(), || format!("the table lags behind: {table:?}"))?;
    ensure(table.finishing.iter().all(|id| !targets.contains(id)), || {
        "in the table and out of it".to_owned()
    })
}

fn healthy(state: &State) -> BTreeMap<InstanceId, Option<Handle>> {
    let is_healthy = |id: &InstanceId, instance: &Instance| {
        instance.is_passing() && !state.is_outdated(instance) && state.is_desired(id.replica)
    };
    let healthy = state.instances.iter().filter(|(id, i)| is_healthy(id, i));
    healthy.map(|(id, instance)| (*id, instance.handle.clone())).collect()
}
