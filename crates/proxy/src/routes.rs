//! The current routing table, and when an instance has no request left.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_utils::CachePadded;
use ringmaster_core::fleet::{
    ids::{InstanceId, ReplicaId},
    table::RoutingTable,
};
use tokio::sync::watch;

use super::metrics::{InstanceCounters, InstanceTotals, ReplicaTotals, Totals};

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
    /// What clients got from instances that are forgotten, by the replicas of the table.
    past: BTreeMap<ReplicaId, ReplicaTotals>,
    /// The same where the replica has left the table, too.
    gone: ReplicaTotals,
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
        known.forget_drained(&table.routing);
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

    /// Adds what was counted by instance and by replica.
    pub(crate) fn add_to(&self, totals: &mut Totals) {
        let known = self.known();
        let upstreams = known.upstreams.values();
        totals.instances = upstreams.map(|u| (u.instance, u.totals())).collect();
        totals.instances.sort_by_key(|(instance, _)| *instance);
        let upstreams = known.upstreams.values().map(|u| (u.instance.replica, u.served()));
        let past = known.past.iter().map(|(replica, served)| (*replica, *served));
        totals.gone = known.gone;
        let members = members_of(&self.0.current.borrow().routing);
        for (replica, served) in past.chain(upstreams) {
            match members.contains(&replica) {
                true => totals.replicas.entry(replica).or_default().merge(&served),
                false => totals.gone.merge(&served),
            }
        }
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

fn members_of(table: &RoutingTable) -> BTreeSet<ReplicaId> {
    table.ring.members().iter().map(|member| member.id).collect()
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

    /// Forgets instances that are not used any more, but not what they have served: it is kept by
    /// replica as long as that is in the table, then in one sum.
    fn forget_drained(&mut self, table: &RoutingTable) {
        let drained: Vec<InstanceId> = self
            .upstreams
            .values()
            .filter(|upstream| self.is_drained(upstream))
            .map(|upstream| upstream.instance)
            .collect();
        for instance in drained {
            if let Some(upstream) = self.upstreams.remove(&instance) {
                self.past.entry(instance.replica).or_default().merge(&upstream.served());
            }
        }
        let (Self { past, gone, .. }, members) = (self, members_of(table));
        past.retain(|replica, served| {
            let stays = members.contains(replica);
            if !stays {
                gone.merge(served);
            }
            stays
        });
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

    /// What clients got from it. Complete when it is drained: an answer is counted while its request
    /// is in flight.
    fn served(&self) -> ReplicaTotals {
        let mut served = ReplicaTotals::default();
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().for_each(|part| served.add(&part.served));
        served
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
    use ringmaster_core::{
        fleet::{
            ids::{Generation, Incarnation, ReplicaId, ReplicaName},
            table::Target,
        },
        ring::{Member, Ring, RingSettings},
    };

    use super::*;

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
    fn what_an_instance_has_served_outlives_it_and_its_replica() {
        let (one, next, other) = (instance(1, 1), instance(1, 2), instance(2, 1));
        let routes = Routes::new(table(&[one, other]));
        let reader = routes.reader();
        let serve = |times: u64, is_error: bool| {
            for upstream in reader.tables.borrow().upstreams.iter().flatten() {
                (0..times).for_each(|_| upstream.counters(0).served.pass_on(1_000, is_error));
            }
        };
        let counted = || {
            let mut totals = Totals::default();
            routes.add_to(&mut totals);
            let served = |served: &ReplicaTotals| (served.requests(), served.errors);
            let replicas: Vec<_> =
                totals.replicas.iter().map(|(id, totals)| (id.0, served(totals))).collect();
            (replicas, served(&totals.gone))
        };
        serve(3, false);
        assert_eq!(counted(), (vec![(1, (3, 0)), (2, (3, 0))], (0, 0)));
        let publish = |instances: &[InstanceId]| {
            // Twice: the second one forgets whom the first one has left out.
            for _ in 0..2 {
                routes.publish(table(instances));
                reader.acknowledge(reader.tables.borrow().version);
            }
        };
        publish(&[next, other]);
        assert_eq!(routes.known().upstreams.len(), 2, "the first instance is forgotten");
        serve(1, true);
        assert_eq!(counted(), (vec![(1, (4, 1)), (2, (4, 1))], (0, 0)));
        routes.publish(table(&[next]));
        assert_eq!(counted(), (vec![(1, (4, 1))], (4, 1)), "not drained, but not shown either");
        publish(&[next]);
        assert_eq!(counted(), (vec![(1, (4, 1))], (4, 1)));
        publish(&[]);
        let known = routes.known();
        assert_eq!((known.past.len(), known.gone.requests()), (0, 8), "nothing is left of them");
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
