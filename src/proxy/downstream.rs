//! One client connection as the rest of its worker sees it: what it does, since when, and what it
//! is told to do.
//!
//! Requests pay for this with a few plain writes. Whoever has something to say (the sweep over
//! deadlines, a new table, a shutdown) walks over all connections of the worker, leaves a word in
//! the cell and wakes the task; so no request has a timer or a subscription of its own.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    task::Waker,
    time::{Duration, Instant},
};

use http::HeaderValue;

use super::config::ProxyConfig;
use crate::fleet::ids::InstanceId;

/// How often deadlines are looked at, and so how exact they are.
pub(crate) const SWEEP: Duration = Duration::from_millis(100);

/// The time of a worker in milliseconds, as exact as its sweep is frequent.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    now: Cell<u64>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), now: Cell::new(0) }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(crate) fn advance(&self) -> u64 {
        let millis = self.started.elapsed().as_millis();
        self.now.set(u64::try_from(millis).unwrap_or(u64::MAX));
        self.now.get()
    }
}

/// What a client connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing came yet.
    Fresh,
    /// A part of a head came.
    Head,
    /// A request is with a replica, or on its way.
    Request,
    /// A request is with the control router, which has its own deadlines.
    Control,
    /// An answer is on its way to the client.
    Response,
    /// Between two requests.
    Idle,
}

/// What a waiting request is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its instance was ejected.
    Ejected,
    /// The deadline passed.
    TimedOut,
}

/// What a connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// End after the request at hand, at once if there is none.
    Finish,
    /// End now.
    Close,
    /// End now, saying that the request took too long to come.
    TooSlow,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Downstream {
    pub(crate) peer: SocketAddr,
    /// The client's address as a header value, made once.
    pub(crate) forwarded_for: HeaderValue,
    clock: Rc<Clock>,
    state: Cell<State>,
    since: Cell<u64>,
    waiting_for: Cell<Option<InstanceId>>,
    verdict: Cell<Option<Verdict>>,
    order: Cell<Option<Order>>,
    /// Whether the replica waits for the client's body, rather than we for the replica.
    starved: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Downstream {
    fn new(peer: SocketAddr, clock: Rc<Clock>) -> Self {
        let address = peer.ip().to_canonical().to_string();
        Self {
            peer,
            forwarded_for: HeaderValue::try_from(address)
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            state: Cell::new(State::Fresh),
            since: Cell::new(clock.now()),
            clock,
            waiting_for: Cell::new(None),
            verdict: Cell::new(None),
            order: Cell::new(None),
            starved: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    /// Something else begins.
    pub(crate) fn enter(&self, state: State) {
        self.state.set(state);
        self.since.set(self.clock.now());
        self.stop_waiting();
        self.starved.set(false);
    }

    /// Bytes came from the client.
    pub(crate) fn bytes_came(&self) {
        if matches!(self.state.get(), State::Fresh | State::Idle) {
            self.enter(State::Head);
        }
    }

    /// A body moved.
    pub(crate) fn progress(&self) {
        self.since.set(self.clock.now());
    }

    pub(crate) fn set_starved(&self, starved: bool) {
        self.starved.set(starved);
    }

    pub(crate) fn is_starved(&self) -> bool {
        self.starved.get()
    }

    /// The request at hand waits for an instance from now on.
    pub(crate) fn wait_for(&self, instance: InstanceId) {
        self.waiting_for.set(Some(instance));
        self.verdict.set(None);
    }

    fn stop_waiting(&self) {
        self.waiting_for.set(None);
        self.verdict.set(None);
    }

    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.verdict.get()
    }

    pub(crate) fn take_order(&self) -> Option<Order> {
        self.order.take()
    }

    /// Keeps the way to wake the task; it stays the same for the task's life.
    pub(crate) fn remember(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    fn tell(&self, order: Order) {
        self.order.set(Some(order));
        self.wake();
    }

    fn judge(&self, verdict: Verdict) {
        self.verdict.set(Some(verdict));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// All client connections of a worker.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    connections: RefCell<HashMap<u64, Rc<Downstream>>>,
    next: Cell<u64>,
}

/// Milliseconds, taken from the configuration once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    header_read: u64,
    client_idle: u64,
    first_byte: u64,
    body_idle: u64,
}

impl Deadlines {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        // What began is written down with the time of the sweep before it: the longest error is
        // added, so that no deadline comes early.
        let millis = |time: Duration| {
            u64::try_from(time.saturating_add(SWEEP).as_millis()).unwrap_or(u64::MAX)
        };
        Self {
            header_read: millis(config.header_read),
            client_idle: millis(config.client_idle),
            first_byte: millis(config.first_byte),
            body_idle: millis(config.body_idle),
        }
    }
}

/// How long a fresh connection may still send its first request after a shutdown began: it may have
/// been made before anybody could know.
const FRESH_GRACE: u64 = 500;

impl Registry {
    pub(crate) fn open(&self, peer: SocketAddr, clock: &Rc<Clock>) -> (u64, Rc<Downstream>) {
        let id = self.next.get();
        self.next.set(id + 1);
        let downstream = Rc::new(Downstream::new(peer, Rc::clone(clock)));
        let mut connections = self.connections.borrow_mut();
        connections.insert(id, Rc::clone(&downstream));
        (id, downstream)
    }

    pub(crate) fn close(&self, id: u64) {
        self.connections.borrow_mut().remove(&id);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }

    /// Tells requests to give up that wait for any but the instances that may finish.
    pub(crate) fn eject_others(&self, may_finish: impl Fn(InstanceId) -> bool) {
        for downstream in self.connections.borrow().values() {
            let waiting_for = downstream.waiting_for.get();
            if waiting_for.is_some_and(|instance| !may_finish(instance)) {
                downstream.judge(Verdict::Ejected);
            }
        }
    }

    /// Tells all connections to end after what they do.
    pub(crate) fn finish(&self, now: u64) {
        for downstream in self.connections.borrow().values() {
            let age = now.saturating_sub(downstream.since.get());
            if downstream.state.get() != State::Fresh || age > FRESH_GRACE {
                downstream.tell(Order::Finish);
            }
        }
    }

    /// Looks for deadlines that have passed.
    pub(crate) fn sweep(&self, now: u64, deadlines: &Deadlines) {
        for downstream in self.connections.borrow().values() {
            let age = now.saturating_sub(downstream.since.get());
            match downstream.state.get() {
                State::Fresh if age > deadlines.header_read => downstream.tell(Order::Close),
                State::Head if age > deadlines.header_read => downstream.tell(Order::TooSlow),
                State::Idle if age > deadlines.client_idle => downstream.tell(Order::Finish),
                State::Request if age > deadlines.first_byte => downstream.judge(Verdict::TimedOut),
                State::Response if age > deadlines.body_idle => downstream.tell(Order::Close),
                _ => {}
            }
        }
    }
}
