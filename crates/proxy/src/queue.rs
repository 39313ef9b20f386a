//! A replica's queue: requests that wait because it has as much in flight as it may.
//!
//! What is in flight is counted for all workers, the queue is each worker's own. A worker's first in
//! line is woken whenever one of its own requests ends, and at each sweep, for the others' may have.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use super::{
    downstream::{Downstream, Verdict},
    errors::Failure,
    metrics::Counters,
    pool::{InFlight, Pool},
};

/// How much a replica may have in flight, and how many may wait for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Requests in flight at most, in all workers.
    pub in_flight_max: u64,
    /// Requests that may wait, for each replica and worker.
    pub waiting_max: usize,
    /// How long each may wait.
    pub deadline: Duration,
}

/// Those who wait, in the order in which they came; `None` until they have been polled.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: RefCell<VecDeque<(u64, Option<Waker>)>>,
    next: RefCell<u64>,
}

impl Queue {
    /// Lets the first in line look again.
    pub(crate) fn wake_first(&self) {
        if let Some((_, waker)) = self.waiting.borrow_mut().front_mut()
            && let Some(waker) = waker.take()
        {
            waker.wake();
        }
    }

    /// Lets everybody look again.
    pub(crate) fn wake_all(&self) {
        for (_, waker) in self.waiting.borrow_mut().iter_mut() {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    fn join(&self, most: usize) -> Option<Place<'_>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= most {
            return None;
        }
        let mut next = self.next.borrow_mut();
        *next += 1;
        waiting.push_back((*next, None));
        Some(Place { queue: self, number: *next })
    }
}

/// A place in a queue; left by dropping it.
struct Place<'a> {
    queue: &'a Queue,
    number: u64,
}

impl Place<'_> {
    fn is_first(&self) -> bool {
        self.queue.waiting.borrow().front().is_some_and(|(number, _)| *number == self.number)
    }

    fn remember(&self, waker: &Waker) {
        let mut waiting = self.queue.waiting.borrow_mut();
        let own = waiting.iter_mut().find(|(number, _)| *number == self.number);
        if let Some((_, kept)) = own {
            *kept = Some(waker.clone());
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.waiting.borrow_mut().retain(|(number, _)| *number != self.number);
        // There may be room for the next one, too.
        self.queue.wake_first();
    }
}

/// A place among the requests in flight, if there is one and nobody waits for it.
pub(crate) fn enter_now(pool: &Rc<Pool>, limit: &Concurrency) -> Option<InFlight> {
    if !pool.queue.is_empty() {
        return None;
    }
    InFlight::try_enter(pool, limit.in_flight_max)
}

/// A place among the requests in flight, once there is one. `None`: the instance left the table
/// meanwhile.
pub(crate) async fn enter(
    pool: Rc<Pool>,
    limit: &Concurrency,
    counters: &Counters,
    downstream: &Downstream,
) -> Result<Option<InFlight>, Failure> {
    if let Some(in_flight) = enter_now(&pool, limit) {
        return Ok(Some(in_flight));
    }
    let Some(place) = pool.queue.join(limit.waiting_max) else {
        counters.queue_full.bump();
        return Err(Failure::Overloaded);
    };
    counters.queued.bump();
    let mut deadline = pin!(tokio::time::sleep(limit.deadline));
    poll_fn(|cx| {
        if !pool.is_target() {
            return Poll::Ready(Ok(None));
        }
        if place.is_first()
            && let Some(in_flight) = InFlight::try_enter(&pool, limit.in_flight_max)
        {
            return Poll::Ready(Ok(Some(in_flight)));
        }
        if downstream.verdict() == Some(Verdict::TimedOut) {
            return Poll::Ready(Err(Failure::TimedOut));
        }
        if deadline.as_mut().poll(cx).is_ready() {
            counters.queue_timeouts.bump();
            return Poll::Ready(Err(Failure::Overloaded));
        }
        place.remember(cx.waker());
        Poll::Pending
    })
    .await
}
