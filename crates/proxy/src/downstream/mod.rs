//! One client connection as the rest of its worker sees it: what it does, since when, and what it
//! is told to do.
//!
//! Requests pay for this with a few plain writes. Whoever has something to say (the sweep over
//! deadlines, a new table, a shutdown) walks over all connections of the worker, leaves a word in
//! the cell and wakes the task; so no request has a timer or a subscription of its own.

mod clock;
mod http2;
mod pace;
mod registry;

use std::{
    cell::{Cell, OnceCell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    task::{Poll, Waker, ready},
    time::Duration,
};

use http::HeaderValue;
use ringmaster_core::fleet::ids::InstanceId;

use self::http2::Http2;
pub(crate) use self::pace::Pace;
pub(crate) use self::{
    clock::Clock,
    registry::{Deadlines, Registry},
};
use super::{
    interim::{self, Gate},
    splice::Splice,
    tunnel::Tunnel,
};

/// How often deadlines are looked at, and so how exact they are.
pub(crate) const SWEEP: Duration = Duration::from_millis(100);

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
    /// An HTTP/2 connection with streams, each of which has a cell of its own.
    Streams,
    /// An HTTP/2 connection without streams.
    NoStreams,
    /// Bytes of another protocol pass.
    Tunnel,
}

/// Whom a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Nobody,
    One(InstanceId),
    /// It is hedged. One that is ejected is taken out; nothing else changes for the other.
    Two([Option<InstanceId>; 2]),
}

/// What a waiting request is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its instance was ejected, and it waits for no other.
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

/// See the module.
#[derive(Debug)]
pub(crate) struct Downstream {
    pub(crate) peer: SocketAddr,
    /// The client's address as a header value, made once.
    pub(crate) forwarded_for: HeaderValue,
    /// Whether the peer may speak for others.
    pub(crate) is_trusted: bool,
    clock: Rc<Clock>,
    state: Cell<State>,
    since: Cell<u64>,
    waiting_for: Cell<Awaited>,
    verdict: Cell<Option<Verdict>>,
    order: Cell<Option<Order>>,
    /// Whether it was told to end now.
    closed: Cell<bool>,
    /// Whether the replica waits for the client's body, rather than we for the replica.
    starved: Cell<bool>,
    /// Whether the client's body turned out to be larger than the limit.
    too_large: Cell<bool>,
    /// When the request at hand began.
    began: Cell<u64>,
    /// Requests so far.
    requests: Cell<u64>,
    /// Whether it has taken longer than a whole one may.
    overdue: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Whether it is one stream of an HTTP/2 connection.
    is_stream: bool,
    /// If it is an HTTP/2 connection as a whole.
    http2: OnceCell<Box<Http2>>,
    /// Bytes of the client's body so far.
    body_bytes: Cell<u64>,
    pace: Cell<Pace>,
    /// Whether the client's body comes more slowly than it may.
    slow_body: Cell<bool>,
    /// Interim answers for the client, to be written when hyper has written all of its own.
    interim: RefCell<Vec<u8>>,
    /// Whether the client understands interim answers, and we can send it some.
    takes_interim: Cell<bool>,
    /// The body of the request at hand, if the client waits to be asked for it.
    gate: RefCell<Option<Rc<Gate>>>,
    /// What the connection becomes once its answer is sent.
    tunnel: RefCell<Option<Box<Tunnel>>>,
    /// The body that follows the head which hyper writes.
    splice: RefCell<Option<Box<Splice>>>,
    /// Whether hyper has written all that it had since that was known.
    is_flushed: Cell<bool>,
}

impl Downstream {
    fn new(peer: SocketAddr, is_trusted: bool, clock: &Rc<Clock>) -> Self {
        let address = peer.ip().to_canonical().to_string();
        let forwarded_for = HeaderValue::try_from(address);
        let forwarded_for = forwarded_for.unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self::with(peer, forwarded_for, is_trusted, clock)
    }

    fn with(
        peer: SocketAddr,
        forwarded_for: HeaderValue,
        is_trusted: bool,
        clock: &Rc<Clock>,
    ) -> Self {
        Self {
            peer,
            forwarded_for,
            is_trusted,
            state: Cell::new(State::Fresh),
            since: Cell::new(clock.now()),
            clock: Rc::clone(clock),
            waiting_for: Cell::new(Awaited::Nobody),
            verdict: Cell::new(None),
            order: Cell::new(None),
            closed: Cell::new(false),
            starved: Cell::new(false),
            too_large: Cell::new(false),
            began: Cell::new(clock.now()),
            requests: Cell::new(0),
            overdue: Cell::new(false),
            waker: RefCell::new(None),
            is_stream: false,
            http2: OnceCell::new(),
            body_bytes: Cell::new(0),
            pace: Cell::default(),
            slow_body: Cell::new(false),
            interim: RefCell::new(Vec::new()),
            takes_interim: Cell::new(false),
            gate: RefCell::new(None),
            tunnel: RefCell::new(None),
            splice: RefCell::new(None),
            is_flushed: Cell::new(false),
        }
    }

    /// A stream of this connection.
    fn stream(&self) -> Self {
        let forwarded_for = self.forwarded_for.clone();
        Self {
            is_stream: true,
            ..Self::with(self.peer, forwarded_for, self.is_trusted, &self.clock)
        }
    }

    /// Whether interim answers of the request at hand can be sent.
    pub(crate) fn set_takes_interim(&self, takes: bool) {
        self.takes_interim.set(takes && !self.is_stream);
    }

    /// The body of the request at hand waits to be asked for.
    pub(crate) fn hold_body(&self) -> Rc<Gate> {
        Rc::clone(self.gate.borrow_mut().insert(Rc::default()))
    }

    /// The body of the request at hand is asked for.
    pub(crate) fn release_body(&self) {
        if let Some(gate) = self.gate.take() {
            gate.open();
        }
    }

    /// What a replica says before its answer. `100` is said by whoever reads the body next.
    pub(crate) fn pass_on_interim(&self, heads: Vec<Vec<u8>>) {
        for head in heads {
            if interim::is_continue(&head) {
                self.release_body();
            } else if self.takes_interim.get()
                && let Some(head) = interim::translate(&head)
            {
                self.interim.borrow_mut().extend(head);
            }
        }
    }

    /// Whether an interim answer is not written yet. The final one must wait for it.
    pub(crate) fn has_interim(&self) -> bool {
        !self.interim.borrow().is_empty()
    }

    /// Ready once all interim answers are written. A client that does not read them in time loses its
    /// connection: what is half written cannot be taken back.
    pub(crate) fn poll_interim(&self) -> Poll<()> {
        if !self.has_interim() {
            return Poll::Ready(());
        }
        if self.verdict() == Some(Verdict::TimedOut) {
            self.tell(Order::Close);
        }
        Poll::Pending
    }

    /// Writes interim answers. Called when hyper has written all of its own.
    pub(crate) fn write_interim(
        &self,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let mut interim = self.interim.borrow_mut();
        while !interim.is_empty() {
            let written = ready!(write(&interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            interim.drain(..written);
        }
        drop(interim);
        self.wake();
        Poll::Ready(Ok(()))
    }

    /// The rest of the answer does not come from hyper.
    pub(crate) fn set_splice(&self, splice: Box<Splice>) {
        *self.splice.borrow_mut() = Some(splice);
        self.is_flushed.set(false);
    }

    /// hyper has written all that it had.
    pub(crate) fn flushed(&self) {
        self.is_flushed.set(true);
    }

    /// The body that is to be passed now: all that comes before it is written.
    pub(crate) fn take_splice(&self) -> Option<Box<Splice>> {
        if self.is_flushed.get() { self.splice.borrow_mut().take() } else { None }
    }

    pub(crate) fn set_tunnel(&self, tunnel: Box<Tunnel>) {
        *self.tunnel.borrow_mut() = Some(tunnel);
    }

    pub(crate) fn has_tunnel(&self) -> bool {
        self.tunnel.borrow().is_some()
    }

    pub(crate) fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        self.tunnel.borrow_mut().take()
    }

    /// Something else begins.
    pub(crate) fn enter(&self, state: State) {
        self.state.set(state);
        self.since.set(self.clock.now());
        self.stop_waiting();
        self.starved.set(false);
    }

    /// Bytes came from the client; of HTTP/2 some are changed.
    pub(crate) fn bytes_came(&self, bytes: &mut [u8]) {
        if matches!(self.state.get(), State::Fresh | State::Idle) {
            self.enter(State::Head);
        }
        if let Some(http2) = self.http2.get() {
            http2.came(bytes, self.clock.now());
        }
    }

    /// Bytes of the client's body came.
    pub(crate) fn body_came(&self, length: u64) {
        self.body_bytes.set(self.body_bytes.get().saturating_add(length));
    }

    /// A body moved.
    pub(crate) fn progress(&self) {
        self.since.set(self.clock.now());
    }

    /// A request begins.
    pub(crate) fn begin_request(&self) {
        self.enter(State::Request);
        self.began.set(self.since.get());
        self.too_large.set(false);
        self.overdue.set(false);
        self.body_bytes.set(0);
        self.pace.set(Pace::default());
        self.slow_body.set(false);
        self.gate.take();
    }

    /// Counts a request of the connection. Returns how many there have been, this one included.
    fn count_request(&self) -> u64 {
        self.requests.set(self.requests.get() + 1);
        self.requests.get()
    }

    /// Counts a request, and lets it be the last of the connection if there have been enough. Returns
    /// whether it is.
    pub(crate) fn wear(&self, most: Option<u64>) -> bool {
        let is_last = most == Some(self.count_request());
        if is_last {
            self.tell(Order::Finish);
        }
        is_last
    }

    /// Whether it is one stream of an HTTP/2 connection.
    pub(crate) fn is_stream(&self) -> bool {
        self.is_stream
    }

    pub(crate) fn set_too_large(&self) {
        self.too_large.set(true);
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large.get()
    }

    pub(crate) fn set_starved(&self, starved: bool) {
        self.starved.set(starved);
    }

    /// Whether it is the client that is waited for.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved.get() || self.slow_body.get()
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
            self.judge(Verdict::TimedOut);
            if self.state.get() == State::Response {
                self.tell(Order::Close);
            }
        }
    }

    /// The request at hand waits for an instance from now on. That another one was ejected does not
    /// concern it any more; that its time is up does.
    pub(crate) fn wait_for(&self, instance: InstanceId) {
        self.waiting_for.set(Awaited::One(instance));
        if self.verdict.get() == Some(Verdict::Ejected) {
            self.verdict.set(None);
        }
    }

    /// The request at hand, which waits for the first of these, waits for the second as well.
    pub(crate) fn wait_for_both(&self, first: InstanceId, second: InstanceId) {
        self.waiting_for.set(Awaited::Two([Some(first), Some(second)]));
    }

    /// Whether an instance was ejected that the request at hand, which is hedged, had waited for. For
    /// one that waits alone there is a verdict.
    pub(crate) fn has_lost(&self, instance: InstanceId) -> bool {
        match self.waiting_for.get() {
            Awaited::Nobody | Awaited::One(_) => false,
            Awaited::Two(two) => !two.contains(&Some(instance)),
        }
    }

    /// Does not wait any longer for any but the instances that may finish.
    fn eject_others(&self, may_finish: impl Fn(InstanceId) -> bool) {
        match self.waiting_for.get() {
            Awaited::Nobody => {}
            Awaited::One(one) if may_finish(one) => {}
            Awaited::One(_) => self.judge(Verdict::Ejected),
            Awaited::Two(two) => {
                let left = two.map(|instance| instance.filter(|&instance| may_finish(instance)));
                self.waiting_for.set(Awaited::Two(left));
                if left != two {
                    self.wake();
                }
            }
        }
    }

    fn stop_waiting(&self) {
        self.waiting_for.set(Awaited::Nobody);
        self.verdict.set(None);
    }

    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.verdict.get()
    }

    pub(crate) fn take_order(&self) -> Option<Order> {
        self.order.take()
    }

    /// Whether it was told to end now.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Keeps the way to wake the task; it stays the same for the task's life.
    pub(crate) fn remember(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Leaves an order, unless a stronger one has not been seen yet.
    fn tell(&self, order: Order) {
        if let Some(http2) = self.http2.get() {
            http2.finish(self.clock.now());
        }
        self.order.set(self.order.get().max(Some(order)));
        if order == Order::Close {
            self.closed.set(true);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn downstream() -> Downstream {
        let peer = SocketAddr::from(([10, 0, 0, 9], 4711));
        Downstream::new(peer, false, &Rc::new(Clock::start()))
    }

    #[test]
    fn a_weaker_order_does_not_replace_one_that_was_not_seen() {
        for (first, second, expected) in [
            (Order::Close, Order::Finish, Order::Close),
            (Order::Close, Order::TooSlow, Order::Close),
            (Order::TooSlow, Order::Finish, Order::TooSlow),
            (Order::Finish, Order::Close, Order::Close),
            (Order::Finish, Order::TooSlow, Order::TooSlow),
        ] {
            let downstream = downstream();
            downstream.tell(first);
            downstream.tell(second);
            assert_eq!(downstream.take_order(), Some(expected), "{first:?}, {second:?}");
            downstream.tell(Order::Finish);
            assert_eq!(downstream.take_order(), Some(Order::Finish), "it was seen");
        }
    }
}
