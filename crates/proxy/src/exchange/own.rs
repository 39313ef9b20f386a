//! Requests of our own are served on the same code path as all others: through a pair of sockets, at
//! one end of which the exchange of a client is served, and at the other its response is read.

use std::{net::SocketAddr, rc::Rc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header::HOST};
use ringmaster_http1::{
    Head, Method, Scanner, body::Body, chunk::Event, chunk::Trailers, framing::Asked, interim,
    response,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    task::spawn_local,
};

use super::{
    super::{socket::Socket, worker::Worker},
    client::Client,
    conversation, limits,
};

/// Why a request of our own has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnFault {
    TooLarge,
    BrokeOff,
}

/// Carries out a request of our own: a GET without a body, with its key beside it.
pub(crate) async fn exchange_own(
    worker: &Rc<Worker>,
    peer: SocketAddr,
    (request, key): (Request<()>, Vec<u8>),
    body_max: usize,
) -> Result<Response<Bytes>, OwnFault> {
    let (mut ours, theirs) = UnixStream::pair().map_err(|_| OwnFault::BrokeOff)?;
    let served = Rc::clone(worker);
    spawn_local(async move {
        let watch = served.watches.open(peer, false, &served.clock);
        let socket = Socket::Unix(theirs);
        let mut client = Client::new(socket, Rc::clone(&watch), Some(key.into()));
        conversation::serve(&served, &mut client).await;
        served.watches.close(&watch);
    });
    let head = head_of(worker, &request);
    ours.write_all(&head).await.map_err(|_| OwnFault::BrokeOff)?;
    read(worker, &mut ours, body_max).await
}

fn head_of(worker: &Worker, request: &Request<()>) -> Vec<u8> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut head = format!("GET {target} HTTP/1.1\r\n").into_bytes();
    let mut line = |name: &[u8], value: &[u8]| {
        head.extend([name, b": ", value, b"\r\n"].concat());
    };
    if !request.headers().contains_key(HOST) {
        line(b"host", worker.fallback_host.as_bytes());
    }
    for (name, value) in request.headers() {
        line(name.as_str().as_bytes(), value.as_bytes());
    }
    line(b"connection", b"close");
    head.extend_from_slice(b"\r\n");
    head
}

async fn read(
    worker: &Worker,
    ours: &mut UnixStream,
    body_max: usize,
) -> Result<Response<Bytes>, OwnFault> {
    let limits = limits::limits(&worker.config);
    let (mut head, mut bytes) = (Head::new(), Vec::new());
    let asked = Asked::by(Method::Get);
    let mut scanner = Scanner::response();
    loop {
        if read_more(ours, &mut bytes).await? == 0 {
            return Err(OwnFault::BrokeOff);
        }
        loop {
            let read = response::read(&mut head, &mut scanner, &bytes, &asked, &limits);
            let length = match read.map_err(|_| OwnFault::BrokeOff)? {
                response::Read::More => break,
                response::Read::Head(length) => length,
            };
            scanner = Scanner::response();
            if !interim::is_interim(head.over(&bytes)) {
                let response = response_of(&head, &bytes);
                let rest = bytes.split_off(length);
                let body = read_body(worker, ours, (&head, rest), body_max).await?;
                return Ok(response.map(|()| body));
            }
            bytes.drain(..length);
            if bytes.is_empty() {
                break;
            }
        }
    }
}

fn response_of(head: &Head, bytes: &[u8]) -> Response<()> {
    let view = head.over(bytes);
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(view.status()).unwrap_or_default();
    for field in view.fields() {
        let name = HeaderName::from_bytes(field.name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

async fn read_body(
    worker: &Worker,
    ours: &mut UnixStream,
    (head, mut bytes): (&Head, Vec<u8>),
    body_max: usize,
) -> Result<Bytes, OwnFault> {
    let limits = limits::body_limits(&worker.config, None);
    let framing = head.known().framing;
    let mut body = Body::new(framing, &limits).map_err(|_| OwnFault::BrokeOff)?;
    let (mut data, mut trailers) = (Vec::new(), Trailers::new());
    loop {
        let step = body.next(&mut bytes, &mut trailers, &limits);
        let step = step.map_err(|_| OwnFault::BrokeOff)?;
        if let Event::Data(range) = step.event.clone() {
            data.extend_from_slice(&bytes[range]);
        }
        bytes.drain(..step.consumed);
        if data.len() > body_max {
            return Err(OwnFault::TooLarge);
        }
        if step.event == Event::End || body.is_done() {
            return Ok(data.into());
        }
        if step.event == Event::More && read_more(ours, &mut bytes).await? == 0 {
            body.end_of_input().map_err(|_| OwnFault::BrokeOff)?;
            return Ok(data.into());
        }
    }
}

/// Reads on; 0 at the end. A broken connection is no end of a response.
async fn read_more(ours: &mut UnixStream, bytes: &mut Vec<u8>) -> Result<usize, OwnFault> {
    ours.read_buf(bytes).await.map_err(|_| OwnFault::BrokeOff)
}
