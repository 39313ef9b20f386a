//! Asks one instance after the other, until the head of a response has come.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ringmaster_core::{fleet::ids::InstanceId, ring::Slot};
use ringmaster_http1::{Scanner, interim};

use super::{
    super::{
        errors::Failure,
        pool::{InFlight, Pool},
        upstream::{Connection, DialError, Dialler},
    },
    attempt::{AttemptError, Kind, Progress, Retry},
    receive::UNFLUSHED_MAX,
    record::{self, Found},
    request::Request,
    state::{Exchange, Miss, interruption},
    upload::Stop,
};

/// How long a replica may take to ask for a body before it is sent anyway: it may be one that does
/// not know the question.
const PATIENCE: Duration = Duration::from_secs(1);

impl Exchange<'_> {
    /// Asks one instance after the other, until the head of a response has come.
    pub(super) async fn send(&mut self, slot: Slot) -> Result<(), Stop> {
        let worker = self.worker;
        let mut tried: Vec<InstanceId> = Vec::new();
        self.take_body_here()?;
        loop {
            let spills = worker.counters.spills.get();
            let Some(pool) = worker.pick(slot, &tried) else {
                let is_first = tried.is_empty();
                let failure = if is_first { Failure::NoReplica } else { Failure::Unanswered };
                return Err(Stop::Failure(failure));
            };
            let spilled = worker.counters.spills.get() != spills;
            self.found = Found { attempts: tried.len() + 1, spilled };
            self.client.watch.progress();
            self.client.watch.wait_for(pool.instance());
            self.in_flight = Some(InFlight::enter(Rc::clone(&pool)));
            self.began = Instant::now();
            let error = match self.attempt(&pool).await {
                Ok(()) => return Ok(()),
                Err(Miss::Stop(stop)) => return Err(stop),
                Err(Miss::Attempt(error)) => error,
            };
            self.missed(&pool, error)?;
            tried.push(pool.instance());
            if tried.len() >= worker.config.attempts || !self.may_retry(error.retry) {
                return Err(Stop::Failure(Failure::Unanswered));
            }
            worker.counters.retries.bump();
        }
    }

    /// What is here of the body goes with the head.
    fn take_body_here(&mut self) -> Result<(), Stop> {
        let Request { upload, message, message_bytes, is_held, .. } = &mut *self.request;
        if !*is_held {
            let taken = upload.take_here(self.worker, self.client, message);
            *message_bytes += taken.map_err(Stop::Failure)?;
        }
        Ok(())
    }

    /// Counts an attempt that failed. `Err` where the client is told so at once.
    fn missed(&mut self, pool: &Pool, error: AttemptError) -> Result<(), Stop> {
        let starved = self.client.watch.is_starved();
        record::miss(self.worker, pool, error, (self.began, starved));
        self.link = None;
        self.in_flight = None;
        Err(Stop::Failure(match error.kind {
            Kind::TimedOut if starved => Failure::SlowBody,
            Kind::TimedOut => Failure::TimedOut,
            Kind::BadAnswer => Failure::BadAnswer,
            // The next replica would need as much.
            Kind::Exhausted => Failure::Exhausted,
            _ => return Ok(()),
        }))
    }

    fn may_retry(&self, retry: Retry) -> bool {
        let worker = self.worker;
        let is_allowed = match retry {
            Retry::Free => return true,
            Retry::Never => return false,
            Retry::Budgeted => worker.budget.borrow_mut().withdraw(worker.clock.now()),
        };
        if !is_allowed {
            worker.counters.retries_denied.bump();
        }
        is_allowed
    }

    /// Asks one instance: on an open connection if there is one, on a fresh one if that was stale.
    async fn attempt(&mut self, pool: &Pool) -> Result<(), Miss> {
        let mut open = pool.take_h1();
        loop {
            let link = match open.take() {
                Some(link) => {
                    self.worker.counters.reused.bump();
                    link
                }
                None => Box::pin(self.connect(pool)).await?,
            };
            self.link = Some(link);
            self.request.upload.rewind(self.worker);
            self.scanner = Scanner::response();
            self.patience = None;
            match poll_fn(|cx| self.poll_attempt(cx, pool)).await {
                Err(Miss::Attempt(AttemptError { kind: Kind::Stale, retry: Retry::Free })) => {
                    self.worker.counters.stale.bump();
                }
                asked => return asked,
            }
        }
    }

    async fn connect(&mut self, pool: &Pool) -> Result<Box<Connection>, Miss> {
        let worker = self.worker;
        let release_idle = || worker.release_idle();
        let watch = Rc::clone(&self.client.watch);
        let dialler = Dialler {
            descriptors: &worker.descriptors,
            counters: &worker.counters,
            release_idle: &release_idle,
            watch: &watch,
            time: worker.config.connect,
        };
        self.link = None;
        let connecting = dialler.connect(pool.address(), |cx| {
            let client = &mut *self.client;
            client.watch.remember(cx.waker());
            if client.poll_ahead(cx, worker).is_err() || client.is_half_closed() {
                return Some(DialError::Cancelled(Miss::Stop(Stop::Gone)));
            }
            interruption(client, Progress::default()).map(DialError::Cancelled)
        });
        connecting.await.map_err(|error| match AttemptError::not_connected(error) {
            Ok(error) => Miss::Attempt(error),
            Err(cancelled) => cancelled,
        })
    }

    /// Moves the request up, and waits for the head of its response.
    fn poll_attempt(&mut self, cx: &mut Context<'_>, pool: &Pool) -> Poll<Result<(), Miss>> {
        self.client.watch.remember(cx.waker());
        self.look_at_patience();
        let Request { upload, message, .. } = &*self.request;
        if !upload.has_written_all_of(message) {
            self.poll_upload(cx, pool).map_err(Miss::Stop)?;
        }
        // Before more of the body goes up: the response may make that needless.
        if let Poll::Ready(result) = self.poll_head(cx, pool) {
            return Poll::Ready(result);
        }
        self.poll_upload(cx, pool).map_err(Miss::Stop)?;
        let worker = self.worker;
        let is_flushed = self.client.poll_flush(cx, worker);
        let is_lost = matches!(is_flushed, Poll::Ready(Err(_)));
        if self.client.output.len() > UNFLUSHED_MAX {
            // Nothing is read of the response meanwhile: it is the client that is waited for.
            self.client.watch.set_starved(true);
        }
        let listens = self.request.upload.has_ended() || self.request.is_held;
        if is_lost || (listens && self.client.poll_ahead(cx, worker).is_err()) {
            return Poll::Ready(Err(Miss::Stop(Stop::Gone)));
        }
        match interruption(self.client, self.progress()) {
            Some(miss) => Poll::Ready(Err(miss)),
            None => Poll::Pending,
        }
    }

    /// Lets the client's body go if the replica has not asked for it for too long.
    fn look_at_patience(&mut self) {
        if !self.request.is_held {
            return;
        }
        let watch = &self.client.watch;
        let until = *self.patience.get_or_insert_with(|| watch.time_after(PATIENCE));
        watch.set_alarm(until);
        if watch.has_come(until) {
            self.request.is_held = false;
            if self.interims.is_awaited() {
                self.interims.settle();
                self.client.output.push(interim::CONTINUE, &self.worker.buffers);
            }
        }
    }
}
