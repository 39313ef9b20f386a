//! The current routing table, and when an instance has no request left.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_utils::CachePadded;
use tokio::sync::watch;

use super::metrics::{InstanceCounters, InstanceTotals};
use crate::fleet::{ids::InstanceId, table::RoutingTable};

/// How often a drain looks whether it is over.
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// The handle through which tables reach the workers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    current: watch::Sender<Arc<Table>>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Targets, and instances that still have open requests.
    upstreams: HashMap<InstanceId, Arc<Upstream>>,
    /// Workers that run.
    readers: Vec<Arc<ReaderState>>,
    readers_ever: usize,
}

/// One published table.
#[derive(Debug)]
pub(crate) struct Table {
    /// Counts publications; a table's generation does not rise with each of them.
    pub(crate) version: u64,
    pub(crate) routing: RoutingTable,
    /// By member index, like the targets.
    pub(crate) upstreams: Vec<Option<Arc<Upstream>>>,
}

/// An instance as the data plane knows it; the same from its first table to its last request.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) instance: InstanceId,
    /// Written for every request by every worker, so it has a cache line of its own.
    in_flight: CachePadded<AtomicU64>,
    /// The version of the first table without it; 0 while it is a target.
    left_at: AtomicU64,
    /// By worker.
    counters: Mutex<Vec<Arc<CachePadded<InstanceCounters>>>>,
}

#[derive(Debug, Default)]
struct ReaderState {
    acknowledged: CachePadded<AtomicU64>,
}

/// A worker's side of the routes. Dropping it (a worker that ends, however) means that nobody
/// waits for its acknowledgement any more.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) tables: watch::Receiver<Arc<Table>>,
    /// Distinct among all workers ever.
    pub(crate) index: usize,
    state: Arc<ReaderState>,
    routes: Routes,
}

impl Routes {
    /// Routes that begin with a table.
    pub fn new(initial: RoutingTable) -> Self {
        let mut known = Known::default();
        let table = known.table(1, initial);
        Self(Arc::new(Shared {
            current: watch::Sender::new(Arc::new(table)),
            known: Mutex::new(known),
        }))
    }

    /// Gives a new table to all workers.
    pub fn publish(&self, table: RoutingTable) {
        let mut known = self.known();
        let version = self.0.current.borrow().version + 1;
        let table = known.table(version, table);
        known.forget_drained();
        self.0.current.send_replace(Arc::new(table));
    }

    /// The table that was published last.
    pub fn current(&self) -> RoutingTable {
        self.0.current.borrow().routing.clone()
    }

    /// Open requests of an instance, in all workers.
    pub fn in_flight(&self, instance: InstanceId) -> u64 {
        let known = self.known();
        known.upstreams.get(&instance).map_or(0, |u| u.in_flight())
    }

    /// Counts the published tables; of the last one.
    pub fn number(&self) -> u64 {
        self.0.current.borrow().version
    }

    /// The number of the oldest table that a worker still routes by.
    pub fn acknowledged(&self) -> u64 {
        let known = self.known();
        let oldest = known.readers.iter().map(|r| r.acknowledged.load(Ordering::Acquire)).min();
        oldest.unwrap_or_else(|| self.number())
    }

    /// Open requests, of the instances that have any.
    pub fn open_requests(&self) -> BTreeMap<InstanceId, u64> {
        let known = self.known();
        let open = known.upstreams.values().map(|u| (u.instance, u.in_flight()));
        open.filter(|(_, open)| *open > 0).collect()
    }

    /// Waits until every worker has acknowledged a table without this instance, and its last
    /// request has ended. Has no deadline of its own.
    pub async fn drained(&self, instance: InstanceId) {
        while !self.is_drained(instance) {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }

    fn is_drained(&self, instance: InstanceId) -> bool {
        let known = self.known();
        let upstream = known.upstreams.get(&instance);
        upstream.is_none_or(|upstream| known.is_drained(upstream))
    }

    pub(crate) fn instance_totals(&self) -> Vec<(InstanceId, InstanceTotals)> {
        let known = self.known();
        let mut totals: Vec<_> = known
            .upstreams
            .values()
            .map(|upstream| (upstream.instance, upstream.totals()))
            .collect();
        totals.sort_by_key(|(instance, _)| *instance);
        totals
    }

    /// Registers a worker. It must acknowledge from here on, so it registers before it looks at a
    /// table: there is no moment in which it could use one that nobody waits for.
    pub(crate) fn reader(&self) -> Reader {
        let state = Arc::new(ReaderState::default());
        let mut known = self.known();
        known.readers.push(Arc::clone(&state));
        let index = known.readers_ever;
        known.readers_ever += 1;
        drop(known);
        Reader { tables: self.0.current.subscribe(), index, state, routes: self.clone() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held; if something did, the data would still be whole.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn table(&mut self, version: u64, routing: RoutingTable) -> Table {
        let upstreams: Vec<Option<Arc<Upstream>>> = routing
            .targets
            .iter()
            .map(|target| {
                let instance = target.as_ref()?.instance;
                let upstream = self
                    .upstreams
                    .entry(instance)
                    .or_insert_with(|| Arc::new(Upstream::new(instance)));
                Some(Arc::clone(upstream))
            })
            .collect();
        for upstream in self.upstreams.values() {
            let is_target = upstreams.iter().flatten().any(|u| Arc::ptr_eq(u, upstream));
            let left_at = upstream.left_at.load(Ordering::Relaxed);
            match (is_target, left_at) {
                (true, _) => upstream.left_at.store(0, Ordering::Relaxed),
                (false, 0) => upstream.left_at.store(version, Ordering::Relaxed),
                (false, _) => {}
            }
        }
        Table { version, routing, upstreams }
    }

    fn is_drained(&self, upstream: &Upstream) -> bool {
        let left_at = upstream.left_at.load(Ordering::Relaxed);
        // Acquire pairs with the release of the acknowledgement: requests that a worker began
        // before it are visible in the in-flight number.
        left_at != 0
            && self
                .readers
                .iter()
                .all(|reader| reader.acknowledged.load(Ordering::Acquire) >= left_at)
            && upstream.in_flight() == 0
    }

    fn forget_drained(&mut self) {
        let drained: Vec<InstanceId> = self
            .upstreams
            .values()
            .filter(|upstream| self.is_drained(upstream))
            .map(|upstream| upstream.instance)
            .collect();
        for instance in drained {
            self.upstreams.remove(&instance);
        }
    }
}

impl Upstream {
    fn new(instance: InstanceId) -> Self {
        Self {
            instance,
            in_flight: CachePadded::default(),
            left_at: AtomicU64::new(0),
            counters: Mutex::default(),
        }
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn begin_request(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// The same, unless so many are open already.
    pub(crate) fn try_begin_request(&self, most: u64) -> bool {
        let one_more = |open: u64| (open < most).then_some(open + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    pub(crate) fn end_request(&self) {
        self.in_flight.fetch_sub(1, Ordering::Release);
    }

    /// The counters that one worker writes; the same ones when it asks again.
    pub(crate) fn counters(&self, worker: usize) -> Arc<CachePadded<InstanceCounters>> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() <= worker {
            counters.resize_with(worker + 1, Arc::default);
        }
        Arc::clone(&counters[worker])
    }

    fn totals(&self) -> InstanceTotals {
        let mut totals =
            InstanceTotals { in_flight: self.in_flight(), ..InstanceTotals::default() };
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().for_each(|part| totals.add(part));
        totals
    }
}

impl Reader {
    /// Says that this worker gives requests to nobody who is not in this version any more.
    pub(crate) fn acknowledge(&self, version: u64) {
        self.state.acknowledged.store(version, Ordering::Release);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut known = self.routes.known();
        known.readers.retain(|state| !Arc::ptr_eq(state, &self.state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fleet::{
            ids::{Generation, Incarnation, ReplicaId, ReplicaName},
            table::Target,
        },
        ring::{Member, Ring, RingSettings},
    };

    fn instance(replica: u32, incarnation: u32) -> InstanceId {
        InstanceId { replica: ReplicaId(replica), incarnation: Incarnation(incarnation) }
    }

    fn table(instances: &[InstanceId]) -> RoutingTable {
        let members = instances.iter().map(|instance| Member {
            id: instance.replica,
            ordinal: instance.replica.0,
            weight: 1,
            positions: vec![instance.replica.0],
        });
        let ring = Ring::new(RingSettings::default(), members.collect()).unwrap();
        let target = |instance: &InstanceId| Target {
            instance: *instance,
            name: ReplicaName::numbered(instance.replica.0),
            address: ([127, 0, 0, 1], 1).into(),
        };
        RoutingTable {
            generation: Generation(1),
            ring: Arc::new(ring),
            targets: instances.iter().map(|i| Some(target(i))).collect(),
            finishing: Vec::new(),
        }
    }

    #[test]
    fn drained_means_acknowledged_by_all_who_run_and_without_requests() {
        let (stays, leaves) = (instance(1, 1), instance(2, 1));
        let routes = Routes::new(table(&[stays, leaves]));
        let (one, two) = (routes.reader(), routes.reader());
        let upstream = one.tables.borrow().upstreams[1].clone().unwrap();
        upstream.begin_request();
        assert_eq!(routes.in_flight(leaves), 1);
        assert!(!routes.is_drained(leaves), "still a target");
        routes.publish(table(&[stays]));
        let version = one.tables.borrow().version;
        one.acknowledge(version);
        upstream.end_request();
        assert!(!routes.is_drained(leaves), "the second worker is behind");
        two.acknowledge(version);
        assert!(routes.is_drained(leaves));
        assert!(!routes.is_drained(stays));
        assert!(routes.is_drained(instance(9, 9)), "never heard of");
    }

    #[test]
    fn a_worker_that_ended_is_not_waited_for() {
        let gone = instance(1, 1);
        let routes = Routes::new(table(&[gone]));
        let reader = routes.reader();
        routes.publish(table(&[]));
        assert!(!routes.is_drained(gone));
        drop(reader);
        assert!(routes.is_drained(gone));
    }

    #[test]
    fn an_instance_that_comes_back_is_the_same_and_not_drained() {
        let (flapping, other) = (instance(1, 1), instance(1, 2));
        let routes = Routes::new(table(&[flapping]));
        let reader = routes.reader();
        let upstream = reader.tables.borrow().upstreams[0].clone().unwrap();
        upstream.begin_request();
        routes.publish(table(&[other]));
        routes.publish(table(&[flapping]));
        let again = reader.tables.borrow().upstreams[0].clone().unwrap();
        assert!(Arc::ptr_eq(&upstream, &again));
        reader.acknowledge(reader.tables.borrow().version);
        upstream.end_request();
        assert!(!routes.is_drained(flapping));
        assert!(routes.is_drained(other));
        routes.publish(table(&[flapping]));
        assert_eq!(routes.known().upstreams.len(), 1, "the drained one is forgotten");
    }
}
