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
        access_log::{Entry, TARGET_MAX},
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

/// The most of a first line that is looked at for the log.
const FIRST_LINE_MAX: usize = TARGET_MAX + 64;

/// What came.
pub(super) enum Begun {
    /// A request for a replica.
    Forward(Box<Request>),
    /// A request for ourselves.
    Control(Box<control::Request>),
    /// What is no request, or none that is served.
    Refused(Box<Refused>),
    /// Another protocol, or a request for one: its bytes wait.
    Other,
    /// A part of a head, and not the rest in time.
    TooSlow,
    /// The end of the connection.
    Ended,
}

/// What is wrong with what came.
pub(super) struct Refused {
    pub(super) fault: Fault,
    /// The line of it as far as it could be read; for the log, if it is one that is logged.
    pub(super) entry: Option<Box<Entry>>,
    /// Whether it has been counted as a request.
    pub(super) is_counted: bool,
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
        Err(fault) => {
            let entry = is_request(fault).then(|| entry_of_unread(worker, client, bytes)).flatten();
            let refused = Refused { fault, entry, is_counted: false };
            (Some(Begun::Refused(Box::new(refused))), bytes.len())
        }
    }
}

fn begin(worker: &Worker, client: &mut Client, heads: &mut Heads, bytes: &[u8]) -> Begun {
    let view = heads.request.over(bytes);
    let target = std::str::from_utf8(view.target()).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    if client.key.is_none() && worker.is_mounted(path) {
        return match control::Request::of(view, client.watch.peer) {
            Some(request) => Begun::Control(Box::new(request)),
            None => Begun::Refused(Box::new(Refused {
                fault: Fault::Target,
                entry: entry_of(worker, client, view, target),
                is_counted: false,
            })),
        };
    }
    if view.upgrade().is_some() && client.key.is_none() {
        return Begun::Other;
    }
    client.watch.begin_request();
    worker.counters.requests.bump();
    worker.budget.borrow_mut().deposit();
    let entry = entry_of(worker, client, view, target);
    if client.watch.count_request(worker.config.requests_per_connection) {
        worker.counters.connections_worn.bump();
    }
    match prepare(worker, client, heads, bytes) {
        Ok(request) => Begun::Forward(Box::new(Request { entry, ..request })),
        Err(fault) => Begun::Refused(Box::new(Refused { fault, entry, is_counted: true })),
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

/// Whether what has this fault is a request all the same, and counted and logged as one.
pub(super) fn is_request(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::TargetTooLong
            | Fault::Target
            | Fault::NoHost
            | Fault::SeveralHosts
            | Fault::BadHost
            | Fault::Connect
            | Fault::Coding
    )
}

/// The same of what could not be read as a request: its first line, as far as it is one.
fn entry_of_unread(worker: &Worker, client: &Client, bytes: &[u8]) -> Option<Box<Entry>> {
    let log = std::sync::Arc::clone(worker.draws_log()?);
    let (method, target, version) = first_line(bytes);
    let method = HttpMethod::from_bytes(method).or_else(|_| HttpMethod::from_bytes(b"-"));
    let asked = (method.unwrap_or_default(), &*String::from_utf8_lossy(target), version);
    let client = client.watch.forwarded_for.clone();
    Some(Entry::begin_with(log, worker.counters.clone(), client, asked))
}

/// What the first line says, or `-`. It may be wrong, and longer than the log shows.
fn first_line(bytes: &[u8]) -> (&[u8], &[u8], http::Version) {
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    let bytes = &bytes[start..bytes.len().min(start + FIRST_LINE_MAX)];
    let line = bytes.split(|byte| b"\r\n".contains(byte)).next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').map(|word| match word {
        b"" => &b"-"[..],
        word => word,
    });
    let (method, target) = (words.next().unwrap_or(b"-"), words.next().unwrap_or(b"-"));
    let version = match words.next() {
        Some(b"HTTP/1.0") => http::Version::HTTP_10,
        _ => http::Version::HTTP_11,
    };
    (method, target, version)
}

/// Where the slot of a request comes from.
fn key_of(worker: &Worker, client: &Client, view: HeadRef<'_>, bytes: &[u8]) -> Key {
    if let Some(key) = &client.key {
        return Key::Found(worker.slot_of_key(key));
    }
    let asked = asked(worker, client, view, key::Body::None);
    let has_body = !view.known().framing.is_empty();
    if !(worker.reads_bodies && has_body && worker.config.keys.look_into_body(&asked)) {
        return Key::Found(worker.slot_of(&asked));
    }
    match view.known().framing {
        // It will not be looked into: then it is for the replica to ask for it.
        Framing::Length(length) if length > worker.config.key_body_max as u64 => {
            let asked = self::asked(worker, client, view, key::Body::TooLarge);
            Key::Found(worker.slot_of(&asked))
        }
        _ => Key::InBody(bytes.to_vec()),
    }
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
) -> Result<Request, Fault> {
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
    Ok(Request {
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
        entry: None,
        refusal,
    })
}

/// Whether the method allows to send a request again although a replica may have seen it.
pub(super) fn is_repeatable(method: Method) -> bool {
    matches!(method, Method::Get | Method::Head | Method::Options | Method::Put | Method::Delete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_is_split_as_far_as_it_is_one() {
        let (v10, v11) = (http::Version::HTTP_10, http::Version::HTTP_11);
        for (bytes, expected) in [
            (&b"GET /a?b HTTP/1.0\r\nHost: h\r\n\r\n"[..], (&b"GET"[..], &b"/a?b"[..], v10)),
            (b"\r\n\nPUT /a HTTP/1.1\n", (b"PUT", b"/a", v11)),
            (b"CONNECT h:80", (b"CONNECT", b"h:80", v11)),
            (b"GET\r\nHost: h", (b"GET", b"-", v11)),
            (b" /a HTTP/1.0", (b"-", b"/a", v10)),
            (b"\r\n", (b"-", b"-", v11)),
            (b"", (b"-", b"-", v11)),
        ] {
            assert_eq!(first_line(bytes), expected, "{:?}", bytes.escape_ascii().to_string());
        }
        let long = [b"GET /", &[b'x'; 100_000][..]].concat();
        assert_eq!(first_line(&long).1.len(), FIRST_LINE_MAX - b"GET ".len());
    }
}
