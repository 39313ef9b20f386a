//! What people and machines outside may see of a fleet: one immutable value, derived.

use std::{net::SocketAddr, sync::Arc};

use super::{
    backoff::Backoff,
    command::RingView,
    desired::Replica,
    endings::{Ending, Endings},
    ids::{Handle, Incarnation, InstanceId, Moment, ReplicaId, ReplicaName},
    notes::Cause,
    observed::{self, EjectReason, Instance, Passes, Phase, of_replica},
    operation::Operation,
    server::Server,
    state::{Boot, Engine, Finish, State},
};

/// A fleet at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetView {
    /// The ring of all desired replicas, with their names.
    pub ring: RingView,
    /// Names of the replicas in service, in the order they joined.
    pub in_service: Vec<ReplicaName>,
    /// All desired replicas, in the order they joined.
    pub replicas: Vec<ReplicaView>,
    /// Whether the fleet is supervised already.
    pub boot: Boot,
    /// The engine's last words when it does not answer.
    pub engine_error: Option<String>,
    /// What the running command is.
    pub operation: Option<Cause>,
    /// Commands that wait for it.
    pub commands_waiting: usize,
    /// Instances of replicas that are about to join.
    pub joining: Vec<InstanceView>,
    /// How instances ended.
    pub endings: Arc<Endings>,
    /// The replacement of outdated instances, where there is one to be done.
    pub roll: Option<RollView>,
    /// Whether so many replicas fail at once that living ones are not replaced, or one at a time.
    pub is_panic: bool,
    /// See [`State::may_listen`].
    pub may_listen: bool,
    /// How far the end of the balancer's run is.
    pub shutdown: ShutdownStage,
}

/// How far the end of the balancer's run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownStage {
    /// None was asked for.
    Running,
    /// Something is still under way.
    Ending,
    /// It has ended.
    Finished(Finish),
}

/// How far an instance has come; see [`Phase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstancePhase {
    /// It is started, or its host is looked up.
    Starting,
    /// It runs, and has not passed yet.
    Warming,
    /// In the table.
    Admitted,
    /// Alive, and out of the table.
    Ejected,
    /// Out of the table for good, while its open requests end.
    Draining,
    /// It is stopped.
    Stopping,
}

impl InstancePhase {
    /// One word for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Warming => "warming",
            Self::Admitted => "admitted",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

/// The replacement of outdated instances by what is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct RollView {
    /// Whether it was given up.
    pub is_stopped: bool,
    /// Replicas that run what is wanted already.
    pub done: usize,
    /// Newcomers that ended, or did not pass.
    pub failures: u32,
    /// What the last failure was.
    pub last_error: Option<Arc<str>>,
}

/// One desired replica.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaView {
    /// Ring identity.
    pub id: ReplicaId,
    /// Its last committed name.
    pub name: ReplicaName,
    /// Weight on the ring.
    pub weight: u32,
    /// Where it is, if others keep it; `None`: we start and stop it.
    pub server: Option<Server>,
    /// Whether it gets no requests although it is desired.
    pub is_drained: bool,
    /// Starts and instances that failed in a row. A stable time forgets them.
    pub failures: u32,
    /// When an instance that serves will have been stable for long enough for that.
    pub forgiven_at: Option<Moment>,
    /// When the next start is due; in the past where none waits.
    pub next_try: Moment,
    /// What is known of its instances, lowest incarnation first.
    pub instances: Vec<InstanceView>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceView {
    /// Its identity.
    pub id: InstanceId,
    /// Its name.
    pub name: ReplicaName,
    /// How far it has come.
    pub phase: InstancePhase,
    /// Why it is not well.
    pub reason: Option<EjectReason>,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// Since when it is in this phase, where that is known.
    pub since: Option<Moment>,
    /// Whether it was started from something else than what is wanted now.
    pub is_outdated: bool,
    /// What its last heartbeat met, if that was bad.
    pub last_probe: Option<Arc<str>>,
    /// What the driver knows it by, once it has started.
    pub handle: Option<Handle>,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The replica that the instances belong or belonged to.
    pub replica: ReplicaId,
    /// The instance that bears the name, or serves the replica; `None` for a former name.
    pub instance: Option<InstanceView>,
    /// Endings that belong to it, oldest first: the replica's, or those of a former name.
    pub endings: Vec<Arc<Ending>>,
}

/// How well a fleet serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Each desired replica that is not drained is in service and passes.
    Ok,
    /// Some do.
    Degraded,
    /// None does, though there are some: they fail, or all of them are drained.
    Down,
}

impl Health {
    /// One word for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

impl InstanceView {
    /// Whether it is in the table and passes: not kept there although it fails.
    pub fn serves_well(&self) -> bool {
        self.is_admitted() && self.reason.is_none()
    }

    /// Whether it is in the table although it fails, since no other passes.
    pub fn is_kept(&self) -> bool {
        self.is_admitted() && self.reason.is_some()
    }

    /// Whether it is in the table.
    pub fn is_admitted(&self) -> bool {
        self.phase == InstancePhase::Admitted
    }
}

impl FleetView {
    /// How well it serves. Before the first list it counts as down.
    pub fn health(&self) -> Health {
        let is_wanted = |replica: &&ReplicaView| !replica.is_drained;
        let wanted = self.replicas.iter().filter(is_wanted).count();
        match self.passing() {
            _ if !self.is_booted() => Health::Down,
            0 if !self.replicas.is_empty() => Health::Down,
            well if well == wanted => Health::Ok,
            _ => Health::Degraded,
        }
    }

    /// Whether the fleet is supervised already.
    pub fn is_booted(&self) -> bool {
        self.boot == Boot::Done
    }

    /// How the shutdown ended; `None` while it goes on, and when none was asked for.
    pub fn finish(&self) -> Option<Finish> {
        match self.shutdown {
            ShutdownStage::Finished(finish) => Some(finish),
            ShutdownStage::Running | ShutdownStage::Ending => None,
        }
    }

    /// Replicas in service that pass.
    pub fn passing(&self) -> usize {
        let serves = |replica: &&ReplicaView| replica.instances.iter().any(|i| i.serves_well());
        self.replicas.iter().filter(serves).count()
    }

    /// Derives the view.
    pub fn of(state: &State) -> Self {
        let replicas = state.desired.replicas().iter().map(|replica| {
            let backoff = state.backoffs.get(&replica.id());
            let admitted =
                of_replica(&state.instances, replica.id()).find_map(|(_, i)| match i.phase {
                    Phase::Admitted { since, .. } => Some(since),
                    _ => None,
                });
            ReplicaView {
                id: replica.id(),
                name: replica.name.clone(),
                weight: replica.member.weight,
                server: replica.server.clone(),
                is_drained: replica.is_drained,
                failures: backoff.map_or(0, Backoff::failures),
                forgiven_at: admitted.map(|since| since + state.limits.stable_after),
                next_try: backoff.map_or(Moment(0), Backoff::not_before),
                instances: of_replica(&state.instances, replica.id())
                    .map(|(id, instance)| instance_view(state, id, instance))
                    .collect(),
            }
        });
        let joining = state.instances.iter().filter(|(id, _)| state.is_newcomer(id.replica));
        Self {
            ring: state.desired.view(),
            in_service: state.in_service(),
            replicas: replicas.collect(),
            boot: state.boot,
            engine_error: match &state.engine {
                Engine::Up => None,
                Engine::Away(error) => Some(error.to_string()),
            },
            operation: state.operation.as_ref().map(Operation::cause),
            commands_waiting: state.queue.len(),
            joining: joining.map(|(id, instance)| instance_view(state, *id, instance)).collect(),
            endings: Arc::clone(&state.endings),
            roll: roll_view(state),
            is_panic: state.panic_since.is_some(),
            may_listen: state.may_listen(),
            shutdown: match (state.shutdown, state.finish()) {
                (None, _) => ShutdownStage::Running,
                (Some(_), None) => ShutdownStage::Ending,
                (Some(_), Some(finish)) => ShutdownStage::Finished(finish),
            },
        }
    }

    /// What a name means: an instance, a replica by its committed name, or an instance that has ended.
    pub fn named(&self, name: &ReplicaName) -> Option<Named> {
        let of_replica = |instance: &InstanceView| Named {
            replica: instance.id.replica,
            instance: Some(instance.clone()),
            endings: self.endings.of_replica(instance.id.replica).cloned().collect(),
        };
        let instances = self.replicas.iter().flat_map(|replica| &replica.instances);
        if let Some(bearer) = instances.chain(&self.joining).find(|one| &one.name == name) {
            return Some(of_replica(bearer));
        }
        let endings: Vec<_> = self.endings.named(name).cloned().collect();
        if let Some(last) = endings.last() {
            return Some(Named { replica: last.instance.replica, instance: None, endings });
        }
        let replica = self.replicas.iter().find(|replica| &replica.name == name)?;
        Some(match replica.instances.last() {
            Some(instance) => of_replica(instance),
            None => Named {
                replica: replica.id,
                instance: None,
                endings: self.endings.of_replica(replica.id).cloned().collect(),
            },
        })
    }

    /// The incarnation that serves a replica.
    pub fn serving(&self, id: ReplicaId) -> Option<Incarnation> {
        let replica = self.replicas.iter().find(|replica| replica.id == id)?;
        let serving = replica.instances.iter().find(|instance| instance.is_admitted());
        serving.map(|instance| instance.id.incarnation)
    }
}

fn roll_view(state: &State) -> Option<RollView> {
    let admitted = |replica: &Replica| state.admitted(replica.id());
    let replicas = || state.desired.replicas().iter();
    let outdated = replicas().filter_map(admitted).filter(|i| state.is_outdated(i)).count();
    if outdated == 0 && !state.is_rolling() {
        return None;
    }
    Some(RollView {
        is_stopped: state.is_roll_stopped(),
        done: replicas().filter_map(admitted).count() - outdated,
        failures: state.roll.failures,
        last_error: state.roll.last_error.clone(),
    })
}

fn instance_view(state: &State, id: InstanceId, instance: &Instance) -> InstanceView {
    let (phase, reason, since) = match &instance.phase {
        Phase::Starting { since, .. } => (InstancePhase::Starting, None, Some(*since)),
        Phase::Warming { since, .. } => (InstancePhase::Warming, None, Some(*since)),
        Phase::Admitted { since, health: observed::Health::Passing { .. }, .. } => {
            (InstancePhase::Admitted, None, Some(*since))
        }
        Phase::Admitted { since, health: observed::Health::Failing { reason, .. }, .. } => {
            (InstancePhase::Admitted, Some(*reason), Some(*since))
        }
        Phase::Ejected { since, reason, .. } => {
            (InstancePhase::Ejected, Some(*reason), Some(*since))
        }
        Phase::Draining { .. } => (InstancePhase::Draining, None, None),
        Phase::Stopping { .. } => (InstancePhase::Stopping, None, None),
    };
    InstanceView {
        id,
        name: instance.name.clone(),
        phase,
        reason,
        address: instance.address(),
        since,
        is_outdated: state.is_outdated(instance),
        last_probe: instance.last_probe.clone().filter(|_| !has_just_passed(instance)),
        handle: instance.handle.clone(),
    }
}

fn has_just_passed(instance: &Instance) -> bool {
    match instance.phase {
        Phase::Warming { passes, .. } | Phase::Ejected { passes, .. } => {
            matches!(passes, Passes::InARow(1..))
        }
        Phase::Admitted { health, .. } => health == observed::Health::Passing { failures: 0 },
        _ => false,
    }
}
