//! One connection to an instance: who moves it, what was sent on it, and why it was lost.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    body::Upload,
    descriptors::Held,
    downstream::{Downstream, Verdict},
    headers, interim,
    owner::Owner,
};

/// What a connection's socket saw of the request at hand.
#[derive(Debug, Default)]
struct Traffic {
    /// Bytes of the answer.
    read: Cell<u64>,
    /// The first write, which begins with the whole head. To keep these bytes costs one copy; to
    /// keep a clone of every header for a retry that hardly ever comes costs far more.
    head: RefCell<Vec<u8>>,
    /// Whether the next write is to be kept.
    keeps: Cell<bool>,
    /// Whether hyper has more to write than it has written.
    unsent: Cell<bool>,
    interim: interim::Listener,
}

/// The most of a first write that is kept: a head of the largest size we accept, and what we add.
const KEPT_HEAD_MAX: usize = 40 * 1024;

/// A connection's socket; knows what was sent on it, and whether an answer had begun.
pub(crate) struct Wire {
    stream: TcpStream,
    traffic: Rc<Traffic>,
    _held: Held,
}

/// One connection to an instance: both halves of hyper's, so that whoever waits for the answer is
/// also who moves it.
pub(crate) struct Link {
    sender: http1::SendRequest<Upload>,
    connection: Connection,
    traffic: Rc<Traffic>,
    owner: Arc<Owner>,
    /// Wakes the owner.
    waker: Waker,
    idle_since: u64,
    /// Whether it has served a request before: then the replica may have closed it meanwhile.
    pub(crate) is_reused: bool,
}

/// A part of a replica's body.
type PolledFrame = Poll<Option<Result<Frame<Bytes>, hyper::Error>>>;

/// The half that moves bytes. Once it has ended it is taken apart then and there: a request that it
/// had not yet taken comes back to its sender only by that.
struct Connection {
    /// `None` once it has ended.
    half: Option<http1::Connection<TokioIo<Wire>, Upload>>,
    /// Whether the socket is kept when the conversation in HTTP ends.
    may_upgrade: bool,
    /// The socket, and what was read from it behind the last answer.
    upgraded: Option<(Wire, Bytes)>,
}

impl Connection {
    fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = &mut self.half else { return };
        let Poll::Ready(ended) = Pin::new(connection).poll(cx) else { return };
        let ended_well = ended.is_ok();
        if let Some(connection) = self.half.take()
            && self.may_upgrade
            && ended_well
        {
            let parts = connection.into_parts();
            self.upgraded = Some((parts.io.into_inner(), parts.read_buf));
        }
    }
}

/// Why a request got no answer on a connection.
pub(crate) enum Loss {
    /// Nothing of it was sent.
    NotSent(Box<Request<Upload>>),
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

impl Loss {
    /// What an error of hyper's means.
    pub(crate) fn broken(error: &hyper::Error, answer_began: bool) -> Self {
        let blame = if error.is_user() {
            Blame::Client
        } else if error.is_parse() {
            Blame::Answer
        } else {
            Blame::Connection
        };
        Self::Broken { answer_began, blame }
    }
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
        held: Held,
    ) -> io::Result<Box<Self>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Self::over(Wire { stream, traffic: Rc::default(), _held: held }, http).await
    }

    /// A conversation that begins on a socket, which must have nothing left of another.
    pub(crate) async fn over(wire: Wire, http: &http1::Builder) -> io::Result<Box<Self>> {
        let traffic = Rc::clone(&wire.traffic);
        let (sender, connection) =
            http.handshake(TokioIo::new(wire)).await.map_err(io::Error::other)?;
        let owner = Arc::<Owner>::default();
        Ok(Box::new(Self {
            waker: Waker::from(Arc::clone(&owner)),
            owner,
            sender,
            connection: Connection { half: Some(connection), may_upgrade: false, upgraded: None },
            traffic,
            idle_since: 0,
            is_reused: false,
        }))
    }

    /// Moves bytes in both directions, as far as it goes now. From now on this task is woken when
    /// more can move.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        self.owner.set(cx.waker());
        self.connection.drive(&mut Context::from_waker(&self.waker));
    }

    /// What comes of the body, as far as it goes now. Asking for it is no reason to be woken: this
    /// task is here, and moves what is asked for itself.
    pub(crate) fn poll_frame(&mut self, body: &mut Incoming, cx: &mut Context<'_>) -> PolledFrame {
        let mut unheard = Context::from_waker(Waker::noop());
        self.owner.clear();
        let polled = Pin::new(&mut *body).poll_frame(&mut unheard);
        if polled.is_ready() {
            return polled;
        }
        self.drive(cx);
        self.owner.clear();
        let polled = Pin::new(body).poll_frame(&mut unheard);
        if polled.is_pending() && self.owner.set(cx.waker()) {
            cx.waker().wake_by_ref();
        }
        polled
    }

    /// Whether the next request asks for another protocol.
    pub(crate) fn may_upgrade(&mut self, may_upgrade: bool) {
        self.connection.may_upgrade = may_upgrade;
    }

    /// Whether all that hyper had for the replica is sent, and the conversation goes on.
    pub(crate) fn is_quiet(&self) -> bool {
        self.connection.half.is_some() && !self.traffic.unsent.get()
    }

    /// The socket, in the middle of an answer; and what hyper has read of that and given to nobody.
    pub(crate) fn into_wire(self) -> Option<(Wire, Bytes)> {
        let parts = self.connection.half?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }

    /// The socket, after an answer that agreed to an upgrade; and what came behind that.
    pub(crate) fn into_upgraded(mut self, cx: &mut Context<'_>) -> Option<(Wire, Bytes)> {
        self.drive(cx);
        self.connection.upgraded
    }

    /// The request that was sent last, with this body, if it was kept.
    pub(crate) fn sent(&self, body: Upload) -> Option<Request<Upload>> {
        match self.traffic.keeps.get() {
            true => None,
            false => headers::parse_request(&self.traffic.head.borrow(), body),
        }
    }

    /// Nobody waits for it from now on, a millisecond of the worker's clock.
    pub(crate) fn rest(&mut self, now: u64) {
        self.idle_since = now;
        self.is_reused = true;
        self.owner.clear();
    }

    pub(crate) fn idle_since(&self) -> u64 {
        self.idle_since
    }

    /// Whether it can take a request now.
    pub(crate) fn is_reusable(&self) -> bool {
        self.connection.half.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the answer. After an error the connection is of
    /// no use.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Upload>,
        downstream: &Downstream,
        is_repeatable: bool,
    ) -> Result<Response<Incoming>, Loss> {
        self.traffic.begin(is_repeatable);
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            // Whatever the connection says to its sender it says in here.
            self.owner.set(cx.waker());
            self.connection.drive(&mut Context::from_waker(&self.waker));
            if self.traffic.interim.has_heads() {
                downstream.pass_on_interim(self.traffic.interim.take());
            }
            let mut unheard = Context::from_waker(Waker::noop());
            match (answer.as_mut().poll(&mut unheard), downstream.verdict()) {
                (Poll::Ready(Ok(response)), _) => Poll::Ready(Ok(response)),
                (Poll::Ready(Err(mut error)), _) => Poll::Ready(Err(match error.take_message() {
                    Some(request) => Loss::NotSent(Box::new(request)),
                    None => self.traffic.loss(error.error()),
                })),
                (Poll::Pending, Some(verdict)) => Poll::Ready(Err(Loss::Told(verdict))),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await
    }
}

impl Traffic {
    fn begin(&self, keeps: bool) {
        self.read.set(0);
        self.keeps.set(keeps);
        self.interim.begin();
    }

    fn wrote(&self, bytes: &[u8]) {
        if self.keeps.replace(false) {
            let mut head = self.head.borrow_mut();
            head.clear();
            head.extend_from_slice(&bytes[..bytes.len().min(KEPT_HEAD_MAX)]);
        }
    }

    fn loss(&self, error: &hyper::Error) -> Loss {
        Loss::broken(error, self.read.get() > 0)
    }
}

impl Wire {
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
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
        if came > 0 && this.traffic.interim.listens() {
            this.traffic.interim.hear(&buf.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.traffic.wrote(bytes);
        this.traffic.unsent.set(true);
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes only when it has written all that it has.
        self.traffic.unsent.set(false);
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
