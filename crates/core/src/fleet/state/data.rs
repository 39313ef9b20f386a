//! All that the core knows, and what follows from it without deciding anything.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    schedules::{ListSchedule, WriteSchedule},
    shutdown::{Finish, Shutdown},
};
use crate::fleet::{
    backoff::Backoff,
    command::{CommandId, Request},
    desired::Desired,
    endings::Endings,
    ids::{Handle, Incarnation, InstanceId, Moment, ReplicaId, ReplicaName},
    limits::Limits,
    observed::{Instance, Instances, of_replica},
    operation::Operation,
    roll::Roll,
    server::Server,
    values::{Keeper, Revision},
};

/// All that the core knows.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Bounds.
    pub limits: Limits,
    /// Whether we start replicas; [`Keeper::Others`]: there is no driver that could, and all replicas
    /// are registered servers.
    pub keeper: Keeper,
    /// Whether the first list has come.
    pub boot: Boot,
    /// Whether `desired` came from a state file.
    pub is_stored: bool,
    /// What should be, as committed.
    pub desired: Desired,
    /// The next ring identity that no command has drawn; at least `desired.next_id()`.
    pub next_id: ReplicaId,
    /// What was observed.
    pub instances: Instances,
    /// The highest incarnation that was ever seen of a replica.
    pub incarnations: BTreeMap<ReplicaId, Incarnation>,
    /// Restart histories.
    pub backoffs: BTreeMap<ReplicaId, Backoff>,
    /// What the configuration asks replicas to be made from, as the driver said last.
    pub wanted: Option<Revision>,
    /// How far the replacement of outdated instances is.
    pub roll: Roll,
    /// Since when more than half of four or more living replicas have been failing.
    pub panic_since: Option<Moment>,
    /// Since when that is not so any more: they do not all recover in the same moment, so it is
    /// waited a while before it is over.
    pub calm_since: Option<Moment>,
    /// Strays that are being removed.
    pub reaping: BTreeMap<Handle, Reaping>,
    /// Whether the engine answers.
    pub engine: Engine,
    /// The list of all instances.
    pub listing: ListSchedule,
    /// The state file.
    pub writing: WriteSchedule,
    /// The running command.
    pub operation: Option<Operation>,
    /// Commands that wait for it.
    pub queue: VecDeque<(CommandId, Request)>,
    /// Names of containers of others.
    pub foreign_names: BTreeSet<ReplicaName>,
    /// Open requests, as they were when the last command came.
    pub in_flight: BTreeMap<ReplicaId, u64>,
    /// Instances that are gone, and since when: a list that was asked for before that may still
    /// hold what was left of them.
    pub departed: BTreeMap<InstanceId, Moment>,
    /// How instances ended. Shared with the views, which outlive a turn.
    pub endings: Arc<Endings>,
    /// Those that ran when the fleet was booted.
    pub adopted: BTreeSet<InstanceId>,
    /// Set once the balancer is to end.
    pub shutdown: Option<Shutdown>,
}

/// How far the removal of a stray is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaping {
    /// The request to the driver is due.
    Due,
    /// The driver is removing it.
    Requested {
        /// When that is taken as lost; the next list finds the stray again.
        lost_at: Moment,
    },
}

/// Whether the fleet is supervised already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// Nothing is started or stopped before the first list.
    AwaitingList,
    /// Supervised.
    Done,
}

/// Whether the engine answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// As far as is known.
    Up,
    /// It did not answer the last list.
    Away(std::sync::Arc<str>),
}

impl State {
    /// Whether a replica is desired.
    pub fn is_desired(&self, id: ReplicaId) -> bool {
        self.desired.replica(id).is_some()
    }

    /// Where a registered server is, or one that is about to join.
    pub fn server_of(&self, id: ReplicaId) -> Option<&Server> {
        let desired = self.desired.replica(id).and_then(|replica| replica.server.as_ref());
        desired.or_else(|| self.operation.as_ref()?.newcomer(id)?.server.as_ref())
    }

    /// Whether a replica is desired and is to get requests. Where the balancer ends with its replicas,
    /// only what others keep still is.
    pub fn is_eligible(&self, id: ReplicaId) -> bool {
        let is_ending = self.stops_replicas();
        self.desired
            .replica(id)
            .is_some_and(|replica| !replica.is_drained && (replica.server.is_some() || !is_ending))
    }

    /// Whether all instances are on their way out because the balancer ends with them.
    pub fn stops_replicas(&self) -> bool {
        self.shutdown.is_some_and(|shutdown| shutdown.stop_replicas)
    }

    /// Whether requests may come: an instance that can answer is admitted, or none that ran before may
    /// become so. A client that is refused a connection tries again; a 503 is an answer.
    pub fn may_listen(&self) -> bool {
        let may_yet_pass =
            |id: &InstanceId| self.instances.get(id).is_some_and(|instance| !instance.is_leaving());
        self.boot == Boot::Done
            && (self.instances.values().any(Instance::is_admitted)
                || !self.adopted.iter().any(may_yet_pass))
    }

    /// How the shutdown ended; `None` while it goes on, and when none was asked for.
    pub fn finish(&self) -> Option<Finish> {
        let shutdown = self.shutdown?;
        if shutdown.is_given_up {
            return Some(Finish::EngineAway);
        }
        // A disk that hangs is not waited for: its writes are given up and asked for again and again.
        let writes = self.writing.under_way.is_some() && !self.writing.hangs;
        let is_busy = self.operation.is_some() || writes;
        let is_empty = !shutdown.stop_replicas || shutdown.is_swept;
        (!is_busy && is_empty).then_some(Finish::Done)
    }

    /// Whether a replica is a newcomer whose addition has not been committed or given up.
    pub fn is_newcomer(&self, id: ReplicaId) -> bool {
        self.operation.as_ref().is_some_and(|operation| operation.awaits(id))
    }

    /// The admitted instance of a replica.
    pub fn admitted(&self, id: ReplicaId) -> Option<&Instance> {
        of_replica(&self.instances, id)
            .map(|(_, instance)| instance)
            .find(|instance| instance.is_admitted())
    }

    /// Names of the replicas in service, in the order they joined.
    pub fn in_service(&self) -> Vec<ReplicaName> {
        let replicas = self.desired.replicas().iter();
        replicas.filter_map(|replica| self.admitted(replica.id())).map(|i| i.name.clone()).collect()
    }

    /// Whether a name is in use by a replica, an instance, or a container of others.
    pub fn is_name_taken(&self, name: &ReplicaName) -> bool {
        self.foreign_names.contains(name) || self.is_name_ours(name)
    }

    /// Whether a name is in use by a replica or an instance of ours.
    pub fn is_name_ours(&self, name: &ReplicaName) -> bool {
        self.desired.replicas().iter().any(|replica| &replica.name == name)
            || self.instances.values().any(|instance| &instance.name == name)
            || self.operation.as_ref().is_some_and(|operation| operation.reserves(name))
    }

    /// Why commands are refused while writes hang.
    pub(crate) fn disk_hangs(&self) -> Arc<str> {
        let waited = self.limits.persist_deadline;
        format!("the disk does not answer within {waited:?}").into()
    }

    /// What is said of an instance that has not passed in time.
    pub(crate) fn not_passed(&self, instance: &Instance) -> String {
        let waited = self.limits.start_deadline;
        match &instance.last_probe {
            Some(why) => format!("did not pass its heartbeat within {waited:?}: {why}"),
            None => format!("did not pass its heartbeat within {waited:?}"),
        }
    }

    /// The most replicas: the limit, or what the ring holds.
    pub fn replicas_max(&self) -> usize {
        self.limits.replicas_max.min(self.desired.ring().settings().replicas_max())
    }
}
