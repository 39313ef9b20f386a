//! The properties: safety at every turn, and what must hold once all faults have ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::engine::Engine as World;
use crate::{
    fleet::{
        command::{Answer, CommandId, Done, Request},
        desired::Desired,
        ids::{InstanceId, Moment},
        message::{Action, Event, FoundState, Listing, Turn},
        notes::{Note, StartCause},
        observed::{Instance, Phase, of_replica},
        plan::plan,
        state::{Boot, Engine, State},
        supervisor::{Settings, Supervisor},
        table::Target,
    },
    ring::Ring,
};

/// Watches one run.
pub(super) struct Checker {
    settings: Settings,
    pending: BTreeMap<CommandId, Request>,
    wake_at: Option<Moment>,
    is_silent: bool,
    before: Before,
    /// The ring that a restarted balancer must come back with.
    expected: Option<Desired>,
}

/// What was so before a turn.
struct Before {
    ring: Option<Arc<Ring>>,
    was_booted: bool,
    /// Admitted, passing, current, desired.
    healthy: BTreeSet<InstanceId>,
    about: About,
}

/// Whom an event may speak against.
enum About {
    Nobody,
    Only(InstanceId),
    Anybody,
}

type Broken = Result<(), String>;

impl Checker {
    pub(super) fn new(settings: Settings) -> Self {
        let before = Before {
            ring: None,
            was_booted: false,
            healthy: BTreeSet::new(),
            about: About::Nobody,
        };
        Self {
            settings,
            pending: BTreeMap::new(),
            wake_at: None,
            is_silent: false,
            before,
            expected: None,
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn commanded(&mut self, id: CommandId, request: &Request) {
        self.pending.insert(id, request.clone());
    }

    pub(super) fn expect_silence(&mut self) {
        self.is_silent = true;
    }

    /// Whether the supervisor asked to be woken by now.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.wake_at.is_none_or(|wake_at| wake_at <= now)
    }

    pub(super) fn restarted(&mut self, disk: Option<&Desired>, _left: &Listing) {
        self.pending.clear();
        self.wake_at = None;
        self.expected = disk.cloned();
    }

    pub(super) fn before_turn(&mut self, supervisor: &Supervisor, event: &Event) {
        let state = supervisor.state();
        self.before.ring = Some(Arc::clone(state.desired.ring()));
        self.before.was_booted = state.boot == Boot::Done;
        self.before.healthy = healthy(state);
        self.before.about = match event {
            Event::Listed { .. } | Event::Started { .. } => About::Anybody,
            Event::Probed { instance, .. } | Event::EngineSaw { instance, .. } => {
                About::Only(*instance)
            }
            _ => About::Nobody,
        };
    }

    pub(super) fn after_turn(
        &mut self,
        supervisor: &Supervisor,
        turn: &Turn,
        now: Moment,
    ) -> Broken {
        self.wake_at = turn.wake_at;
        let state = supervisor.state();
        table_is_sound(supervisor)?;
        starts_are_bounded(state, turn)?;
        self.healthy_are_left_alone(state, turn)?;
        self.ring_moves_only_by_commit(state, turn)?;
        self.restart_keeps_the_ring(state)?;
        let again = plan(state, now);
        ensure(again.steps.is_empty(), || format!("planning again gives {:?}", again.steps))?;
        if self.is_silent {
            let quiet =
                |action: &Action| matches!(action, Action::Probe { .. } | Action::List { .. });
            let loud = turn.actions.iter().find(|action| !quiet(action));
            ensure(loud.is_none() && turn.notes.is_empty(), || {
                format!("not silent: {loud:?} {:?}", turn.notes)
            })?;
        }
        Ok(())
    }

    /// An admitted, healthy, desired instance is never stopped.
    fn healthy_are_left_alone(&self, state: &State, turn: &Turn) -> Broken {
        let stopped = turn.notes.iter().filter_map(|note| match note {
            Note::Stopping { instance, .. } | Note::Draining { instance, .. } => Some(*instance),
            _ => None,
        });
        let asked = turn.actions.iter().filter_map(|action| match action {
            Action::Stop { instance, .. } => Some(*instance),
            _ => None,
        });
        for id in stopped.chain(asked) {
            let excused = match self.before.about {
                About::Nobody => false,
                About::Only(other) => other == id,
                About::Anybody => true,
            };
            let still_desired = state.is_desired(id.replica);
            ensure(excused || !still_desired || !self.before.healthy.contains(&id), || {
                format!("{id} was healthy and is stopped")
            })?;
        }
        Ok(())
    }

    /// Health never changes the ring; a commit moves the minimum, and only what it must.
    fn ring_moves_only_by_commit(&self, state: &State, turn: &Turn) -> Broken {
        let Some(before) = &self.before.ring else { return Ok(()) };
        let commit = turn.notes.iter().find_map(|note| match note {
            Note::Committed { moves, .. } => Some(moves),
            _ => None,
        });
        let is_same = before == state.desired.ring();
        let Some(moves) = commit else {
            return ensure(is_same || !self.before.was_booted, || {
                "the ring changed without a commit".to_owned()
            });
        };
        let ids = |ring: &Ring| ring.members().iter().map(|m| m.id).collect::<BTreeSet<_>>();
        let (old, new) = (ids(before), ids(state.desired.ring()));
        for entry in &moves.moves {
            let from_gone = entry.from.is_none_or(|from| !new.contains(&from));
            let to_newcomer = entry.to.is_none_or(|to| !old.contains(&to));
            ensure(from_gone || to_newcomer, || format!("{entry:?} moves between those who stay"))?;
        }
        ensure((moves.moved_share - moves.minimum_share).abs() < 1e-9, || {
            format!("more than the minimum moves: {moves:?}")
        })
    }

    /// A restarted balancer goes on with the ring, names and N of the state file.
    fn restart_keeps_the_ring(&mut self, state: &State) -> Broken {
        if state.boot != Boot::Done {
            return Ok(());
        }
        let Some(expected) = self.expected.take() else { return Ok(()) };
        let same = expected.ring() == state.desired.ring()
            && expected.generation() == state.desired.generation();
        ensure(same, || "another ring after a restart".to_owned())
    }

    pub(super) fn answered(
        &mut self,
        id: CommandId,
        answer: &Answer,
        disk: Option<&Desired>,
    ) -> Broken {
        let pending = self.pending.remove(&id);
        ensure(pending.is_some(), || format!("{id:?} was answered twice, or never asked"))?;
        let on_disk = |name| disk.is_some_and(|d| d.replicas().iter().any(|r| &r.name == name));
        match answer {
            Ok(Done::Added(names)) => ensure(names.iter().all(on_disk), || {
                format!("added {names:?} before it was on disk")
            }),
            Ok(Done::Removed(names)) => ensure(!names.iter().any(on_disk), || {
                format!("removed {names:?} and it is still on disk")
            }),
            Ok(Done::Preview(_)) | Err(_) => Ok(()),
        }
    }

    pub(super) fn check_converged(
        &self,
        supervisor: &Supervisor,
        world: &World,
        disk: Option<&Desired>,
    ) -> Broken {
        let state = supervisor.state();
        ensure(state.boot == Boot::Done && state.engine == Engine::Up, || "not up".to_owned())?;
        ensure(state.operation.is_none() && state.queue.is_empty(), || {
            format!("a command is stuck: {:?} {:?}", state.operation, state.queue)
        })?;
        ensure(self.pending.is_empty(), || format!("never answered: {:?}", self.pending))?;
        for replica in state.desired.replicas() {
            let instances: Vec<_> = of_replica(&state.instances, replica.id()).collect();
            let is_well = |i: &Instance| i.is_passing() && !i.outdated;
            ensure(instances.len() == 1 && is_well(instances[0].1), || {
                format!("replica {} is not well: {instances:?}", replica.id())
            })?;
        }
        let n = state.desired.replicas().len();
        ensure(state.instances.len() == n, || "instances of nobody are left".to_owned())?;
        let runs = |c: &super::engine::Container| matches!(c.state, FoundState::Running(Some(_)));
        ensure(world.containers.len() == n && world.containers.values().all(runs), || {
            format!("{n} replicas, containers {:?}", world.containers)
        })?;
        ensure(disk == Some(&state.desired), || format!("the state file lags behind: {disk:?}"))
    }
}

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Broken {
    if holds { Ok(()) } else { Err(broken()) }
}

fn healthy(state: &State) -> BTreeSet<InstanceId> {
    let is_healthy = |id: &InstanceId, instance: &Instance| {
        instance.is_passing() && !instance.outdated && state.is_desired(id.replica)
    };
    state.instances.iter().filter(|(id, i)| is_healthy(id, i)).map(|(id, _)| *id).collect()
}

fn table_is_sound(supervisor: &Supervisor) -> Broken {
    let (state, table) = (supervisor.state(), supervisor.table());
    let targets: Vec<&Target> = table.targets.iter().flatten().collect();
    let mut addresses: Vec<_> = targets.iter().map(|target| target.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    ensure(addresses.len() == targets.len(), || "two targets share an address".to_owned())?;

    let failing = targets.iter().filter(|target| {
        state.instances.get(&target.instance).is_none_or(|instance| !instance.is_passing())
    });
    let failing = failing.count();
    ensure(failing == 0 || targets.len() == 1, || {
        "a failing instance is in the table though another passes".to_owned()
    })?;
    ensure(!targets.iter().any(|target| table.finishing.contains(&target.instance)), || {
        "in the table and out of it".to_owned()
    })?;
    for replica in state.desired.replicas() {
        let admitted = of_replica(&state.instances, replica.id()).filter(|(_, i)| i.is_admitted());
        ensure(admitted.count() <= 1, || format!("{} is admitted twice", replica.id()))?;
    }
    let could_serve = |(id, instance): (&InstanceId, &Instance)| {
        let alive = matches!(instance.phase, Phase::Ejected { reason, address: Some(_), .. }
            if reason.may_serve_as_last());
        alive && state.is_desired(id.replica)
    };
    ensure(!targets.is_empty() || !state.instances.iter().any(could_serve), || {
        "nobody is in the table though an instance lives".to_owned()
    })
}

/// Live instances stay within desired + surge.
fn starts_are_bounded(state: &State, turn: &Turn) -> Broken {
    let lives = |id: &InstanceId, i: &Instance| !i.is_leaving() && state.is_desired(id.replica);
    for note in &turn.notes {
        let Note::Starting { instance, cause, .. } = note else { continue };
        let siblings = of_replica(&state.instances, instance.replica);
        let others = siblings.filter(|(id, i)| id != instance && lives(id, i));
        let coming = others.filter(|(_, i)| i.is_coming()).count();
        ensure(coming == 0, || format!("{instance} starts beside another start"))?;
        if *cause == StartCause::Outdated {
            let rolling = state.instances.iter().filter(|(id, i)| lives(id, i) && i.is_coming());
            ensure(rolling.count() == 1, || "two replicas roll at once".to_owned())?;
        }
    }
    Ok(())
}
