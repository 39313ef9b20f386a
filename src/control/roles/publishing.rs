//! How the tables of a supervisor reach its own data plane and the store, and when all who route by
//! them have let go of an instance.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use ringmaster_core::{
    fleet::{ids::InstanceId, table::RoutingTable},
    roles::{
        acknowledgements::Acknowledgements,
        ids::Version,
        publication::{Publication, delta},
    },
};
use tokio::sync::watch;

use super::local::Local;
use crate::{
    control::{CoreClock, Publisher, leash::Leash},
    store::Store,
};

/// How often a drain looks whether it is over.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// From a publication that failed to the next attempt.
const RETRY: Duration = Duration::from_millis(100);
/// Instances that have left the table and are remembered.
const LEFT_MAX: usize = 8_192;

/// What the balancers have said in this term; `None` until they can be heard.
pub(super) type Heard = Arc<Mutex<Option<Acknowledgements>>>;

/// The publisher of one term.
pub(super) struct Fanout {
    leash: Leash,
    clock: CoreClock,
    local: Arc<Local>,
    heard: Heard,
    state: Mutex<State>,
    newest: watch::Sender<Option<Publication>>,
}

struct State {
    /// Whether tables are given out yet. A new supervisor does not know at first who passes; until
    /// then what is in force stays.
    is_open: bool,
    held: Option<RoutingTable>,
    number: u64,
    /// The version of the first table without an instance that had been in one.
    left: BTreeMap<InstanceId, Version>,
    /// The targets of what was given out last, or found.
    targets: Vec<InstanceId>,
}

fn targets_of(table: &RoutingTable) -> Vec<InstanceId> {
    table.targets.iter().flatten().map(|target| target.instance).collect()
}

impl Fanout {
    pub(super) fn new(leash: Leash, clock: CoreClock, local: Arc<Local>, heard: Heard) -> Self {
        let found = local.now().publication;
        let targets = found.map(|found| targets_of(found.table())).unwrap_or_default();
        let state = State { is_open: false, held: None, number: 0, left: BTreeMap::new(), targets };
        let newest = watch::Sender::new(None);
        Self { leash, clock, local, heard, state: Mutex::new(state), newest }
    }

    /// Whether the table that is held back routes to all that the one in force does, but for who is not
    /// desired any more: then it takes nothing from anyone.
    pub(super) fn is_whole(&self) -> bool {
        let state = self.state();
        let Some(held) = &state.held else { return false };
        let has = targets_of(held);
        let is_desired = |id: &&InstanceId| held.ring.index_of(id.replica).is_some();
        state.targets.iter().filter(is_desired).all(|id| has.contains(id))
    }

    /// Whether the table that is held back routes to any, or none is in force that does.
    pub(super) fn routes_as_well(&self) -> bool {
        let state = self.state();
        let routes = |held: &RoutingTable| held.targets.iter().any(Option::is_some);
        state.targets.is_empty() || state.held.as_ref().is_some_and(routes)
    }

    /// Whom the table that is in force routes to.
    pub(super) fn targets(&self) -> Vec<InstanceId> {
        self.state().targets.clone()
    }

    /// Whether tables are given out.
    pub(super) fn is_open(&self) -> bool {
        self.state().is_open
    }

    /// Gives out what was held back, and from now on all.
    pub(super) fn open(&self) {
        let mut state = self.state();
        state.is_open = true;
        if let Some(table) = state.held.take() {
            self.give_out(&mut state, table);
        }
    }

    fn give_out(&self, state: &mut State, table: RoutingTable) {
        if !self.leash.may_act() {
            return;
        }
        let version = Version { fence: self.leash.fence(), number: state.number + 1 };
        let (targets, digest) = (targets_of(&table), table.ring.digest());
        let publication = match Publication::new(version, table) {
            Ok(publication) => publication,
            Err(error) => {
                tracing::error!(%error, "a table cannot be published");
                return;
            }
        };
        state.number += 1;
        for gone in state.targets.iter().filter(|id| !targets.contains(id)) {
            state.left.insert(*gone, version);
        }
        for target in &targets {
            state.left.remove(target);
        }
        while state.left.len() > LEFT_MAX {
            let oldest = state.left.iter().min_by_key(|(_, version)| **version);
            let Some(oldest) = oldest.map(|(id, _)| *id) else { break };
            state.left.remove(&oldest);
        }
        state.targets = targets;
        self.local.apply(&publication);
        if let Some(heard) = self.heard().as_mut() {
            heard.published(digest, self.clock.now());
        }
        self.newest.send_replace(Some(publication));
    }

    /// Brings what is given out into the store, until it is dropped.
    pub(super) async fn store_all(&self, store: &dyn Store) {
        let mut newest = self.newest.subscribe();
        let mut stored: Option<Publication> = None;
        loop {
            let next = newest.borrow_and_update().clone();
            let is_new = |next: &Publication| {
                stored.as_ref().is_none_or(|stored| next.version() > stored.version())
            };
            if let Some(next) = next.filter(is_new) {
                let change = stored.as_ref().and_then(|stored| delta(stored, &next));
                match store.publish(&next, change.as_ref()).await {
                    Ok(()) => stored = Some(next),
                    Err(error) => {
                        tracing::debug!(%error, "a table could not be published");
                        tokio::time::sleep(RETRY).await;
                        newest.mark_changed();
                    }
                }
            }
            if newest.changed().await.is_err() {
                return;
            }
        }
    }

    fn is_drained(&self, instance: InstanceId) -> bool {
        let gone_since = {
            let state = self.state();
            if state.targets.contains(&instance) {
                return false;
            }
            let first = Version { fence: self.leash.fence(), number: 1 };
            state.left.get(&instance).copied().unwrap_or(first)
        };
        let now = self.clock.now();
        self.heard().as_ref().is_some_and(|heard| heard.is_drained(instance, gone_since, now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panic could leave half done is replaced by the next table.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) -> MutexGuard<'_, Option<Acknowledgements>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One term's publisher, as the supervisor's shell has it.
#[derive(Clone)]
pub(super) struct Shared(pub(super) Arc<Fanout>);

impl Publisher for Shared {
    fn publish(&self, table: RoutingTable) {
        let mut state = self.0.state();
        match state.is_open {
            true => self.0.give_out(&mut state, table),
            false => state.held = Some(table),
        }
    }

    fn in_flight(&self, instance: InstanceId) -> u64 {
        let here = self.0.local.traffic().map_or(0, |traffic| traffic.in_flight(instance));
        let now = self.0.clock.now();
        let heard = self.0.heard();
        let elsewhere = heard.as_ref().map_or(0, |heard| heard.in_flight(instance, now));
        here.saturating_add(elsewhere)
    }

    fn drained(&self, instance: InstanceId) -> BoxFuture<'static, ()> {
        let fanout = Arc::clone(&self.0);
        Box::pin(async move {
            if let Some(traffic) = fanout.local.traffic() {
                traffic.drained(instance).await;
            }
            while !fanout.is_drained(instance) {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        })
    }
}
