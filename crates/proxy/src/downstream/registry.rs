//! All client connections of a worker, and the walks over them.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use ringmaster_core::fleet::ids::InstanceId;

use super::{
    super::{config::ProxyConfig, trusted::TrustedProxies},
    Clock, Downstream, Order, SWEEP, State, Verdict,
    http2::{Limits, Step},
};

/// All client connections of a worker.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    connections: RefCell<HashMap<u64, Rc<Downstream>>>,
    next: Cell<u64>,
    /// When deadlines were looked at last.
    swept: Cell<u64>,
}

/// Milliseconds, taken from the configuration once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    header_read: u64,
    client_idle: u64,
    first_byte: u64,
    body_idle: u64,
    upgrade_idle: u64,
    whole: u64,
    /// Bytes per second; 0: none.
    body_rate_min: u64,
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
            upgrade_idle: millis(config.upgrade_idle),
            whole: config.request_timeout.map_or(u64::MAX, millis),
            body_rate_min: config.body_rate_min.unwrap_or(0),
        }
    }
}

/// How long a fresh connection may still send its first request after a shutdown began: it may have
/// been made before anybody could know.
const FRESH_GRACE: u64 = 500;

impl Registry {
    pub(crate) fn open(
        &self,
        peer: SocketAddr,
        trusted: &TrustedProxies,
        clock: &Rc<Clock>,
    ) -> (u64, Rc<Downstream>) {
        self.keep(Downstream::new(peer, trusted.contains(peer.ip()), clock))
    }

    /// A cell for a stream of a connection.
    pub(crate) fn open_stream(&self, connection: &Downstream) -> (u64, Rc<Downstream>) {
        connection.count_stream(1);
        self.keep(connection.stream())
    }

    pub(crate) fn close_stream(&self, id: u64, connection: &Downstream) {
        connection.count_stream(-1);
        self.close(id);
    }

    fn keep(&self, downstream: Downstream) -> (u64, Rc<Downstream>) {
        let id = self.next.get();
        self.next.set(id + 1);
        let downstream = Rc::new(downstream);
        self.connections.borrow_mut().insert(id, Rc::clone(&downstream));
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
            downstream.eject_others(&may_finish);
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

    /// Looks for deadlines that have passed. Returns how many whole requests took too long.
    pub(crate) fn sweep(&self, now: u64, deadlines: &Deadlines) -> u64 {
        let since = now.saturating_sub(self.swept.replace(now));
        let mut overdue = 0;
        for downstream in self.connections.borrow().values() {
            let age = now.saturating_sub(downstream.since.get());
            let whole = now.saturating_sub(downstream.began.get());
            let state = downstream.state.get();
            let has_request = matches!(state, State::Request | State::Response);
            if has_request && deadlines.body_rate_min > 0 {
                downstream.keep_pace(since, deadlines.body_rate_min);
            }
            match state {
                State::Request | State::Response
                    if whole > deadlines.whole && !downstream.overdue.replace(true) =>
                {
                    overdue += 1;
                    downstream.judge(Verdict::TimedOut);
                    if state == State::Response {
                        downstream.tell(Order::Close);
                    }
                }
                State::Fresh if age > deadlines.header_read => downstream.tell(Order::Close),
                State::Head if age > deadlines.header_read => downstream.tell(Order::TooSlow),
                // Its last answer is written, but not read.
                State::Idle if age > deadlines.client_idle.saturating_add(deadlines.body_idle) => {
                    downstream.tell(Order::Close);
                }
                State::Idle if age > deadlines.client_idle => downstream.tell(Order::Finish),
                State::Streams | State::NoStreams => downstream.sweep_http2(now, deadlines),
                State::Request if age > deadlines.first_byte => downstream.judge(Verdict::TimedOut),
                State::Response if age > deadlines.body_idle => downstream.tell(Order::Close),
                State::Tunnel if age > deadlines.upgrade_idle => downstream.tell(Order::Close),
                _ => {}
            }
        }
        overdue
    }
}

impl Downstream {
    /// Looks after a connection of HTTP/2 as a whole.
    fn sweep_http2(&self, now: u64, deadlines: &Deadlines) {
        let Some(http2) = self.http2.get() else { return };
        let limits = Limits {
            header_read: deadlines.header_read,
            client_idle: deadlines.client_idle,
            body_idle: deadlines.body_idle,
        };
        match http2.step(now, self.since.get(), &limits) {
            Some(Step::Ping) => {
                http2.begin_ping(now);
                self.wake();
            }
            Some(Step::Finish) => self.tell(Order::Finish),
            Some(Step::Close) => self.tell(Order::Close),
            None => {}
        }
    }
}
