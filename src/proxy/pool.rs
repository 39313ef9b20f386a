//! Connections to one instance, of one worker.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crossbeam_utils::CachePadded;
use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    body::Upload,
    downstream::{Clock, Downstream, Verdict},
    metrics::InstanceCounters,
    routes::Upstream,
};
use crate::fleet::ids::InstanceId;

/// The connections of one worker to one instance.
pub(crate) struct Pool {
    upstream: Arc<Upstream>,
    address: SocketAddr,
    /// Whether the instance is in the current table; once it is not, this pool takes nothing back.
    is_target: Cell<bool>,
    /// Oldest first. Taken from the end, so that the number adapts to what is needed.
    idle: RefCell<Vec<Box<Link>>>,
    idle_max: usize,
    idle_millis: u64,
    clock: Rc<Clock>,
    pub(crate) counters: Arc<CachePadded<InstanceCounters>>,
}

impl Pool {
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        address: SocketAddr,
        worker: usize,
        limits: (usize, Duration),
        clock: Rc<Clock>,
    ) -> Self {
        Self {
            counters: upstream.counters(worker),
            upstream,
            address,
            is_target: Cell::new(true),
            idle: RefCell::default(),
            idle_max: limits.0,
            idle_millis: u64::try_from(limits.1.as_millis()).unwrap_or(u64::MAX),
            clock,
        }
    }

    pub(crate) fn instance(&self) -> InstanceId {
        self.upstream.instance
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// An open connection that has not rested for too long.
    pub(crate) fn take(&self) -> Option<Box<Link>> {
        let mut idle = self.idle.borrow_mut();
        let oldest = self.clock.now().saturating_sub(self.idle_millis);
        while let Some(link) = idle.pop() {
            if link.idle_since < oldest {
                // What lies below is older still.
                idle.clear();
                break;
            }
            if link.is_reusable() {
                return Some(link);
            }
        }
        None
    }

    /// Takes a connection back, if it can serve another request.
    pub(crate) fn put(&self, mut link: Box<Link>) {
        let mut idle = self.idle.borrow_mut();
        if self.is_target.get() && link.is_reusable() && idle.len() < self.idle_max {
            link.idle_since = self.clock.now();
            link.is_reused = true;
            idle.push(link);
        }
    }

    /// Closes connections that have rested for too long.
    pub(crate) fn cull(&self) {
        let oldest = self.clock.now().saturating_sub(self.idle_millis);
        let mut idle = self.idle.borrow_mut();
        let old = idle.partition_point(|link| link.idle_since < oldest);
        idle.drain(..old);
    }

    /// The instance left the table: its idle connections close, and no other comes back.
    pub(crate) fn retire(&self) {
        self.is_target.set(false);
        self.idle.borrow_mut().clear();
    }
}

/// A request's place in the in-flight number of its instance.
pub(crate) struct InFlight(Rc<Pool>);

impl InFlight {
    pub(crate) fn enter(pool: Rc<Pool>) -> Self {
        pool.upstream.begin_request();
        pool.counters.requests.bump();
        Self(pool)
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.upstream.end_request();
    }
}

/// How many bytes a connection moved for the request at hand.
#[derive(Debug, Default)]
struct Traffic {
    read: Cell<u64>,
}

/// A connection's socket; counts what it reads, to know whether an answer had begun.
struct Wire {
    stream: TcpStream,
    traffic: Rc<Traffic>,
}

/// One connection to an instance: both halves of hyper's, so that whoever waits for the answer is
/// also who moves it.
pub(crate) struct Link {
    sender: http1::SendRequest<Upload>,
    /// `None` once it has ended. hyper gives a request back that waits in a connection which the
    /// replica has closed, but only when the connection is dropped.
    connection: Option<http1::Connection<TokioIo<Wire>, Upload>>,
    traffic: Rc<Traffic>,
    idle_since: u64,
    /// Whether it has served a request before: then the replica may have closed it meanwhile.
    pub(crate) is_reused: bool,
}

/// Why a request got no answer on a connection.
pub(crate) enum Loss {
    /// Nothing of it was sent.
    NotSent(Request<Upload>),
    /// The connection broke.
    Broken {
        /// Whether some of the answer had come.
        answer_began: bool,
        /// Whose fault it was.
        blame: Blame,
    },
    /// Something else ended the wait.
    Told(Verdict),
}

/// Whose fault a broken connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The network's, or the replica ended it.
    Connection,
    /// What came from the replica is not HTTP.
    Answer,
    /// The client's body broke off.
    Client,
}

impl Link {
    /// Connects to an instance. Has no deadline of its own.
    pub(crate) async fn connect(
        address: SocketAddr,
        http: &http1::Builder,
    ) -> io::Result<Box<Self>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let traffic = Rc::new(Traffic::default());
        let wire = Wire { stream, traffic: Rc::clone(&traffic) };
        let (sender, connection) =
            http.handshake(TokioIo::new(wire)).await.map_err(io::Error::other)?;
        Ok(Box::new(Self {
            sender,
            connection: Some(connection),
            traffic,
            idle_since: 0,
            is_reused: false,
        }))
    }

    /// Moves bytes in both directions, as far as it goes now.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.connection, cx);
    }

    /// Whether it can take a request now.
    pub(crate) fn is_reusable(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the answer. After an error the connection is of
    /// no use.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Upload>,
        downstream: &Downstream,
    ) -> Result<Response<Incoming>, Loss> {
        self.traffic.read.set(0);
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            drive(&mut self.connection, cx);
            match (answer.as_mut().poll(cx), downstream.verdict()) {
                (Poll::Ready(Ok(response)), _) => Poll::Ready(Ok(response)),
                (Poll::Ready(Err(mut error)), _) => Poll::Ready(Err(match error.take_message() {
                    Some(request) => Loss::NotSent(request),
                    None => self.traffic.loss(error.error()),
                })),
                (Poll::Pending, Some(verdict)) => Poll::Ready(Err(Loss::Told(verdict))),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await
    }
}

fn drive<C: Future + Unpin>(connection: &mut Option<C>, cx: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|open| Pin::new(open).poll(cx).is_ready()) {
        *connection = None;
    }
}

impl Traffic {
    fn loss(&self, error: &hyper::Error) -> Loss {
        let blame = if error.is_user() {
            Blame::Client
        } else if error.is_parse() {
            Blame::Answer
        } else {
            Blame::Connection
        };
        Loss::Broken { answer_began: self.read.get() > 0, blame }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let came = buf.filled().len() - before;
        this.traffic.read.set(this.traffic.read.get() + came as u64);
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
