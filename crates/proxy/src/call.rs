//! The search for an answer: whom to ask, on which connection, and what a failure means.

use std::{rc::Rc, time::Instant};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use ringmaster_core::{
    fleet::{ids::InstanceId, message::FailureKind},
    ring::Slot,
};

use super::{
    access_log::Route,
    body::Upload,
    downstream::{Downstream, Verdict},
    errors::Failure,
    h2::{self, Streaming, UpstreamProtocol},
    link::{Blame, Link, Loss},
    pool::{InFlight, Pool},
    queue::{self, Concurrency},
    worker::Worker,
};

/// A request that looks for an answer.
pub(crate) struct Call<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) downstream: &'a Rc<Downstream>,
    pub(crate) slot: Slot,
    /// Whether its method allows to send it again although a replica may have seen it.
    pub(crate) is_repeatable: bool,
    /// Whether it asks for another protocol.
    pub(crate) may_upgrade: bool,
}

/// The head of an answer, and the connection that the rest comes on.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) carrier: Carrier,
    pub(crate) in_flight: InFlight,
    /// Replicas that were asked, this one included.
    pub(crate) attempts: usize,
    /// From the beginning of its attempt to its first byte, in microseconds.
    pub(crate) micros: u64,
    /// For the access log, where there is one.
    pub(crate) route: Option<Route>,
}

/// What the rest of an answer comes on.
pub(crate) enum Carrier {
    H1(Box<Link>),
    H2(Streaming),
}

impl Carrier {
    /// Its connection, or its stream.
    pub(crate) fn split(self) -> (Option<Box<Link>>, Option<Streaming>) {
        match self {
            Self::H1(link) => (Some(link), None),
            Self::H2(streaming) => (None, Some(streaming)),
        }
    }
}

/// An attempt with one instance.
pub(crate) struct Attempt {
    pub(crate) in_flight: InFlight,
    pub(crate) began: Instant,
    /// If it is a hedge: when the attempt began that was slow.
    pub(crate) hedges: Option<Instant>,
    /// Bytes of the request's body that were here when it began.
    kept_bytes: u64,
}

impl Attempt {
    /// Begins with the instance that the request has its place at.
    pub(crate) fn begin(
        in_flight: InFlight,
        request: &mut Request<Upload>,
        hedges: Option<Instant>,
    ) -> Self {
        let kept_bytes = request.body_mut().is_for(&in_flight.pool().counters);
        Self { in_flight, began: Instant::now(), hedges, kept_bytes }
    }

    pub(crate) fn is_hedge(&self) -> bool {
        self.hedges.is_some()
    }

    fn micros(&self) -> u64 {
        micros_since(self.began)
    }
}

/// How an attempt ended.
pub(crate) type Outcome = Result<(Response<Incoming>, Carrier), Miss>;

/// An attempt that has ended.
pub(crate) type Asked = (Attempt, Outcome);

/// Why an instance gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Refused,
    ConnectTimeout,
    /// Our own side could not connect: no ports are left, or it may not.
    Local,
    /// Nothing is left to connect with.
    Exhausted,
    /// The connection was lost; `is_news` unless the replica had just closed an idle one.
    Lost {
        is_news: bool,
    },
    Ejected,
    TimedOut,
    BadAnswer,
    ClientBody,
}

/// An attempt without an answer.
pub(crate) struct Miss {
    pub(crate) cause: Cause,
    /// The request, if it may be sent again.
    pub(crate) request: Option<Request<Upload>>,
}

impl Call<'_> {
    /// The first answer that a replica of the preference list gives.
    pub(crate) async fn first_answer(
        &self,
        mut request: Request<Upload>,
    ) -> Result<Answered, Failure> {
        let mut tried: Vec<InstanceId> = Vec::new();
        loop {
            let spills = self.worker.counters.spills.get();
            let Some(pool) = self.worker.pick(self.slot, &tried) else {
                let nobody = tried.is_empty();
                return Err(if nobody { Failure::NoReplica } else { Failure::Unanswered });
            };
            let instance = pool.instance();
            let spilled = self.worker.counters.spills.get() != spills;
            let in_flight = match &self.worker.config.concurrency {
                None => InFlight::enter(pool),
                Some(limit) => match self.wait_for_room(pool, limit).await? {
                    Some(in_flight) => in_flight,
                    // It left; another one has its keys now.
                    None => continue,
                },
            };
            self.downstream.progress();
            self.downstream.wait_for(instance);
            let is_retry = !tried.is_empty();
            let (attempt, outcome) = match &self.worker.hedging {
                None => {
                    let attempt = Attempt::begin(in_flight, &mut request, None);
                    let outcome = self.attempt(&attempt.in_flight, request).await;
                    (attempt, outcome)
                }
                Some(hedging) => self.race(hedging, in_flight, request, &mut tried).await?,
            };
            match outcome {
                Ok((response, carrier)) => {
                    let micros = self.count_answer(&attempt, response.status());
                    let attempts = tried.len() + 1;
                    let found = Found { attempts, is_retry, spilled };
                    let route = self.route(&attempt, micros, found);
                    self.learn(&attempt, micros);
                    let in_flight = attempt.in_flight;
                    return Ok(Answered { response, carrier, in_flight, attempts, micros, route });
                }
                Err(miss) => {
                    let cause = miss.cause;
                    request = self.missed(&attempt, miss)?;
                    tried.push(attempt.in_flight.pool().instance());
                    if tried.len() >= self.worker.config.attempts || !self.may_retry(cause) {
                        return Err(Failure::Unanswered);
                    }
                    self.worker.counters.retries.bump();
                }
            }
        }
    }

    /// Counts the answer of an instance. Returns how long that took to begin it, in microseconds.
    pub(crate) fn count_answer(&self, attempt: &Attempt, status: StatusCode) -> u64 {
        let (pool, micros) = (attempt.in_flight.pool(), attempt.micros());
        pool.counters.answers.observe(micros);
        let failed = status.is_server_error();
        if failed {
            pool.counters.errors.bump();
        }
        pool.counters.bytes_up.add(attempt.kept_bytes);
        self.teach(pool, micros, failed);
        self.count_run(pool, failed);
        micros
    }

    /// What an answer to the client teaches about when to hedge.
    fn learn(&self, attempt: &Attempt, micros: u64) {
        let Some(hedging) = &self.worker.hedging else { return };
        if attempt.is_hedge() {
            self.worker.counters.hedges_won.bump();
        }
        hedging.borrow_mut().observe(attempt.hedges.map_or(micros, micros_since));
    }

    /// How the answer was found, for the access log.
    fn route(&self, attempt: &Attempt, micros: u64, found: Found) -> Option<Route> {
        self.worker.log.as_ref()?;
        let why = match (attempt.is_hedge(), found.is_retry, found.spilled) {
            (true, _, _) => "hedge",
            (_, true, _) => "retry",
            (_, _, true) => "spill",
            _ if self.worker.picker.is_by_key() => "ring",
            _ => "policy",
        };
        let replica = attempt.in_flight.pool().name().clone();
        Some(Route { replica, micros, attempts: found.attempts, why })
    }

    async fn wait_for_room(
        &self,
        pool: Rc<Pool>,
        limit: &Concurrency,
    ) -> Result<Option<InFlight>, Failure> {
        Box::pin(queue::enter(pool, limit, &self.worker.counters, self.downstream)).await
    }

    /// One instance, in the protocol that it speaks.
    pub(crate) async fn attempt(&self, in_flight: &InFlight, request: Request<Upload>) -> Outcome {
        if self.worker.config.upstream_protocol == UpstreamProtocol::H1 {
            return self.attempt_h1(in_flight, request).await;
        }
        match Box::pin(self.speaks_h2(in_flight)).await {
            Ok(true) => Box::pin(self.attempt_h2(in_flight, request)).await,
            Ok(false) => self.attempt_h1(in_flight, request).await,
            Err(cause) => Err(Miss { cause, request: Some(request) }),
        }
    }

    /// One instance over HTTP/2. A request that a connection refused without looking at it is sent
    /// on a fresh one. It is translated when there is a connection, and handed back
    /// as it was.
    async fn attempt_h2(&self, in_flight: &InFlight, mut request: Request<Upload>) -> Outcome {
        let (counters, pool) = (&self.worker.counters, in_flight.pool());
        let kept = self.is_repeatable.then(|| h2::Kept::of(&request)).flatten();
        let mut open = pool.h2.take();
        loop {
            let is_reused = open.is_some();
            let connection = match open.take() {
                Some(connection) => {
                    counters.reused.bump();
                    connection
                }
                None => match Box::pin(self.connect_h2(pool)).await {
                    Ok(connection) => connection,
                    Err(cause) => return Err(Miss { cause, request: Some(request) }),
                },
            };
            // Over HTTP/2 a body that is not wanted is refused in the middle.
            self.downstream.release_body();
            let original = h2::translate(&mut request);
            let exchange = connection.exchange(request, self.downstream, &self.worker.clock);
            let mut loss = match exchange.await {
                Ok((response, streaming)) => return Ok((response, Carrier::H2(streaming))),
                Err(loss) => loss,
            };
            if let Loss::NotSent(whole) = &mut loss {
                original.restore(whole);
            }
            match loss {
                Loss::NotSent(whole) if is_reused => {
                    counters.stale.bump();
                    request = *whole;
                }
                loss => return Err(into_miss(loss, kept.map(h2::Kept::into_request), false)),
            }
        }
    }

    /// One instance over HTTP/1.1: on an open connection if there is one, on a fresh one if that was
    /// stale. A stale connection says nothing about the instance, so it costs no attempt.
    async fn attempt_h1(&self, in_flight: &InFlight, mut request: Request<Upload>) -> Outcome {
        let counters = &self.worker.counters;
        let mut open = in_flight.pool().take();
        loop {
            let mut link = match open.take() {
                Some(link) => {
                    counters.reused.bump();
                    link
                }
                None => match Box::pin(self.connect(in_flight)).await {
                    Ok(link) => link,
                    Err(cause) => {
                        let request = Some(request);
                        return Err(Miss { cause, request });
                    }
                },
            };
            link.may_upgrade(self.may_upgrade);
            let body = request.body().again().filter(|_| self.is_repeatable);
            let sent = link.exchange(request, self.downstream, body.is_some());
            let loss = match sent.await {
                Ok(response) => return Ok((response, Carrier::H1(link))),
                Err(loss) => loss,
            };
            match into_miss(loss, body.and_then(|body| link.sent(body)), link.is_reused) {
                Miss { cause: Cause::Lost { is_news: false }, request: Some(whole) } => {
                    counters.stale.bump();
                    request = whole;
                }
                miss => return Err(miss),
            }
        }
    }

    /// All that follows from a miss; gives the request back if it can be sent to the next.
    pub(crate) fn missed(&self, attempt: &Attempt, miss: Miss) -> Result<Request<Upload>, Failure> {
        self.remember(&attempt.in_flight, miss.cause, attempt.began);
        self.after(&attempt.in_flight, miss)
    }

    /// Counts and reports a miss.
    fn after(&self, in_flight: &InFlight, miss: Miss) -> Result<Request<Upload>, Failure> {
        let (worker, pool) = (self.worker, in_flight.pool());
        let starved = self.downstream.is_starved();
        let kind = match miss.cause {
            Cause::Refused => Some(FailureKind::Refused),
            Cause::ConnectTimeout => Some(FailureKind::ConnectTimeout),
            Cause::Lost { is_news: true } => Some(FailureKind::Reset),
            Cause::TimedOut if !starved => Some(FailureKind::FirstByteTimeout),
            _ => None,
        };
        if let Some(kind) = kind {
            worker.report(pool.instance(), kind);
        }
        if !matches!(miss.cause, Cause::ClientBody | Cause::Local | Cause::Exhausted) {
            pool.counters.errors.bump();
        }
        match miss.cause {
            Cause::TimedOut if starved => Err(Failure::SlowBody),
            Cause::TimedOut => Err(Failure::TimedOut),
            Cause::BadAnswer => Err(Failure::BadAnswer),
            // The next replica would need as much.
            Cause::Exhausted => Err(Failure::Exhausted),
            Cause::ClientBody if self.downstream.is_too_large() => Err(Failure::LargeBody),
            Cause::ClientBody => Err(Failure::BrokenBody),
            Cause::Ejected => {
                worker.counters.given_up.bump();
                miss.request.ok_or(Failure::Unanswered)
            }
            Cause::Lost { .. } => {
                worker.counters.lost.bump();
                miss.request.ok_or(Failure::Unanswered)
            }
            _ => miss.request.ok_or(Failure::Unanswered),
        }
    }

    /// A miss that is the instance's own counts against it.
    fn remember(&self, in_flight: &InFlight, cause: Cause, began: Instant) {
        let is_own = match cause {
            Cause::Local | Cause::Exhausted | Cause::ClientBody => false,
            Cause::TimedOut => !self.downstream.is_starved(),
            _ => true,
        };
        if is_own {
            self.teach(in_flight.pool(), micros_since(began), true);
        }
        // Other misses are reported each for itself.
        if cause == Cause::BadAnswer {
            self.count_run(in_flight.pool(), true);
        }
    }

    /// Tells the policy how an attempt ended.
    fn teach(&self, pool: &Pool, micros: u64, failed: bool) {
        self.worker.picker.learn(&self.worker.view, pool, micros, failed);
    }

    /// Reports a run of errors, once: what it means is for a probe to say.
    fn count_run(&self, pool: &Pool, is_error: bool) {
        let run = pool.answered(is_error);
        if is_error && run == self.worker.config.suspect_after_errors {
            self.worker.counters.error_runs.bump();
            self.worker.report(pool.instance(), FailureKind::Errors);
        }
    }

    /// Whether the retry budget allows another attempt; see there which causes draw on it.
    fn may_retry(&self, cause: Cause) -> bool {
        let worker = self.worker;
        if !matches!(cause, Cause::Lost { .. }) {
            return true;
        }
        let allowed = worker.budget.borrow_mut().withdraw(worker.clock.now());
        if !allowed {
            worker.counters.retries_denied.bump();
        }
        allowed
    }
}

/// How an answer was found.
#[derive(Clone, Copy, Debug)]
struct Found {
    attempts: usize,
    is_retry: bool,
    spilled: bool,
}

fn micros_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn into_miss(loss: Loss, spare: Option<Request<Upload>>, is_reused: bool) -> Miss {
    let is_news = !is_reused;
    let (cause, request) = match loss {
        Loss::NotSent(request) => (Cause::Lost { is_news }, Some(*request)),
        Loss::Told(Verdict::Ejected) => (Cause::Ejected, spare),
        Loss::Told(Verdict::TimedOut) => (Cause::TimedOut, None),
        Loss::Broken { answer_began, blame } => match blame {
            Blame::Client => (Cause::ClientBody, None),
            Blame::Answer => (Cause::BadAnswer, None),
            Blame::Connection if answer_began => (Cause::Lost { is_news: true }, None),
            Blame::Connection => (Cause::Lost { is_news }, spare),
        },
    };
    Miss { cause, request }
}
