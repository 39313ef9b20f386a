//! All that the core knows, as plain data. [`super::plan`] reads it, [`super::supervisor`] writes
//! it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    backoff::Backoff,
    command::{CommandId, Request},
    desired::Desired,
    endings::{Ending, Endings, LastError, LastWords},
    ids::{Incarnation, InstanceId, Moment, ReplicaId, ReplicaName},
    limits::Limits,
    message::WriteId,
    observed::{Instance, Instances},
    operation::Operation,
};

/// All that the core knows.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Bounds.
    pub limits: Limits,
    /// Who keeps the instances.
    pub keeper: Keeper,
    /// Whether the first list has come.
    pub boot: Boot,
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
    /// Names of other people's containers.
    pub foreign_names: BTreeSet<ReplicaName>,
    /// Open requests, as they were when the last command came.
    pub in_flight: BTreeMap<ReplicaId, u64>,
    /// Instances that are gone, and since when: a list that was asked for before that may still
    /// hold what was left of them.
    pub departed: BTreeMap<InstanceId, Moment>,
    /// How instances ended. Shared with the views, which outlive a turn.
    pub endings: Arc<Endings>,
}

/// Departures that are remembered; more can hardly happen while one list is under way.
const DEPARTED_MAX: usize = 1_024;

/// Who starts and stops instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// We do.
    Ringmaster,
    /// Somebody else: instances are only admitted and ejected.
    Others,
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

/// When the next list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListSchedule {
    /// When the one under way was asked for.
    pub asked: Option<Moment>,
    /// When the last one was asked for.
    pub last: Option<Moment>,
    /// When the next is due.
    pub next: Moment,
}

/// When the state is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteSchedule {
    /// The write under way.
    pub under_way: Option<WriteId>,
    /// The number of the next.
    pub next: WriteId,
    /// Whether the file lags behind the committed state (names and incarnations only).
    pub stale: bool,
    /// Not before this moment, after a failure.
    pub not_before: Moment,
    /// Whether a fleet that had no file waits for its first write: killed before that, it would be
    /// rebuilt from the labels of what had been started so far.
    pub is_first: bool,
}

impl State {
    /// Asks for a list soon: at once, but never more often than `list_retry`.
    pub fn list_soon(&mut self, now: Moment) {
        let earliest = self.listing.last.map_or(now, |last| last + self.limits.list_retry);
        self.listing.next = self.listing.next.min(earliest.max(now));
    }

    /// Nothing is left of an instance, as far as is known.
    pub fn remove(&mut self, id: InstanceId, now: Moment) -> Option<Instance> {
        let instance = self.instances.remove(&id)?;
        if self.departed.len() >= DEPARTED_MAX {
            self.departed.pop_first();
        }
        self.departed.insert(id, now);
        Some(instance)
    }

    /// Keeps how an instance ended.
    pub fn keep_ending(
        &mut self,
        instance: InstanceId,
        name: &ReplicaName,
        last_words: LastWords,
        at: Moment,
    ) -> Arc<Ending> {
        let ending = Ending { instance, name: name.clone(), at, last_words };
        let (desired, operation) = (&self.desired, &self.operation);
        let is_known = |id| {
            desired.replica(id).is_some() || operation.as_ref().is_some_and(|op| op.awaits(id))
        };
        Arc::make_mut(&mut self.endings).keep(ending, is_known)
    }

    /// Keeps what went wrong with a replica.
    pub fn keep_error(&mut self, replica: ReplicaId, text: &str, at: Moment) {
        let error = LastError { at, text: text.into() };
        Arc::make_mut(&mut self.endings).keep_error(replica, error);
    }

    /// Whether a replica is desired.
    pub fn is_desired(&self, id: ReplicaId) -> bool {
        self.desired.replica(id).is_some()
    }

    /// Whether a replica is a newcomer whose addition has not been committed or given up.
    pub fn is_newcomer(&self, id: ReplicaId) -> bool {
        self.operation.as_ref().is_some_and(|operation| operation.awaits(id))
    }

    /// The admitted instance of a replica.
    pub fn admitted(&self, id: ReplicaId) -> Option<&Instance> {
        super::observed::of_replica(&self.instances, id)
            .map(|(_, instance)| instance)
            .find(|instance| instance.is_admitted())
    }

    /// Names of the replicas in service, in the order they joined.
    pub fn in_service(&self) -> Vec<ReplicaName> {
        let replicas = self.desired.replicas().iter();
        replicas.filter_map(|replica| self.admitted(replica.id())).map(|i| i.name.clone()).collect()
    }

    /// Whether a name is in use by a replica, an instance, or somebody else.
    pub fn is_name_taken(&self, name: &ReplicaName) -> bool {
        self.foreign_names.contains(name) || self.is_name_ours(name)
    }

    /// Whether a name is in use by a replica or an instance of ours.
    pub fn is_name_ours(&self, name: &ReplicaName) -> bool {
        self.desired.replicas().iter().any(|replica| &replica.name == name)
            || self.instances.values().any(|instance| &instance.name == name)
            || self.operation.as_ref().is_some_and(|operation| operation.reserves(name))
    }

    /// The most replicas: the limit, or what the ring holds.
    pub fn replicas_max(&self) -> usize {
        self.limits.replicas_max.min(self.desired.ring().settings().replicas_max())
    }
}
