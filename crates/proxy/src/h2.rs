//! HTTP/2 towards a replica: few connections, many streams.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    str::FromStr,
    task::Poll,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version,
    header::{CONNECTION, EXPECT, HOST, TRANSFER_ENCODING},
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::spawn_local,
};

use super::{
    body::Upload,
    descriptors::Held,
    downstream::{Clock, Downstream},
    link::Loss,
};

/// What replicas are spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2 with prior knowledge, without TLS.
    H2c,
    /// HTTP/2 where a replica answers its preface in kind, else HTTP/1.1. Each worker asks each
    /// instance once.
    Auto,
}

impl UpstreamProtocol {
    /// All of them, in the order of the documentation.
    pub const ALL: [UpstreamProtocol; 3] = [Self::H1, Self::H2c, Self::Auto];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2c => "h2c",
            Self::Auto => "auto",
        }
    }
}

/// A protocol that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not one of h1, h2c, auto")]
pub struct ProtocolError(String);

impl FromStr for UpstreamProtocol {
    type Err = ProtocolError;

    fn from_str(text: &str) -> Result<Self, ProtocolError> {
        let found = Self::ALL.into_iter().find(|protocol| protocol.name() == text);
        found.ok_or_else(|| ProtocolError(text.chars().take(80).collect()))
    }
}

/// The client's preface (RFC 9113, 3.4) with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Where a frame says its type, and that of settings.
const FRAME_TYPE: usize = 3;
const SETTINGS: u8 = 4;
const FRAME_HEAD: usize = 9;

/// Whether a server answers the preface in kind. Has no deadline of its own.
pub(crate) async fn is_spoken_at(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(PREFACE).await?;
    let mut head = [0; FRAME_HEAD];
    // One that closes without a word does not speak it either.
    let is_whole = stream.read_exact(&mut head).await.is_ok();
    Ok(is_whole && head[FRAME_TYPE] == SETTINGS)
}

/// Runs what hyper does beside the requests on the worker's own thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BesideExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for BesideExecutor {
    fn execute(&self, task: F) {
        spawn_local(async move {
            task.await;
        });
    }
}

/// Streams on one connection: what a server should allow at least (RFC 9113, 6.5.2). Where one
/// allows fewer the others wait for their turn.
const STREAMS_MAX: usize = 100;

/// The connections of one worker to one instance.
#[derive(Default)]
pub(crate) struct Connections {
    open: RefCell<Vec<Rc<Connection>>>,
}

/// One connection, driven by a task of its own for as long as it is known here or has streams.
pub(crate) struct Connection {
    sender: SendRequest<Upload>,
    streams: Cell<usize>,
    idle_since: Cell<u64>,
}

impl Connections {
    /// A connection with room for another stream.
    pub(crate) fn take(&self) -> Option<Rc<Connection>> {
        let mut open = self.open.borrow_mut();
        open.retain(|connection| !connection.sender.is_closed());
        open.iter().find(|connection| connection.has_room()).map(Rc::clone)
    }

    /// Connects, and keeps the connection. Has no deadline of its own.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        http: &http2::Builder<BesideExecutor>,
        held: Held,
    ) -> io::Result<Rc<Connection>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            http.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        spawn_local(async move {
            let _held = held;
            // How it ends is seen by its streams.
            let _ = connection.await;
        });
        let connection =
            Rc::new(Connection { sender, streams: Cell::new(0), idle_since: Cell::new(0) });
        self.open.borrow_mut().push(Rc::clone(&connection));
        Ok(connection)
    }

    /// Closes connections without a stream since some time.
    pub(crate) fn cull(&self, oldest: u64) {
        self.open.borrow_mut().retain(|connection| {
            connection.streams.get() > 0 || connection.idle_since.get() >= oldest
        });
    }

    /// Takes no other request: each connection ends with its last stream.
    pub(crate) fn retire(&self) {
        self.open.borrow_mut().clear();
    }
}

impl Connection {
    fn has_room(&self) -> bool {
        self.sender.is_ready() && self.streams.get() < STREAMS_MAX
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn exchange(
        self: &Rc<Self>,
        request: Request<Upload>,
        downstream: &Downstream,
        clock: &Rc<Clock>,
    ) -> Result<(Response<Incoming>, Streaming), Loss> {
        let streaming = Streaming::begin(self, clock);
        let mut sender = self.sender.clone();
        let mut answer = pin!(sender.try_send_request(request));
        let response = poll_fn(|cx| match (answer.as_mut().poll(cx), downstream.verdict()) {
            (Poll::Ready(Ok(response)), _) => Poll::Ready(Ok(response)),
            (Poll::Ready(Err(mut error)), _) => Poll::Ready(Err(match error.take_message() {
                Some(request) => Loss::NotSent(Box::new(request)),
                None => Loss::broken(error.error(), false),
            })),
            (Poll::Pending, Some(verdict)) => Poll::Ready(Err(Loss::Told(verdict))),
            (Poll::Pending, None) => Poll::Pending,
        });
        Ok((response.await?, streaming))
    }
}

/// A stream's place on its connection.
pub(crate) struct Streaming {
    connection: Rc<Connection>,
    clock: Rc<Clock>,
}

impl Streaming {
    fn begin(connection: &Rc<Connection>, clock: &Rc<Clock>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self { connection: Rc::clone(connection), clock: Rc::clone(clock) }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get() - 1);
        self.connection.idle_since.set(self.clock.now());
    }
}

/// Fields that the head of a request in HTTP/2 does not have.
const UNTRANSLATED: [HeaderName; 4] = [HOST, CONNECTION, TRANSFER_ENCODING, EXPECT];

/// What a head says otherwise, or not at all, once it is translated for HTTP/2. A request that was not
/// sent gets it back: the next replica may be told in HTTP/1.1, and needs its host in any case.
pub(crate) struct Original {
    uri: Uri,
    fields: [Option<HeaderValue>; 4],
}

impl Original {
    /// Makes the request again what it was before it was translated.
    pub(crate) fn restore(self, request: &mut Request<Upload>) {
        *request.uri_mut() = self.uri;
        *request.version_mut() = Version::HTTP_11;
        for (name, value) in UNTRANSLATED.into_iter().zip(self.fields) {
            if let Some(value) = value {
                request.headers_mut().insert(name, value);
            }
        }
    }
}

/// The head of a request as HTTP/2 wants it: where it goes is in the target, and nothing is about
/// one connection. Nothing of it is copied.
pub(crate) fn translate(request: &mut Request<Upload>) -> Original {
    let uri = request.uri().clone();
    // Each has one value at most: we have set them.
    let fields = UNTRANSLATED.map(|name| request.headers_mut().remove(name));
    let authority = fields[0].as_ref().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = authority.or(Some(Authority::from_static("localhost")));
    parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    // Of parts that are there together, so it is one.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
    Original { uri, fields }
}

/// What a request is sent with, kept to send it again.
pub(crate) struct Kept {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Upload,
}

impl Kept {
    /// A copy, if the body can be had again.
    pub(crate) fn of(request: &Request<Upload>) -> Option<Self> {
        Some(Self {
            body: request.body().again()?,
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        })
    }

    pub(crate) fn into_request(self) -> Request<Upload> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_translated_and_comes_back_as_it_was() {
        let mut request = Request::new(Upload::Kept(None));
        *request.uri_mut() = Uri::from_static("/a?b=c");
        for (name, value) in
            [("host", "shop:81"), ("connection", "te"), ("te", "trailers"), ("x", "1")]
        {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let kept = Kept::of(&request).unwrap().into_request();
        assert_eq!((kept.uri(), kept.headers()), (request.uri(), request.headers()));
        let (uri, headers) = (request.uri().clone(), request.headers().clone());
        let original = translate(&mut request);
        assert_eq!(*request.uri(), "http://shop:81/a?b=c");
        let mut names: Vec<_> = request.headers().keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["te", "x"]);
        original.restore(&mut request);
        assert_eq!((request.uri(), request.headers()), (&uri, &headers));
        assert_eq!(request.version(), Version::HTTP_11);
        let mut bare = Request::new(Upload::Kept(None));
        *bare.uri_mut() = Uri::from_static("*");
        translate(&mut bare);
        assert_eq!(bare.uri().authority().unwrap(), "localhost");
        assert_eq!(bare.uri().path(), "*");
    }

    #[test]
    fn protocols_are_known_by_name() {
        for protocol in UpstreamProtocol::ALL {
            assert_eq!(protocol.name().parse(), Ok(protocol));
        }
        let error = "h3".parse::<UpstreamProtocol>().unwrap_err();
        assert_eq!(error.to_string(), "'h3' is not one of h1, h2c, auto");
    }
}
