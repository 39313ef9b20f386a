//! One client connection as the rest of its worker sees it: what it does, since when, and what it is
//! told to do; and all of them, for the sweep.
//!
//! Requests pay for this with a few plain writes. The sweep over deadlines, a new table and a shutdown
//! leave a word in the cell and wake the task; so no request has a timer of its own.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    task::Waker,
    time::Duration,
};

use http::HeaderValue;
use ringmaster_core::fleet::ids::InstanceId;

use super::{
    config::ProxyConfig,
    downstream::{Clock, Pace, SWEEP},
};

/// What a client connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing came yet.
    Fresh,
    /// A part of a head came.
    Head,
    /// A request is with a replica, or on its way.
    Request,
    /// A request is with the control router, which has its own deadlines.
    Control,
    /// A response is on its way to the client.
    Response,
    /// Between two requests.
    Idle,
    /// What the client still sends is read and discarded; see [`Watch::set_alarm`] for its end.
    Lingering,
}

/// What interrupts a waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// Its instance was ejected.
    Ejected,
    /// The deadline passed.
    TimedOut,
}

/// What a connection is told; what comes later here outweighs what comes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// End after the request at hand, at once if there is none.
    Finish,
    /// End now, saying that the request took too long to come.
    TooSlow,
    /// End now.
    Close,
}

/// The cell of one connection.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) peer: SocketAddr,
    /// The client's address as a header value, made once.
    pub(crate) forwarded_for: HeaderValue,
    /// Whether the peer may speak for others.
    pub(crate) is_trusted: bool,
    clock: Rc<Clock>,
    phase: Cell<Phase>,
    since: Cell<u64>,
    /// When the request at hand began.
    began: Cell<u64>,
    /// Requests so far.
    requests: Cell<u64>,
    awaited: Cell<Option<InstanceId>>,
    interruption: Cell<Option<Interruption>>,
    order: Cell<Option<Order>>,
    /// When the task wants to look again.
    alarm: Cell<u64>,
    /// Whether it is the client that is waited for.
    starved: Cell<bool>,
    /// Whether the client's body comes more slowly than it may.
    slow_body: Cell<bool>,
    body_bytes: Cell<u64>,
    pace: Cell<Pace>,
    overdue: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Its place in the registry.
    place: Cell<usize>,
}

impl Watch {
    fn new(peer: SocketAddr, is_trusted: bool, clock: &Rc<Clock>) -> Self {
        let address = HeaderValue::try_from(peer.ip().to_canonical().to_string());
        Self {
            peer,
            forwarded_for: address.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            is_trusted,
            clock: Rc::clone(clock),
            phase: Cell::new(Phase::Fresh),
            since: Cell::new(clock.now()),
            began: Cell::new(clock.now()),
            requests: Cell::new(0),
            awaited: Cell::new(None),
            interruption: Cell::new(None),
            order: Cell::new(None),
            alarm: Cell::new(u64::MAX),
            starved: Cell::new(false),
            slow_body: Cell::new(false),
            body_bytes: Cell::new(0),
            pace: Cell::default(),
            overdue: Cell::new(false),
            waker: RefCell::new(None),
            place: Cell::new(0),
        }
    }

    /// Something else begins.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.now());
        self.awaited.set(None);
        self.interruption.set(None);
        self.starved.set(false);
        self.alarm.set(u64::MAX);
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// A request begins.
    pub(crate) fn begin_request(&self) {
        self.enter(Phase::Request);
        self.began.set(self.since.get());
        self.overdue.set(false);
        self.body_bytes.set(0);
        self.pace.set(Pace::default());
        self.slow_body.set(false);
    }

    /// Bytes moved.
    pub(crate) fn progress(&self) {
        self.since.set(self.clock.now());
    }

    /// Bytes of the client's body came.
    pub(crate) fn body_came(&self, length: u64) {
        self.body_bytes.set(self.body_bytes.get().saturating_add(length));
    }

    pub(crate) fn set_starved(&self, starved: bool) {
        self.starved.set(starved);
    }

    /// Whether it is the client that is waited for.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved.get() || self.slow_body.get()
    }

    /// Counts a request, and lets it be the last of the connection if there have been enough. Returns
    /// whether it is.
    pub(crate) fn count_request(&self, most: Option<u64>) -> bool {
        self.requests.set(self.requests.get() + 1);
        let is_last = most == Some(self.requests.get());
        if is_last {
            self.tell(Order::Finish);
        }
        is_last
    }

    /// Whether it ends after the request at hand.
    pub(crate) fn is_last(&self) -> bool {
        self.order.get().is_some()
    }

    /// What it was told, if anything; it stays told.
    pub(crate) fn order(&self) -> Option<Order> {
        self.order.get()
    }

    pub(crate) fn interruption(&self) -> Option<Interruption> {
        self.interruption.get()
    }

    /// The request at hand waits for an instance from now on. That another one was ejected does not
    /// concern it any more; that its time is up does.
    pub(crate) fn wait_for(&self, instance: InstanceId) {
        self.awaited.set(Some(instance));
        if self.interruption.get() == Some(Interruption::Ejected) {
            self.interruption.set(None);
        }
    }

    /// The time, `after` from now, at which something is due. No deadline comes early: what begins
    /// now is written down with the time of the sweep before it.
    pub(crate) fn time_after(&self, after: Duration) -> u64 {
        self.clock.now().saturating_add(millis(after))
    }

    /// Whether that time has come.
    pub(crate) fn has_come(&self, time: u64) -> bool {
        self.clock.now() > time
    }

    /// Wakes the task at this time, or before.
    pub(crate) fn set_alarm(&self, time: u64) {
        self.alarm.set(self.alarm.get().min(time));
    }

    /// Keeps the way to wake the task; it stays the same for the task's life.
    pub(crate) fn remember(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Leaves an order, unless it was told a stronger one.
    fn tell(&self, order: Order) {
        self.order.set(self.order.get().max(Some(order)));
        self.wake();
    }

    fn interrupt(&self, interruption: Interruption) {
        self.interruption.set(Some(interruption));
        self.wake();
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// So many milliseconds have passed; the client's body must come at so many bytes per second at
    /// least.
    fn keep_pace(&self, millis: u64, least: u64) {
        if !self.starved.get() {
            return;
        }
        let mut pace = self.pace.get();
        let is_slow = pace.waited(millis, self.body_bytes.get(), least);
        self.pace.set(pace);
        if is_slow {
            self.slow_body.set(true);
            self.time_out();
        }
    }

    fn time_out(&self) {
        self.interrupt(Interruption::TimedOut);
        if self.phase.get() == Phase::Response {
            self.tell(Order::Close);
        }
    }

    /// Looks at the deadlines. Returns whether the whole request has just become overdue.
    fn sweep(&self, now: u64, passed: u64, deadlines: &Deadlines) -> bool {
        let age = now.saturating_sub(self.since.get());
        let phase = self.phase.get();
        let has_request = matches!(phase, Phase::Request | Phase::Response);
        if has_request && deadlines.body_rate_min > 0 {
            self.keep_pace(passed, deadlines.body_rate_min);
        }
        if now > self.alarm.get() {
            self.alarm.set(u64::MAX);
            self.wake();
        }
        let whole = now.saturating_sub(self.began.get());
        if has_request && whole > deadlines.whole && !self.overdue.replace(true) {
            self.time_out();
            return true;
        }
        match phase {
            Phase::Fresh if age > deadlines.header_read => self.tell(Order::Close),
            Phase::Head if age > deadlines.header_read => self.tell(Order::TooSlow),
            Phase::Idle if age > deadlines.client_idle => self.tell(Order::Finish),
            Phase::Request if age > deadlines.first_byte => self.interrupt(Interruption::TimedOut),
            Phase::Response if age > deadlines.body_idle => self.tell(Order::Close),
            _ => {}
        }
        false
    }
}

fn millis(time: Duration) -> u64 {
    // The longest error of the clock is added.
    u64::try_from(time.saturating_add(SWEEP).as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds, taken from the configuration once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    header_read: u64,
    client_idle: u64,
    first_byte: u64,
    body_idle: u64,
    whole: u64,
    /// Bytes per second; 0: none.
    body_rate_min: u64,
}

impl Deadlines {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        Self {
            header_read: millis(config.header_read),
            client_idle: millis(config.client_idle),
            first_byte: millis(config.first_byte),
            body_idle: millis(config.body_idle),
            whole: config.request_timeout.map_or(u64::MAX, millis),
            body_rate_min: config.body_rate_min.unwrap_or(0),
        }
    }
}

/// How long a fresh connection may still send its first request after a shutdown began: it may have
/// been made before anybody could know.
const FRESH_GRACE: u64 = 500;

/// All client connections of a worker, and the sweep over them.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    all: RefCell<Vec<Rc<Watch>>>,
    /// When deadlines were looked at last.
    swept: Cell<u64>,
    /// Those that linger.
    lingering: Cell<usize>,
}

/// Connections of a worker that may linger at a time.
const LINGERING_MAX: usize = 1_024;

/// A place among those that linger; left by dropping it.
pub(crate) struct Lingering<'a>(&'a Cell<usize>);

impl Drop for Lingering<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Watches {
    /// A place among those that linger, if there is one.
    pub(crate) fn linger(&self) -> Option<Lingering<'_>> {
        let count = self.lingering.get();
        (count < LINGERING_MAX).then(|| {
            self.lingering.set(count + 1);
            Lingering(&self.lingering)
        })
    }

    pub(crate) fn open(&self, peer: SocketAddr, is_trusted: bool, clock: &Rc<Clock>) -> Rc<Watch> {
        let watch = Rc::new(Watch::new(peer, is_trusted, clock));
        let mut all = self.all.borrow_mut();
        watch.place.set(all.len());
        all.push(Rc::clone(&watch));
        watch
    }

    pub(crate) fn close(&self, watch: &Watch) {
        let mut all = self.all.borrow_mut();
        let place = watch.place.get();
        if place < all.len() {
            all.swap_remove(place);
        }
        if let Some(moved) = all.get(place) {
            moved.place.set(place);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Tells requests to give up that wait for any but the instances that may finish.
    pub(crate) fn eject_others(&self, may_finish: impl Fn(InstanceId) -> bool) {
        for watch in self.all.borrow().iter() {
            if watch.awaited.get().is_some_and(|instance| !may_finish(instance)) {
                watch.interrupt(Interruption::Ejected);
            }
        }
    }

    /// Tells all connections to end after what they do.
    pub(crate) fn finish(&self, now: u64) {
        for watch in self.all.borrow().iter() {
            let age = now.saturating_sub(watch.since.get());
            if watch.phase.get() != Phase::Fresh || age > FRESH_GRACE {
                watch.tell(Order::Finish);
            }
        }
    }

    /// Looks for deadlines that have passed. Returns how many whole requests took too long.
    pub(crate) fn sweep(&self, now: u64, deadlines: &Deadlines) -> u64 {
        let passed = now.saturating_sub(self.swept.replace(now));
        let all = self.all.borrow();
        all.iter().map(|watch| u64::from(watch.sweep(now, passed, deadlines))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: ([u8; 4], u16) = ([10, 0, 0, 9], 4711);

    fn watches(count: usize) -> (Watches, Vec<Rc<Watch>>) {
        let (watches, clock) = (Watches::default(), Rc::new(Clock::start()));
        let all = (0..count).map(|_| watches.open(PEER.into(), false, &clock)).collect();
        (watches, all)
    }

    #[test]
    fn a_weaker_order_does_not_replace_a_stronger_one() {
        let (_, all) = watches(1);
        for (order, expected) in [
            (Order::Finish, Order::Finish),
            (Order::Close, Order::Close),
            (Order::TooSlow, Order::Close),
        ] {
            all[0].tell(order);
            assert_eq!(all[0].order(), Some(expected));
        }
    }

    #[test]
    fn each_phase_has_its_deadline() {
        let seconds = Duration::from_secs;
        let config = ProxyConfig {
            header_read: seconds(1),
            client_idle: seconds(2),
            first_byte: seconds(3),
            body_idle: seconds(4),
            ..ProxyConfig::default()
        };
        let deadlines = Deadlines::new(&config);
        for (phase, millis, order, interruption) in [
            (Phase::Fresh, 1_100, Some(Order::Close), None),
            (Phase::Head, 1_100, Some(Order::TooSlow), None),
            (Phase::Idle, 2_100, Some(Order::Finish), None),
            (Phase::Request, 3_100, None, Some(Interruption::TimedOut)),
            (Phase::Response, 4_100, Some(Order::Close), None),
            (Phase::Control, 1_000_000, None, None),
        ] {
            let (watches, all) = watches(1);
            all[0].enter(phase);
            watches.sweep(millis, &deadlines);
            assert_eq!((all[0].order(), all[0].interruption()), (None, None), "{phase:?}");
            watches.sweep(millis + 1, &deadlines);
            assert_eq!((all[0].order(), all[0].interruption()), (order, interruption), "{phase:?}");
        }
    }

    #[test]
    fn places_follow_when_one_leaves() {
        let (watches, all) = watches(5);
        for index in [1, 4, 0, 3, 2] {
            watches.close(&all[index]);
            for (place, watch) in watches.all.borrow().iter().enumerate() {
                assert_eq!(watch.place.get(), place);
                assert!(!Rc::ptr_eq(watch, &all[index]));
            }
        }
        assert!(watches.is_empty());
    }
}
