//! One request, from its head to the head of its answer.

use std::{
    future::{Future, poll_fn},
    io::ErrorKind,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Instant,
};

use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header::TRANSFER_ENCODING,
    request::Parts,
};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use super::{
    body::{Answer, Streamed, Upload},
    downstream::{Downstream, State, Verdict},
    errors::Failure,
    headers,
    pool::{Blame, InFlight, Link, Loss},
    worker::Worker,
};
use crate::{
    fleet::{ids::InstanceId, message::FailureKind},
    ring::Slot,
};

/// Answers one request: from the control router if the path is mounted, else from a replica.
pub(crate) async fn answer(
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
) -> Response<Answer> {
    if worker.is_mounted(request.uri().path()) {
        return Box::pin(control(&worker, &downstream, request)).await;
    }
    downstream.enter(State::Request);
    worker.counters.requests.bump();
    worker.budget.borrow_mut().deposit();
    let response = match forward(&worker, &downstream, request).await {
        Ok(response) => response,
        Err(failure) => {
            worker.count_failure(&failure);
            failure.into_response()
        }
    };
    downstream.enter(match response.body() {
        Answer::Streamed(_) => State::Response,
        _ => State::Idle,
    });
    worker.counters.answered(response.status());
    response
}

async fn control(
    worker: &Worker,
    downstream: &Downstream,
    request: Request<Incoming>,
) -> Response<Answer> {
    downstream.enter(State::Control);
    worker.counters.control_requests.bump();
    let mut request = request.map(axum::body::Body::new);
    request.extensions_mut().insert(ConnectInfo(downstream.peer));
    let response = match worker.control.clone().oneshot(request).await {
        Ok(response) => response.map(Answer::Control),
        Err(never) => match never {},
    };
    downstream.enter(State::Idle);
    response
}

async fn forward(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Failure> {
    let (mut parts, body) = request.into_parts();
    headers::check(&parts.method, &parts.uri, parts.version, &parts.headers)?;
    let slot = worker.slot_of(&parts);
    let asked = Asked {
        is_head: parts.method == Method::HEAD,
        uri: worker.config.not_found_as_400.then(|| parts.uri.clone()),
    };
    let client = headers::Client {
        forwarded_for: &downstream.forwarded_for,
        version: parts.version,
        fallback_host: &worker.fallback_host,
    };
    headers::to_upstream(&mut parts.uri, &mut parts.headers, &client);
    let upload = if body.is_end_stream() {
        Upload::Kept(None)
    } else {
        Box::pin(upload(worker, downstream, slot, &mut parts, body)).await?
    };
    parts.version = Version::HTTP_11;
    // An upgrade that was asked for does not go on, so nobody may wait for it.
    parts.extensions.clear();
    let is_repeatable = is_idempotent(&parts.method);
    let call = Call { worker, downstream, slot, is_repeatable };
    let answered = call.first_answer(Request::from_parts(parts, upload)).await?;
    asked.pass_on(worker, downstream, answered)
}

fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// A request's body, kept if that allows to repeat the request.
async fn upload(
    worker: &Worker,
    downstream: &Rc<Downstream>,
    slot: Slot,
    parts: &mut Parts,
    body: Incoming,
) -> Result<Upload, Failure> {
    let limit = worker.config.kept_body_max;
    let length = body.size_hint().exact();
    let is_small = length.is_some_and(|length| length <= limit as u64);
    if is_idempotent(&parts.method) && is_small {
        // Not before there is somebody to send it to: the client may wait to be asked for it.
        if worker.pick(slot, &[]).is_none() {
            return Err(Failure::NoReplica);
        }
        return keep(downstream, body, limit).await;
    }
    if length.is_none() {
        // Said aloud, because hyper would send a GET of unknown length without its body.
        let chunked = HeaderValue::from_static("chunked");
        parts.headers.insert(TRANSFER_ENCODING, chunked);
    }
    Ok(Upload::Streamed {
        incoming: body,
        downstream: Rc::clone(downstream),
        counters: worker.counters.clone(),
    })
}

async fn keep(downstream: &Downstream, body: Incoming, limit: usize) -> Result<Upload, Failure> {
    let mut collected = pin!(Limited::new(body, limit).collect());
    downstream.set_starved(true);
    let bytes: Bytes = poll_fn(|cx| match collected.as_mut().poll(cx) {
        Poll::Ready(Ok(body)) => Poll::Ready(Ok(body.to_bytes())),
        Poll::Ready(Err(_)) => Poll::Ready(Err(Failure::BrokenBody)),
        Poll::Pending if downstream.verdict().is_some() => Poll::Ready(Err(Failure::SlowBody)),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    downstream.set_starved(false);
    Ok(Upload::Kept((!bytes.is_empty()).then_some(bytes)))
}

/// A request that looks for an answer.
struct Call<'a> {
    worker: &'a Rc<Worker>,
    downstream: &'a Rc<Downstream>,
    slot: Slot,
    /// Whether its method allows to send it again although a replica may have seen it.
    is_repeatable: bool,
}

/// The head of an answer, and the connection that the rest comes on.
struct Answered {
    response: Response<Incoming>,
    link: Box<Link>,
    in_flight: InFlight,
}

/// Why an instance gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Refused,
    ConnectTimeout,
    /// Our own side could not connect: no ports or descriptors are left.
    Local,
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
struct Miss {
    cause: Cause,
    /// The request, if it may be sent again.
    request: Option<Request<Upload>>,
}

impl Call<'_> {
    /// The first answer that a replica of the preference list gives.
    async fn first_answer(&self, mut request: Request<Upload>) -> Result<Answered, Failure> {
        let mut tried: Vec<InstanceId> = Vec::new();
        loop {
            let Some(pool) = self.worker.pick(self.slot, &tried) else {
                let nobody = tried.is_empty();
                return Err(if nobody { Failure::NoReplica } else { Failure::Unanswered });
            };
            let instance = pool.instance();
            let in_flight = InFlight::enter(pool);
            self.downstream.progress();
            self.downstream.wait_for(instance);
            let began = Instant::now();
            match self.attempt(&in_flight, request).await {
                Ok((response, link)) => {
                    let counters = &in_flight.pool().counters;
                    counters.answers.bump();
                    let micros = began.elapsed().as_micros();
                    counters.answer_micros.add(u64::try_from(micros).unwrap_or(0));
                    if response.status().is_server_error() {
                        counters.errors.bump();
                    }
                    return Ok(Answered { response, link, in_flight });
                }
                Err(miss) => {
                    let cause = miss.cause;
                    request = self.after(&in_flight, miss)?;
                    tried.push(instance);
                    if tried.len() >= self.worker.config.attempts || !self.may_retry(cause) {
                        return Err(Failure::Unanswered);
                    }
                    self.worker.counters.retries.bump();
                }
            }
        }
    }

    /// One instance: on an open connection if there is one, on a fresh one if that was stale. A
    /// stale connection says nothing about the instance, so it costs no attempt.
    async fn attempt(
        &self,
        in_flight: &InFlight,
        mut request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Box<Link>), Miss> {
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
            let body = request.body().again().filter(|_| self.is_repeatable);
            let sent = link.exchange(request, self.downstream, body.is_some());
            let loss = match sent.await {
                Ok(response) => return Ok((response, link)),
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

    /// A fresh connection.
    async fn connect(&self, in_flight: &InFlight) -> Result<Box<Link>, Cause> {
        let counters = &self.worker.counters;
        counters.connects.bump();
        let connected = Link::connect(in_flight.pool().address(), &self.worker.upstream_http);
        let limited = tokio::time::timeout(self.worker.config.connect, connected);
        let mut limited = pin!(limited);
        let result = poll_fn(|cx| match self.downstream.verdict() {
            Some(Verdict::Ejected) => Poll::Ready(Err(Cause::Ejected)),
            Some(Verdict::TimedOut) => Poll::Ready(Err(Cause::TimedOut)),
            None => limited.as_mut().poll(cx).map(|result| match result {
                Ok(Ok(link)) => Ok(link),
                Ok(Err(error)) => Err(connect_cause(error.kind())),
                Err(_) => Err(Cause::ConnectTimeout),
            }),
        })
        .await;
        if result.is_err() {
            counters.connects_failed.bump();
        }
        result
    }

    /// Counts and reports a miss; gives the request back if it can be sent to the next.
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
        if !matches!(miss.cause, Cause::ClientBody | Cause::Local) {
            pool.counters.errors.bump();
        }
        match miss.cause {
            Cause::TimedOut if starved => Err(Failure::SlowBody),
            Cause::TimedOut => Err(Failure::TimedOut),
            Cause::BadAnswer => Err(Failure::BadAnswer),
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

fn connect_cause(kind: ErrorKind) -> Cause {
    match kind {
        ErrorKind::TimedOut => Cause::ConnectTimeout,
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable => Cause::Refused,
        _ => Cause::Local,
    }
}

/// What must be known of a request when its answer comes.
struct Asked {
    is_head: bool,
    /// Only where a 404 may have to name it.
    uri: Option<Uri>,
}

impl Asked {
    /// Makes the client's answer of a replica's.
    fn pass_on(
        self,
        worker: &Rc<Worker>,
        downstream: &Rc<Downstream>,
        answered: Answered,
    ) -> Result<Response<Answer>, Failure> {
        let Answered { response, link, in_flight } = answered;
        let (mut parts, incoming) = response.into_parts();
        let is_switch = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        if is_switch || !headers::is_plainly_chunked(&parts.headers) {
            return Err(Failure::BadAnswer);
        }
        let is_sized = !self.is_head && incoming.size_hint().exact().is_some();
        headers::to_client(&mut parts.headers, parts.version, is_sized);
        parts.version = Version::HTTP_11;
        let is_own_404 = parts.status == StatusCode::NOT_FOUND
            && parts.headers.remove(headers::KEEP_STATUS).is_none_or(|keep| keep != "1");
        let mut link = Some(link);
        if let Some(done) = link.take_if(|link| link.is_reusable()) {
            in_flight.pool().put(done);
        }
        if incoming.is_end_stream() {
            link = None;
        }
        let mut streamed = Streamed {
            incoming,
            link,
            in_flight,
            downstream: None,
            counters: worker.counters.clone(),
        };
        if let Some(uri) = self.uri.filter(|_| is_own_404) {
            worker.discard(streamed);
            return Err(Failure::NotFound(uri.path().to_owned()));
        }
        if streamed.incoming.is_end_stream() {
            return Ok(Response::from_parts(parts, Answer::Full(None)));
        }
        streamed.downstream = Some(Rc::clone(downstream));
        Ok(Response::from_parts(parts, Answer::Streamed(streamed)))
    }
}
