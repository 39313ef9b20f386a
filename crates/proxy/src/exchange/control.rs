//! A request for one of our own paths: the control router is called in process, and this is the one
//! place where a head becomes an `http::Request`.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method as HttpMethod, StatusCode, Uri, header};
use http_body::{Body, Frame, SizeHint};
use ringmaster_http1::{Framing, HeadRef, Known, Method, Version, chunk, connection, interim};
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use super::{
    super::{
        watch::{Order, Phase},
        worker::Worker,
    },
    answer::{self, How},
    client::Client,
    limits,
    state::Next,
    upload::{Stop, Upload},
};

/// A request as the router takes it, but for its body.
pub(super) struct Request {
    request: http::Request<()>,
    version: Version,
    known: Known,
    is_head: bool,
}

impl Request {
    /// `None` where the target is none that the router could have a path for.
    pub(super) fn of(head: HeadRef<'_>, peer: SocketAddr) -> Option<Self> {
        let mut request = http::Request::new(());
        *request.method_mut() = HttpMethod::from_bytes(head.method_name()).ok()?;
        *request.uri_mut() = Uri::try_from(head.target()).ok()?;
        for field in head.fields() {
            let name = HeaderName::from_bytes(field.name).ok()?;
            let value = HeaderValue::from_bytes(field.value).ok()?;
            request.headers_mut().append(name, value);
        }
        if let Framing::Length(length) = head.known().framing {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        request.extensions_mut().insert(ConnectInfo(peer));
        let (version, known) = (head.version(), *head.known());
        Some(Self { request, version, known, is_head: head.method() == Method::Head })
    }
}

/// A client's body on its way to the router.
struct Incoming {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    length: Option<u64>,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// Answers a request for ourselves.
pub(super) async fn serve(worker: &Rc<Worker>, client: &mut Client, asked: Request) -> Next {
    client.watch.enter(Phase::Control);
    worker.counters.control_requests.bump();
    let Request { request, version, known, is_head } = asked;
    let Ok(mut upload) = Upload::new(known.framing, limits::body_limits(&worker.config, None))
    else {
        return Next::Close;
    };
    let (sender, pieces) = mpsc::channel(1);
    let length = match known.framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        _ => None,
    };
    let request = request.map(|()| axum::body::Body::new(Incoming { pieces, length }));
    let answered = {
        let mut answering = pin!(worker.control.clone().oneshot(request));
        let mut reading = pin!(read_up(worker, client, &mut upload, sender, known.expects_100));
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answering.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            reading.as_mut().poll(cx).map(|Stopped| None)
        })
        .await
    };
    let response = match answered {
        Some(Ok(response)) => response,
        Some(Err(never)) => match never {},
        None => return Next::Close,
    };
    // What is here of the body is no reason to close.
    let mut nowhere = Vec::new();
    let is_broken = upload.take_here(worker, client, &mut nowhere).is_err();
    let closes =
        is_broken || !upload.has_ended() || client.watch.is_last() || client.has_finished();
    let to = To { version, known, is_head, closes };
    respond(worker, client, response, to).await
}

/// The client has gone.
struct Stopped;

/// Passes the client's body to the router, and listens to the client after that.
async fn read_up(
    worker: &Worker,
    client: &mut Client,
    upload: &mut Upload,
    sender: mpsc::Sender<io::Result<Bytes>>,
    is_awaited: bool,
) -> Stopped {
    if is_awaited && client.input.is_empty() {
        client.output.push(interim::CONTINUE, &worker.buffers);
    }
    let mut sender = Some(sender);
    while let Some(open) = sender.take_if(|_| !upload.has_ended()) {
        let mut data = Vec::new();
        let read = poll_fn(|cx| {
            client.watch.remember(cx.waker());
            if matches!(client.poll_flush(cx, worker), Poll::Ready(Err(_))) {
                return Poll::Ready(Err(Stop::Gone));
            }
            upload.poll_gather(cx, worker, client, (&mut data, 0))
        });
        let piece = match read.await {
            Ok(()) => Ok(Bytes::from(data)),
            Err(Stop::Failure(_)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(_) => return Stopped,
        };
        let is_broken = piece.is_err();
        let is_empty = piece.as_ref().is_ok_and(Bytes::is_empty);
        if !is_empty && open.send(piece).await.is_err() || is_broken {
            break;
        }
        sender = Some(open);
    }
    drop(sender);
    poll_fn(|cx| {
        client.watch.remember(cx.waker());
        let is_told = client.watch.order() == Some(Order::Close);
        match client.poll_ahead(cx, worker) {
            Ok(()) if !is_told => Poll::Pending,
            _ => Poll::Ready(Stopped),
        }
    })
    .await
}

/// To whom a response goes.
struct To {
    version: Version,
    known: Known,
    is_head: bool,
    closes: bool,
}

async fn respond(
    worker: &Worker,
    client: &mut Client,
    response: http::Response<axum::body::Body>,
    to: To,
) -> Next {
    client.watch.enter(Phase::Response);
    let (mut parts, body) = response.into_parts();
    let told = parts.headers.remove(header::CONTENT_LENGTH);
    for name in [header::TRANSFER_ENCODING, header::CONNECTION] {
        parts.headers.remove(name);
    }
    let told = told.and_then(|length| length.to_str().ok()?.parse().ok());
    let length = body.size_hint().exact();
    let has_none =
        parts.status == StatusCode::NO_CONTENT || parts.status == StatusCode::NOT_MODIFIED;
    let framing = match (to.is_head, length) {
        _ if has_none => Framing::None,
        (true, _) => told.or(length).map_or(Framing::None, Framing::Length),
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Chunked.toward(to.version),
    };
    let connection = connection::toward_client(to.version, &to.known, framing, to.closes);
    let how = How { version: to.version, framing, connection };
    answer::head(parts.status, &parts.headers, how, client.output.end(&worker.buffers));
    let is_bare = to.is_head || has_none;
    if !is_bare && write_body(worker, client, body, framing).await.is_err() {
        return Next::Close;
    }
    match Box::pin(client.flush(worker)).await {
        Err(_) => Next::Close,
        Ok(()) if connection == ringmaster_http1::write::Connection::Keep => Next::Again,
        Ok(()) => Next::Linger,
    }
}

/// Passes the router's body on. `Err`: it broke off, or the client has gone.
async fn write_body(
    worker: &Worker,
    client: &mut Client,
    body: axum::body::Body,
    framing: Framing,
) -> Result<(), ()> {
    let mut body = pin!(body);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame.map_err(drop)?.into_data() else { continue };
        if data.is_empty() {
            continue;
        }
        let out = client.output.end(&worker.buffers);
        match framing {
            Framing::Chunked => chunk::push(&data, out),
            _ => out.extend_from_slice(&data),
        }
        client.flush(worker).await.map_err(drop)?;
    }
    if framing == Framing::Chunked {
        chunk::push_last(None, client.output.end(&worker.buffers));
    }
    Ok(())
}
