//! Reads the head of the next request, and makes of it all that its exchange needs. Between the two
//! nothing is awaited, so that the head may lie in the buffer that the worker shares.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use http::Method as HttpMethod;
use ringmaster_http1::{
    Fault, Framing, HeadRef, Method, Scanner, Version, request as codec,
    write::{self, ToReplica},
};

use super::{
    super::{
        access_log::Entry,
        buffers::{Heads, READ},
        config::ProxyConfig,
        errors::Failure,
        key,
        watch::{Order, Phase},
        worker::Worker,
    },
    client::Client,
    control,
    edit::{self, Caller},
    limits::{body_limits, limits},
    request::{Key, Request},
    upload::Upload,
};

/// What came.
pub(super) enum Begun {
    /// A request for a replica.
    Forward(Box<Request>),
    /// A request for ourselves.
    Control(Box<control::Request>),
    /// What is no request, or none that is served.
    Refused(Fault),
    /// Another protocol, or a request for one: its bytes wait.
    Other,
    /// A part of a head, and not the rest in time.
    TooSlow,
    /// The end of the connection.
    Ended,
}

/// Waits for the next request. An idle connection is here, and holds nothing but its socket.
pub(super) async fn next(worker: &Worker, client: &mut Client) -> Begun {
    let mut scanner = Scanner::request();
    let mut is_new = !client.input.is_empty();
    poll_fn(|cx| {
        client.watch.remember(cx.waker());
        poll_next(worker, client, &mut scanner, &mut is_new, cx)
    })
    .await
}

fn poll_next(
    worker: &Worker,
    client: &mut Client,
    scanner: &mut Scanner,
    is_new: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Begun> {
    match client.watch.order() {
        Some(Order::Close) => return Poll::Ready(Begun::Ended),
        Some(Order::TooSlow) => return Poll::Ready(Begun::TooSlow),
        Some(Order::Finish) | None => {}
    }
    let mut scratch = worker.buffers.scratch();
    loop {
        // What was read ahead comes before what the socket has.
        if std::mem::take(is_new)
            && let Some(begun) = look_at_waiting(worker, client, scanner)
        {
            return Poll::Ready(begun);
        }
        let count = match client.socket.poll_read(cx, &mut scratch[READ]) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Begun::Ended),
            Poll::Ready(Ok(count)) => count,
            Poll::Pending if client.watch.is_last() && !scanner.has_begun() => {
                return Poll::Ready(Begun::Ended);
            }
            Poll::Pending => return Poll::Pending,
        };
        let came = &scratch[READ.start..READ.start + count];
        if !client.input.is_empty() {
            client.input.push(came, &worker.buffers);
            *is_new = true;
            continue;
        }
        let (begun, consumed) = look(worker, client, scanner, came);
        client.input.push(&came[consumed..], &worker.buffers);
        if let Some(begun) = begun {
            return Poll::Ready(begun);
        }
    }
}

fn look_at_waiting(worker: &Worker, client: &mut Client, scanner: &mut Scanner) -> Option<Begun> {
    let mut input = std::mem::take(&mut client.input);
    let (begun, consumed) = look(worker, client, scanner, input.as_slice());
    input.consume(consumed, &worker.buffers);
    client.input = input;
    begun
}

/// Looks at all bytes since the last request. Returns how many of them are done with.
fn look(
    worker: &Worker,
    client: &mut Client,
    scanner: &mut Scanner,
    bytes: &[u8],
) -> (Option<Begun>, usize) {
    let mut heads = worker.buffers.heads();
    match codec::read(&mut heads.request, scanner, bytes, &limits(&worker.config)) {
        Ok(codec::Read::More) => {
            // Empty lines are no beginning of a request.
            let is_first = matches!(client.watch.phase(), Phase::Fresh | Phase::Idle);
            if is_first && scanner.has_begun() {
                client.watch.enter(Phase::Head);
            }
            (None, 0)
        }
        Ok(codec::Read::Preface) => (Some(Begun::Other), 0),
        Ok(codec::Read::Head(length)) => {
            let begun = begin(worker, client, &mut heads, &bytes[..length]);
            let consumed = if matches!(begun, Begun::Other) { 0 } else { length };
            (Some(begun), consumed)
        }
        Err(fault) => (Some(Begun::Refused(fault)), bytes.len()),
    }
}

fn begin(worker: &Worker, client: &mut Client, heads: &mut Heads, bytes: &[u8]) -> Begun {
    let view = heads.request.over(bytes);
    let target = std::str::from_utf8(view.target()).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    if client.key.is_none() && worker.is_mounted(path) {
        return match control::Request::of(view, client.watch.peer) {
            Some(request) => Begun::Control(Box::new(request)),
            None => Begun::Refused(Fault::Target),
        };
    }
    if view.upgrade().is_some() && client.key.is_none() {
        return Begun::Other;
    }
    client.watch.begin_request();
    worker.counters.requests.bump();
    worker.budget.borrow_mut().deposit();
    let entry = entry_of(worker, client, view, target);
    if client.watch.wear(worker.config.requests_per_connection) {
        worker.counters.connections_worn.bump();
    }
    match prepare(worker, client, heads, bytes, entry) {
        Ok(request) => Begun::Forward(request),
        Err(fault) => Begun::Refused(fault),
    }
}

fn entry_of(
    worker: &Worker,
    client: &Client,
    view: HeadRef<'_>,
    target: &str,
) -> Option<Box<Entry>> {
    let log = worker.draws_log()?;
    let method = HttpMethod::from_bytes(view.method_name()).unwrap_or_default();
    let version = match view.version() {
        Version::Http10 => http::Version::HTTP_10,
        Version::Http11 => http::Version::HTTP_11,
    };
    let (log, counters) = (std::sync::Arc::clone(log), worker.counters.clone());
    let client = client.watch.forwarded_for.clone();
    Some(Entry::begin_with(log, counters, client, (method, target, version)))
}

/// The same without an entry for what could not be read: its first line as far as it is one.
pub(super) fn entry_of_unread(worker: &Worker, client: &Client) -> Option<Box<Entry>> {
    let log = std::sync::Arc::clone(worker.draws_log()?);
    let asked = (HttpMethod::from_bytes(b"-").unwrap_or_default(), "-", http::Version::HTTP_11);
    let client = client.watch.forwarded_for.clone();
    Some(Entry::begin_with(log, worker.counters.clone(), client, asked))
}

/// Where the slot of a request comes from.
fn key_of(worker: &Worker, client: &Client, view: HeadRef<'_>, bytes: &[u8]) -> Key {
    if let Some(key) = &client.key {
        return Key::Found(worker.slot_of_key(key));
    }
    let asked = asked(worker, client, view, key::Body::None);
    let has_body = !view.known().framing.is_empty();
    if worker.reads_bodies && has_body && worker.config.keys.look_into_body(&asked) {
        return Key::InBody(bytes.to_vec());
    }
    Key::Found(worker.slot_of(&asked))
}

/// What a key is looked for in.
pub(super) fn asked<'a>(
    worker: &'a Worker,
    client: &'a Client,
    view: HeadRef<'a>,
    body: key::Body<'a>,
) -> key::Asked<'a> {
    let peer = key::Peer {
        address: client.watch.peer.ip(),
        text: &client.watch.forwarded_for,
        trusted: client.watch.is_trusted.then_some(&worker.config.trusted_proxies),
    };
    key::Asked { head: key::Lines::Head(view), peer, body }
}

/// The body of a request; where it is too large, none, and why no replica is asked.
fn upload_of(config: &ProxyConfig, framing: Framing) -> Result<(Upload, Option<Failure>), Fault> {
    let limits = body_limits(config, config.body_max);
    match Upload::new(framing, limits) {
        Ok(upload) => Ok((upload, None)),
        Err(_) => Ok((Upload::new(Framing::None, limits)?, Some(Failure::LargeBody))),
    }
}

fn prepare(
    worker: &Worker,
    client: &Client,
    heads: &mut Heads,
    bytes: &[u8],
    entry: Option<Box<Entry>>,
) -> Result<Box<Request>, Fault> {
    let config = &worker.config;
    let view = heads.request.over(bytes);
    let (method, version, known) = (view.method(), view.version(), *view.known());
    let key = key_of(worker, client, view, bytes);
    let line = config.not_found_as_400.then(|| {
        let target = String::from_utf8_lossy(view.target());
        let path = target.split('?').next().unwrap_or_default().to_owned();
        (HttpMethod::from_bytes(view.method_name()).unwrap_or_default(), path)
    });
    let reads_body = matches!(key, Key::InBody(_));
    let caller = Caller {
        watch: &client.watch,
        config,
        fallback_host: &worker.fallback_host,
        request_id: &|| worker.request_id_digits(),
        asks_for_body: reads_body,
    };
    edit::to_replica(heads, bytes, &caller).map_err(|_| Fault::HeadTooLarge)?;
    let mut message = worker.buffers.take();
    let view = heads.request.over(bytes);
    write::request(view, &ToReplica::as_read(view), &mut message);
    let (upload, refusal) = upload_of(config, known.framing)?;
    Ok(Box::new(Request {
        method,
        version,
        known,
        key,
        message,
        message_bytes: 0,
        is_repeatable: is_repeatable(method) && known.framing.is_empty(),
        is_held: known.expects_100 && !reads_body,
        upload,
        line,
        entry,
        refusal,
    }))
}

/// Whether the method allows to send a request again although a replica may have seen it.
pub(super) fn is_repeatable(method: Method) -> bool {
    matches!(method, Method::Get | Method::Head | Method::Options | Method::Put | Method::Delete)
}
