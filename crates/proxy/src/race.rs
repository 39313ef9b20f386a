//! A hedged request: one that waits for two replicas, and takes what the first of them answers.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::{Duration, Instant},
};

use http::Request;
use ringmaster_core::fleet::ids::InstanceId;
use tokio::time::timeout;

use super::{
    body::Upload,
    call::{Asked, Attempt, Call, Cause, Miss},
    errors::Failure,
    h2::Kept,
    hedge::Hedging,
    pool::InFlight,
    queue,
};

/// How a request may be hedged.
struct Hedge {
    /// How long the first replica has until another one is asked, too.
    after: Duration,
    /// The same request once more: while it is under way it cannot be had back.
    spare: Request<Upload>,
}

impl Call<'_> {
    /// Asks a replica, and a second one if the first is slow and the request may be hedged. What does
    /// not win is dropped, and its connection with it. Those beside the attempt that is returned are
    /// added to the tried ones.
    ///
    /// In a box, for it is as large as two attempts, and it is made here: whoever waits for it holds a
    /// pointer, and nothing at all of it where requests are not hedged.
    pub(crate) fn race<'a>(
        &'a self,
        hedging: &'a RefCell<Hedging>,
        in_flight: InFlight,
        request: Request<Upload>,
        tried: &'a mut Vec<InstanceId>,
    ) -> Pin<Box<impl Future<Output = Result<Asked, Failure>> + 'a>> {
        Box::pin(async move {
            let hedge = self.hedge_of(hedging, &request, tried.len());
            match hedge {
                None => Ok(self.run(in_flight, request, None).await),
                Some(hedge) => self.race_with(hedge, in_flight, request, tried).await,
            }
        })
    }

    /// How a request that has tried so many replicas may be hedged, if it may: what it does must not
    /// matter twice, and two attempts must be left.
    fn hedge_of(
        &self,
        hedging: &RefCell<Hedging>,
        request: &Request<Upload>,
        tried: usize,
    ) -> Option<Hedge> {
        let mut hedging = hedging.borrow_mut();
        if tried == 0 {
            hedging.deposit();
        }
        let after = hedging.after()?;
        let may_hedge = self.is_repeatable && !self.may_upgrade;
        if !may_hedge || tried + 2 > self.worker.config.attempts {
            return None;
        }
        Some(Hedge { after, spare: copy_of(request)? })
    }

    async fn race_with(
        &self,
        hedge: Hedge,
        in_flight: InFlight,
        request: Request<Upload>,
        tried: &mut Vec<InstanceId>,
    ) -> Result<Asked, Failure> {
        let since = Instant::now();
        let one = in_flight.pool().instance();
        let mut first = pin!(self.run(in_flight, request, None));
        if let Ok(asked) = timeout(hedge.after, first.as_mut()).await {
            return Ok(asked);
        }
        let Some(copy) = copy_of(&hedge.spare) else { return Ok(first.await) };
        let Some(in_flight) = self.enter_hedge(one, tried) else { return Ok(first.await) };
        let other = in_flight.pool().instance();
        self.downstream.wait_for_both(one, other);
        let mut second = pin!(self.run(in_flight, copy, Some(since)));
        let (mut attempt, outcome) = tokio::select! {
            biased;
            asked = first.as_mut() => asked,
            asked = second.as_mut() => asked,
        };
        let is_hedge = attempt.is_hedge();
        match outcome {
            // Without a hedge nobody would have met this error: what the first says comes before it.
            Ok(error) if is_hedge && error.0.status().is_server_error() => {
                let came = Instant::now();
                let (first, outcome) = first.await;
                // How long it rested here is not its replica's doing.
                attempt.began += came.elapsed();
                let answered = outcome.is_ok();
                tried.push(if answered { other } else { one });
                match outcome {
                    Err(miss) => {
                        // The client is told the error, whatever the miss would lead to.
                        let _ = self.missed(&first, miss);
                        Ok((attempt, Ok(error)))
                    }
                    answer => {
                        self.count_answer(&attempt, error.0.status());
                        Ok((first, answer))
                    }
                }
            }
            Ok(answer) => {
                tried.push(if is_hedge { one } else { other });
                Ok((attempt, Ok(answer)))
            }
            Err(miss) => {
                // Now, not when the other one ends: the control core should know, and its place
                // among the requests in flight is free.
                let resort = self.missed(&attempt, restored(miss, &hedge.spare));
                drop(attempt);
                tried.push(if is_hedge { other } else { one });
                let (attempt, outcome) = if is_hedge { first.await } else { second.await };
                match (outcome.map_err(|miss| restored(miss, &hedge.spare)), resort) {
                    // A miss that nobody else may be asked after stays one.
                    (Err(miss), Err(failure)) => {
                        let _ = self.missed(&attempt, miss);
                        Err(failure)
                    }
                    (outcome, _) => Ok((attempt, outcome)),
                }
            }
        }
    }

    /// The place of a hedge with another replica, if there is one that has room and the budget allows
    /// it. A hedge does not queue: it would come too late to be of use.
    fn enter_hedge(&self, first: InstanceId, tried: &mut Vec<InstanceId>) -> Option<InFlight> {
        let (worker, counters) = (self.worker, &self.worker.counters);
        tried.push(first);
        let pool = worker.pick(self.slot, tried);
        tried.pop();
        let pool = pool?;
        if !worker.hedging.as_ref()?.borrow_mut().withdraw() {
            counters.hedges_denied.bump();
            return None;
        }
        let in_flight = match &worker.config.concurrency {
            None => InFlight::enter(pool),
            Some(limit) => queue::enter_now(&pool, limit)?,
        };
        counters.hedges.bump();
        Some(in_flight)
    }

    /// An attempt that ends when its instance is ejected, whatever becomes of the other one.
    async fn run(
        &self,
        in_flight: InFlight,
        mut request: Request<Upload>,
        hedges: Option<Instant>,
    ) -> Asked {
        let attempt = Attempt::begin(in_flight, &mut request, hedges);
        let instance = attempt.in_flight.pool().instance();
        let outcome = {
            let mut asking = pin!(self.attempt(&attempt.in_flight, request));
            poll_fn(|cx| match asking.as_mut().poll(cx) {
                Poll::Pending if self.downstream.has_lost(instance) => {
                    Poll::Ready(Err(Miss { cause: Cause::Ejected, request: None }))
                }
                polled => polled,
            })
            .await
        };
        (attempt, outcome)
    }
}

/// An attempt that was ended from outside could not give its request back.
fn restored(mut miss: Miss, spare: &Request<Upload>) -> Miss {
    if miss.cause == Cause::Ejected && miss.request.is_none() {
        miss.request = copy_of(spare);
    }
    miss
}

fn copy_of(request: &Request<Upload>) -> Option<Request<Upload>> {
    Kept::of(request).map(Kept::into_request)
}
