//! One request, from its head to the head of its answer.

use std::{future::poll_fn, rc::Rc, task::Context};

use axum::extract::ConnectInfo;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header::UPGRADE,
    request,
};
use http_body::Body as _;
use hyper::body::Incoming;
use ringmaster_core::{fleet::ids::ReplicaName, ring::Slot};
use tower::ServiceExt as _;

use super::{
    access_log::{Entry, Route},
    body::{Answer, Streamed, Upload},
    call::{Answered, Call, Carrier},
    config::ProxyConfig,
    downstream::{Downstream, State},
    errors::Failure,
    headers, interim,
    link::Link,
    pool::InFlight,
    splice::{self, Plan},
    tunnel::{self, Tunnel},
    upload::{self, Opening},
    worker::Worker,
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
    let entry = begin(&worker, &downstream, &request);
    // Streams are counted where they are opened.
    if !downstream.is_stream() {
        worker.wear(&downstream);
    }
    let answered = forward(&worker, &downstream, request).await;
    conclude(&worker, &downstream, entry, answered)
}

/// Answers a GET of our own, which has its key beside it. Its head is complete, and it has no body.
pub(crate) async fn answer_own(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
    request: Request<()>,
    key: &[u8],
) -> Response<Answer> {
    let entry = begin(worker, downstream, &request);
    let answered = forward_own(worker, downstream, request, key).await;
    conclude(worker, downstream, entry, answered)
}

async fn forward_own(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
    request: Request<()>,
    key: &[u8],
) -> Result<Response<Answer>, Failure> {
    let (mut parts, ()) = request.into_parts();
    check_target(&worker.config, &parts.uri)?;
    let slot = worker.slot_of_key(key);
    let asked = Asked::of(worker, &parts, None);
    prepare(worker, downstream, &mut parts, None);
    let request = Request::from_parts(parts, Upload::Kept(None));
    exchange(worker, downstream, request, slot, asked).await
}

/// A request begins.
fn begin<B>(worker: &Worker, downstream: &Downstream, request: &Request<B>) -> Option<Box<Entry>> {
    let entry = worker.log_entry(request, downstream);
    downstream.begin_request();
    worker.counters.requests.bump();
    worker.budget.borrow_mut().deposit();
    entry
}

/// What the client is answered, counted and logged.
fn conclude(
    worker: &Worker,
    downstream: &Downstream,
    entry: Option<Box<Entry>>,
    answered: Result<Response<Answer>, Failure>,
) -> Response<Answer> {
    let mut response = match answered {
        Ok(response) => response,
        Err(failure) => {
            worker.count_failure(&failure);
            failure.into_response(worker.config.no_replica_text.as_deref())
        }
    };
    downstream.enter(match response.body() {
        Answer::Streamed(_) => State::Response,
        _ => State::Idle,
    });
    worker.counters.answered(response.status());
    if let Some(entry) = entry {
        log(entry, &mut response);
    }
    response
}

/// Completes the entry of a request in the access log; it is written when the answer has ended.
fn log(mut entry: Box<Entry>, response: &mut Response<Answer>) {
    entry.status = response.status();
    entry.route = response.extensions_mut().remove::<Route>();
    match response.body_mut() {
        Answer::Streamed(streamed) => {
            entry.is_complete = false;
            streamed.entry = Some(entry);
        }
        Answer::Full(bytes) => entry.bytes = bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
        Answer::Control(_) | Answer::Spliced => {}
    }
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
    let (mut parts, mut body) = request.into_parts();
    headers::check(&parts.method, &parts.uri, parts.version, &parts.headers)?;
    check_target(&worker.config, &parts.uri)?;
    if worker.config.body_max.is_some_and(|most| body.size_hint().lower() > most) {
        return Err(Failure::LargeBody);
    }
    let opening = if worker.reads_bodies && !body.is_end_stream() {
        Box::pin(upload::open(worker, downstream, &parts, &mut body)).await?
    } else {
        Opening::Unread
    };
    let slot = worker.slot_of(&worker.asked(&parts, downstream, opening.for_key()));
    let upgrade = tunnel::asked_for(parts.version, &parts.headers, !body.is_end_stream());
    let mut asked = Asked::of(worker, &parts, upgrade);
    asked.may_splice = body.is_end_stream()
        && !downstream.is_stream()
        && headers::goes_on(parts.version, &parts.headers);
    let is_awaited = !body.is_end_stream() && interim::is_awaited(parts.version, &parts.headers);
    downstream.set_takes_interim(parts.version == Version::HTTP_11);
    prepare(worker, downstream, &mut parts, asked.upgrade.as_ref());
    let upload = if matches!(opening, Opening::Unread) && body.is_end_stream() {
        Upload::Kept(None)
    } else {
        let held = is_awaited && matches!(opening, Opening::Unread);
        Box::pin(upload::upload(worker, downstream, opening, &mut parts, body, held)).await?
    };
    parts.version = Version::HTTP_11;
    // The upgrade that hyper offers is not used: the sockets are taken from both connections.
    parts.extensions.clear();
    exchange(worker, downstream, Request::from_parts(parts, upload), slot, asked).await
}

/// Makes the head that a replica gets of the client's.
fn prepare(
    worker: &Worker,
    downstream: &Downstream,
    parts: &mut request::Parts,
    upgrade: Option<&HeaderValue>,
) {
    let client = headers::Client {
        forwarded_for: &downstream.forwarded_for,
        is_trusted: downstream.is_trusted,
        version: parts.version,
        fallback_host: &worker.fallback_host,
        upstream_host: worker.config.upstream_host.as_ref(),
        forwarded: worker.config.forwarded,
    };
    headers::to_upstream(&mut parts.uri, &mut parts.headers, &client);
    if !parts.headers.contains_key(headers::REQUEST_ID) {
        parts.headers.insert(headers::REQUEST_ID, worker.request_id());
    }
    if let Some(protocol) = upgrade {
        tunnel::announce(&mut parts.headers, protocol.clone());
    }
}

/// Asks replicas, and makes the client's answer of theirs.
async fn exchange(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
    request: Request<Upload>,
    slot: Slot,
    asked: Asked,
) -> Result<Response<Answer>, Failure> {
    let is_repeatable = upload::is_idempotent(request.method());
    let may_upgrade = asked.upgrade.is_some();
    let call = Call { worker, downstream, slot, is_repeatable, may_upgrade };
    let answered = call.first_answer(request).await;
    // Our own words, too, must wait for what a replica has said before.
    if downstream.has_interim() {
        poll_fn(|_| downstream.poll_interim()).await;
    }
    asked.pass_on(worker, downstream, answered?)
}

/// Refuses a target that is longer than the configuration allows.
fn check_target(config: &ProxyConfig, uri: &Uri) -> Result<(), Failure> {
    let length = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if length > config.uri_max { Err(Failure::LongUri) } else { Ok(()) }
}

/// What must be known of a request when its answer comes.
struct Asked {
    is_head: bool,
    /// Only where a 404 may have to name it.
    line: Option<(Method, Uri)>,
    /// The protocol that the client wants to change to.
    upgrade: Option<HeaderValue>,
    /// Whether the connection's state is simple enough to take it from hyper and give it back.
    may_splice: bool,
}

impl Asked {
    /// What a request asks for whose answer is not spliced.
    fn of(worker: &Worker, parts: &request::Parts, upgrade: Option<HeaderValue>) -> Self {
        let names_line = worker.config.not_found_as_400;
        Self {
            is_head: parts.method == Method::HEAD,
            line: names_line.then(|| (parts.method.clone(), parts.uri.clone())),
            upgrade,
            may_splice: false,
        }
    }

    /// Whether the body of an answer can be read in one way only.
    fn is_understood(&self, headers: &HeaderMap, incoming: &Incoming) -> bool {
        let has_body = !self.is_head && !incoming.is_end_stream();
        headers::is_plainly_chunked(headers) && !(has_body && headers::has_two_lengths(headers))
    }

    /// Makes the client's answer of a replica's.
    fn pass_on(
        self,
        worker: &Rc<Worker>,
        downstream: &Rc<Downstream>,
        answered: Answered,
    ) -> Result<Response<Answer>, Failure> {
        let Answered { response, carrier, in_flight, attempts, micros, route } = answered;
        let (mut parts, incoming) = response.into_parts();
        if !self.is_understood(&parts.headers, &incoming) {
            // The connection is dropped with the carrier: where the next answer begins is not known.
            return Err(Failure::BadAnswer);
        }
        tell(&worker.config, &mut parts.headers, in_flight.pool().name(), attempts, micros);
        if let Some(route) = route {
            parts.extensions.insert(route);
        }
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let agreed = parts.headers.get(UPGRADE).cloned().filter(|_| self.upgrade.is_some());
            let (Some(protocol), Carrier::H1(link)) = (agreed, carrier) else {
                return Err(Failure::BadAnswer);
            };
            return switch(downstream, link, (in_flight, micros), parts, protocol);
        }
        let is_error = parts.status.is_server_error();
        // Here, while it is in flight: an instance that is drained has nothing left to count.
        in_flight.pool().counters.served.pass_on(micros, is_error);
        let length = incoming.size_hint().exact().filter(|_| !self.is_head);
        // The fields are looked at only for those few answers that are long.
        let splice_min = worker.config.splice_min;
        let may_splice = self.may_splice
            && length.is_some_and(|length| splice::is_worth_it(length, splice_min))
            && headers::goes_on(parts.version, &parts.headers);
        headers::to_client(&mut parts.headers, parts.version, length.is_some());
        parts.version = Version::HTTP_11;
        let is_own_404 = parts.status == StatusCode::NOT_FOUND
            && parts.headers.remove(headers::KEEP_STATUS).is_none_or(|keep| keep != "1");
        let (mut link, streaming) = carrier.split();
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
            _streaming: streaming,
            stream: None,
            entry: None,
            plan: None,
            can_fail: false,
        };
        if let Some((method, uri)) = self.line.filter(|_| is_own_404) {
            worker.discard(streamed);
            let failure = Failure::NotFound(method, uri.path().to_owned());
            return Ok(translated(&worker.config, failure, parts.headers));
        }
        if streamed.incoming.is_end_stream() {
            return Ok(Response::from_parts(parts, Answer::Full(None)));
        }
        if let Some(length) = length.filter(|_| may_splice && streamed.link.is_some()) {
            streamed.plan = Plan::new(length, splice_min, &worker.pipes);
        }
        streamed.downstream = Some(Rc::clone(downstream));
        streamed.can_fail = !is_error;
        Ok(Response::from_parts(parts, Answer::Streamed(streamed)))
    }
}

/// Says in an answer how it was found, as far as that is asked for.
fn tell(
    config: &ProxyConfig,
    headers: &mut HeaderMap,
    replica: &ReplicaName,
    attempts: usize,
    micros: u64,
) {
    if config.attempts_header {
        headers.insert(headers::ATTEMPTS, HeaderValue::from(attempts));
    }
    if !config.server_headers {
        return;
    }
    let seconds = format!("{:.3}", micros as f64 / 1e6);
    let fields = [(headers::SERVER, replica.as_str()), (headers::RESPONSE_TIME, &seconds)];
    for (name, value) in fields {
        match HeaderValue::try_from(value) {
            Ok(value) => headers.insert(name, value),
            // What the replica says there is not its to say.
            Err(_) => headers.remove(name),
        };
    }
}

/// An answer of our own words for one of a replica's, which still says whose it was.
fn translated(config: &ProxyConfig, failure: Failure, mut of: HeaderMap) -> Response<Answer> {
    let mut response = failure.into_response(None);
    if config.server_headers {
        for name in [headers::SERVER, headers::RESPONSE_TIME] {
            response.headers_mut().extend(of.remove(&name).map(|value| (name, value)));
        }
    }
    response
}

/// The answer that makes a tunnel of both connections once it is sent.
fn switch(
    downstream: &Downstream,
    link: Box<Link>,
    (in_flight, micros): (InFlight, u64),
    mut parts: http::response::Parts,
    protocol: HeaderValue,
) -> Result<Response<Answer>, Failure> {
    // Nobody has to be woken: what follows drives the socket anew.
    let mut nobody = Context::from_waker(std::task::Waker::noop());
    let (upstream, read) = link.into_upgraded(&mut nobody).ok_or(Failure::BadAnswer)?;
    in_flight.pool().counters.served.pass_on(micros, false);
    downstream.set_tunnel(Box::new(Tunnel { upstream, read, in_flight }));
    headers::to_client(&mut parts.headers, parts.version, true);
    tunnel::announce(&mut parts.headers, protocol);
    parts.version = Version::HTTP_11;
    Ok(Response::from_parts(parts, Answer::Full(None)))
}
