//! Connections to one instance, of one worker.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use crossbeam_utils::CachePadded;
use ringmaster_core::{
    balance::{Ewma, Failures},
    fleet::ids::{InstanceId, ReplicaName},
};

use super::{
    downstream::Clock,
    h2,
    link::Link,
    metrics::InstanceCounters,
    queue::Queue,
    routes::Upstream,
    upstream::{Connection, Idle},
};

/// The connections of one worker to one instance.
pub(crate) struct Pool {
    upstream: Arc<Upstream>,
    address: SocketAddr,
    name: ReplicaName,
    /// Whether the instance is in the current table; once it is not, this pool takes nothing back.
    is_target: Cell<bool>,
    #[allow(clippy::vec_box, reason = "they come and go as boxes: a move is a pointer's")]
    /// Oldest first. Taken from the end, so that the number adapts to what is needed.
    idle: RefCell<Vec<Box<Link>>>,
    /// Those of our own codec that rest.
    h1: Idle,
    idle_max: usize,
    idle_millis: u64,
    clock: Rc<Clock>,
    latency: Cell<Ewma>,
    failures: Cell<Failures>,
    /// Answers in a row that were errors.
    errors: Cell<u32>,
    pub(crate) h2: h2::Connections,
    pub(crate) queue: Queue,
    /// Whether the instance speaks HTTP/2; `None` until it was asked.
    speaks_h2: Cell<Option<bool>>,
    pub(crate) counters: Arc<CachePadded<InstanceCounters>>,
}

impl Pool {
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        (address, name): (SocketAddr, ReplicaName),
        worker: usize,
        limits: (usize, Duration),
        clock: Rc<Clock>,
    ) -> Self {
        Self {
            counters: upstream.counters(worker),
            upstream,
            address,
            name,
            is_target: Cell::new(true),
            idle: RefCell::default(),
            h1: Idle::default(),
            idle_max: limits.0,
            idle_millis: u64::try_from(limits.1.as_millis()).unwrap_or(u64::MAX),
            clock,
            latency: Cell::default(),
            failures: Cell::default(),
            errors: Cell::default(),
            h2: h2::Connections::default(),
            queue: Queue::default(),
            speaks_h2: Cell::default(),
        }
    }

    pub(crate) fn instance(&self) -> InstanceId {
        self.upstream.instance
    }

    pub(crate) fn name(&self) -> &ReplicaName {
        &self.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_target(&self) -> bool {
        self.is_target.get()
    }

    pub(crate) fn speaks_h2(&self) -> Option<bool> {
        self.speaks_h2.get()
    }

    pub(crate) fn set_speaks_h2(&self, speaks: bool) {
        self.speaks_h2.set(Some(speaks));
    }

    /// Open requests, in all workers.
    pub(crate) fn in_flight(&self) -> u64 {
        self.upstream.in_flight()
    }

    /// Remembers how long the instance took to answer, or not to.
    pub(crate) fn took(&self, micros: u64, failed: bool) {
        self.latency.set(self.latency.get().with(micros, failed, self.clock.now()));
    }

    /// What one more request costs here, by what was remembered.
    pub(crate) fn cost(&self) -> f64 {
        self.latency.get().cost(self.in_flight(), self.clock.now())
    }

    /// Remembers a failure, where load decides; see [`Failures`].
    pub(crate) fn failed(&self, enough: u64) {
        self.failures.set(self.failures.get().with(enough, self.clock.now()));
    }

    /// Open requests, in all workers, and what failures in this one weigh.
    pub(crate) fn load(&self) -> u64 {
        self.in_flight() + self.failures.get().load(self.clock.now())
    }

    /// One more answer; returns how many in a row were errors, this one included.
    pub(crate) fn answered(&self, is_error: bool) -> u32 {
        let run = if is_error { self.errors.get().saturating_add(1) } else { 0 };
        self.errors.set(run);
        run
    }

    /// An open connection that has not rested for too long.
    pub(crate) fn take(&self) -> Option<Box<Link>> {
        let mut idle = self.idle.borrow_mut();
        let oldest = self.clock.now().saturating_sub(self.idle_millis);
        while let Some(link) = idle.pop() {
            if link.idle_since() < oldest {
                // What lies below is older still.
                idle.clear();
                break;
            }
            if link.is_reusable() {
                return Some(link);
            }
        }
        None
    }

    /// Takes a connection back, if it can serve another request.
    pub(crate) fn put(&self, mut link: Box<Link>) {
        let mut idle = self.idle.borrow_mut();
        if self.is_target.get() && link.is_reusable() && idle.len() < self.idle_max {
            link.rest(self.clock.now());
            idle.push(link);
        }
    }

    /// An open connection of our own codec that has not rested for too long.
    pub(crate) fn take_h1(&self) -> Option<Box<Connection>> {
        self.h1.take(self.clock.now().saturating_sub(self.idle_millis))
    }

    /// Takes one back that both sides are done with.
    pub(crate) fn put_h1(&self, connection: Box<Connection>) {
        if self.is_target.get() {
            self.h1.put(connection, self.clock.now(), self.idle_max);
        }
    }

    /// Closes connections that have rested for too long.
    pub(crate) fn cull(&self) {
        let oldest = self.clock.now().saturating_sub(self.idle_millis);
        let mut idle = self.idle.borrow_mut();
        let old = idle.partition_point(|link| link.idle_since() < oldest);
        idle.drain(..old);
        self.h1.cull(oldest);
        self.h2.cull(oldest);
        self.queue.wake_first();
    }

    /// Closes connections that rest.
    pub(crate) fn release_idle(&self) {
        self.idle.borrow_mut().clear();
        self.h1.clear();
        self.h2.cull(u64::MAX);
    }

    /// The instance left the table: its idle connections close, and no other comes back.
    pub(crate) fn retire(&self) {
        self.is_target.set(false);
        self.idle.borrow_mut().clear();
        self.h1.clear();
        self.h2.retire();
        self.queue.wake_all();
    }
}

/// A request's place in the in-flight number of its instance.
pub(crate) struct InFlight(Rc<Pool>);

impl InFlight {
    pub(crate) fn enter(pool: Rc<Pool>) -> Self {
        pool.upstream.begin_request();
        pool.counters.requests.bump();
        Self(pool)
    }

    /// The same, unless so many are in flight already.
    pub(crate) fn try_enter(pool: &Rc<Pool>, most: u64) -> Option<Self> {
        pool.upstream.try_begin_request(most).then(|| {
            pool.counters.requests.bump();
            Self(Rc::clone(pool))
        })
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.0
    }

    pub(crate) fn shared(&self) -> Rc<Pool> {
        Rc::clone(&self.0)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.upstream.end_request();
        self.0.queue.wake_first();
    }
}
