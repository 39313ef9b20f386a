//! How the inventory changes: instances that begin, are admitted and are gone, and what is kept of
//! them.

use std::sync::Arc;

use super::data::{Engine, Reaping, State};
use crate::fleet::{
    endings::{Ending, LastError, LastWords},
    ids::{Handle, Incarnation, InstanceId, Moment, ReplicaId, ReplicaName},
    message::FoundIdentity,
    observed::{Instance, of_replica},
};

/// Departures that are remembered; more can hardly happen while one list is under way.
const DEPARTED_MAX: usize = 1_024;

impl State {
    /// An instance that nothing was known of. Its incarnation is the highest of its replica.
    pub(crate) fn begin(&mut self, id: InstanceId, instance: Instance) {
        self.incarnations.insert(id.replica, id.incarnation);
        self.instances.insert(id, instance);
    }

    /// Changes an instance, if it is known.
    pub(crate) fn with_instance<R>(
        &mut self,
        id: InstanceId,
        change: impl FnOnce(&mut Instance) -> R,
    ) -> Option<R> {
        self.instances.get_mut(&id).map(change)
    }

    /// The incarnation and the identity of something found are in use, whatever becomes of it.
    pub(crate) fn saw_identity(&mut self, found: &FoundIdentity) {
        let InstanceId { replica, incarnation } = found.instance;
        let highest = self.incarnations.entry(replica).or_insert(incarnation);
        *highest = (*highest).max(incarnation);
        self.next_id = self.next_id.max(ReplicaId(replica.0.saturating_add(1)));
    }

    /// The committed instance of a replica is now this one; written if it was another.
    pub(crate) fn commit_instance(&mut self, id: InstanceId, name: &ReplicaName) {
        let known = self.desired.replica(id.replica);
        if known.is_some_and(|replica| replica.instance() != id || replica.name != *name) {
            self.desired.set_instance(id, name.clone());
            self.writing.stale = true;
        }
    }

    /// A stray is to be removed; whether that is new, however many lists show it meanwhile.
    pub(crate) fn reap(&mut self, handle: &Handle) -> bool {
        let is_new = !self.reaping.contains_key(handle);
        if is_new {
            self.reaping.insert(handle.clone(), Reaping::Due);
        }
        is_new
    }

    /// Whether the engine answers; what it was before.
    pub(crate) fn set_engine(&mut self, engine: Engine) -> Engine {
        std::mem::replace(&mut self.engine, engine)
    }

    /// Asks for a list soon: at once, but never more often than `list_retry`.
    pub fn list_soon(&mut self, now: Moment) {
        self.listing.soon(now, self.limits.list_retry);
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

    /// Forgets the history of replicas that are gone: ring identities are never used again, so
    /// nothing needs it. `asked`: when the list was asked for that has just come.
    pub(crate) fn forget_removed_replicas(&mut self, requested_at: Moment) {
        // A later list, and only that can come, was asked for after these had gone.
        self.departed.retain(|_, gone| *gone >= requested_at);
        let (desired, operation) = (&self.desired, &self.operation);
        let instances = &self.instances;
        let is_known = |id: &ReplicaId| {
            desired.replica(*id).is_some()
                || operation.as_ref().is_some_and(|operation| operation.awaits(*id))
                || of_replica(instances, *id).next().is_some()
        };
        Arc::make_mut(&mut self.endings).trim(|id| is_known(&id));
        self.incarnations.retain(|id, _| is_known(id));
        self.backoffs.retain(|id, _| is_known(id));
    }

    /// The next incarnation of a replica: never a number that was seen before, by whatever it was
    /// started.
    pub(crate) fn next_incarnation(&self, replica: ReplicaId) -> Incarnation {
        let seen = self.incarnations.get(&replica).copied();
        let committed = self.desired.replica(replica).map(|known| known.incarnation);
        seen.max(committed).map_or(Incarnation::FIRST, Incarnation::next)
    }
}
