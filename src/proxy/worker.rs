//! One worker: a thread's clients, connections, tables and deadlines.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::{Future, poll_fn},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;
use hyper::{client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::spawn_local,
};

use super::{
    body::Streamed,
    budget::RetryBudget,
    config::ProxyConfig,
    downstream::{Clock, Deadlines, Downstream, Order, Registry, SWEEP},
    errors::{Failure, SHED, TOO_SLOW},
    forward,
    metrics::Counters,
    pool::Pool,
    routes::{Reader, Table},
};
use crate::{
    balance,
    fleet::{ids::InstanceId, message::FailureKind},
    ring::Slot,
};

/// How often a worker that shuts down looks whether it is done.
const SHUTDOWN_STEP: Duration = Duration::from_millis(50);
/// How long to wait when the system has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The most of an unwanted answer that is read to keep its connection, and for how long.
const DISCARD_MAX: u64 = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// What a worker is made of; all of it can be sent to its thread.
pub(crate) struct Parts {
    pub(crate) config: Arc<ProxyConfig>,
    pub(crate) local_addr: SocketAddr,
    pub(crate) failures: mpsc::Sender<(InstanceId, FailureKind)>,
    pub(crate) control: axum::Router,
    pub(crate) counters: Arc<CachePadded<Counters>>,
    /// Open client connections of the process.
    pub(crate) open: Arc<AtomicUsize>,
}

/// A worker's own state; never leaves its thread.
pub(crate) struct Worker {
    pub(crate) config: Arc<ProxyConfig>,
    pub(crate) control: axum::Router,
    pub(crate) counters: Arc<CachePadded<Counters>>,
    pub(crate) budget: RefCell<RetryBudget>,
    pub(crate) clock: Rc<Clock>,
    pub(crate) upstream_http: client::conn::http1::Builder,
    pub(crate) fallback_host: String,
    downstream_http: server::conn::http1::Builder,
    index: usize,
    failures: mpsc::Sender<(InstanceId, FailureKind)>,
    open: Arc<AtomicUsize>,
    registry: Registry,
    rng: RefCell<StdRng>,
    view: RefCell<Rc<View>>,
}

/// A table with this worker's pools.
struct View {
    table: Arc<Table>,
    /// By member index, like the targets.
    pools: Vec<Option<Rc<Pool>>>,
}

/// Serves until told to stop. Returns when the last connection has ended, or at the deadline.
pub(crate) async fn run(
    parts: Parts,
    mut reader: Reader,
    mut stop: watch::Receiver<Option<Instant>>,
    listener: TcpListener,
) {
    let table = reader.tables.borrow_and_update().clone();
    let version = table.version;
    let worker = Rc::new(Worker::new(parts, reader.index, table));
    reader.acknowledge(version);
    spawn_local(follow(Rc::clone(&worker), reader));
    spawn_local(sweep(Rc::clone(&worker)));
    let deadline = tokio::select! {
        deadline = stopped(&mut stop) => deadline,
        never = accept(&worker, &listener) => match never {},
    };
    if let Err(error) = worker.empty_queue(listener) {
        tracing::warn!(%error, "connections that waited to be accepted were lost");
    }
    while !worker.registry.is_empty() && Instant::now() < deadline {
        // Slept first: what idle connections have already sent is read before they are closed.
        tokio::time::sleep(SHUTDOWN_STEP).await;
        worker.registry.finish(worker.clock.advance());
    }
}

/// A number that differs between workers and between runs: the standard library's hash seeds come
/// from the system's entropy.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

async fn stopped(stop: &mut watch::Receiver<Option<Instant>>) -> Instant {
    match stop.wait_for(Option::is_some).await {
        Ok(deadline) => deadline.unwrap_or_else(Instant::now),
        // Nobody is left who could name a later one.
        Err(_) => Instant::now(),
    }
}

/// Takes over each new table.
async fn follow(worker: Rc<Worker>, mut reader: Reader) {
    while reader.tables.changed().await.is_ok() {
        let table = reader.tables.borrow_and_update().clone();
        let version = table.version;
        worker.take_over(table);
        reader.acknowledge(version);
    }
}

/// Looks after deadlines.
async fn sweep(worker: Rc<Worker>) {
    let deadlines = Deadlines::new(&worker.config);
    loop {
        tokio::time::sleep(SWEEP).await;
        let now = worker.clock.advance();
        worker.registry.sweep(now, &deadlines);
        for pool in worker.view().pools.iter().flatten() {
            pool.cull();
        }
    }
}

async fn accept(worker: &Rc<Worker>, listener: &TcpListener) -> std::convert::Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => worker.admit(stream, peer),
            Err(error) => {
                worker.counters.accept_errors.bump();
                // A connection that was gone before we looked says nothing about the next.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Worker {
    fn new(parts: Parts, index: usize, table: Arc<Table>) -> Self {
        let config = parts.config;
        let mut upstream_http = client::conn::http1::Builder::new();
        // Flat writes: copying a small body behind its head is cheaper than a vectored write.
        upstream_http
            .writev(false)
            .max_header_size(config.header_bytes_max)
            .max_buf_size(config.buffer_max);
        let mut downstream_http = server::conn::http1::Builder::new();
        downstream_http
            .writev(false)
            .header_read_timeout(None)
            .max_header_size(config.header_bytes_max)
            .max_buf_size(config.buffer_max);
        // Naming a number costs an allocation per head, so hyper's own 100 is not named.
        if config.headers_max != 100 {
            upstream_http.max_headers(config.headers_max);
            downstream_http.max_headers(config.headers_max);
        }
        let per_second = f64::from(config.retries_per_second) / config.worker_count() as f64;
        let budget = RetryBudget::new(config.retry_percent, per_second, config.retry_burst);
        let worker = Self {
            control: parts.control,
            counters: parts.counters,
            budget: RefCell::new(budget),
            clock: Rc::new(Clock::start()),
            upstream_http,
            fallback_host: parts.local_addr.to_string(),
            downstream_http,
            index,
            failures: parts.failures,
            open: parts.open,
            registry: Registry::default(),
            rng: RefCell::new(StdRng::seed_from_u64(seed())),
            view: RefCell::new(Rc::new(View { table: Arc::clone(&table), pools: Vec::new() })),
            config,
        };
        worker.take_over(table);
        worker
    }

    fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// Makes a table the current one, with all its consequences for connections and for requests
    /// that wait.
    fn take_over(&self, table: Arc<Table>) {
        self.counters.tables.bump();
        let old = self.view();
        let kept: HashMap<InstanceId, &Rc<Pool>> =
            old.pools.iter().flatten().map(|pool| (pool.instance(), pool)).collect();
        let targets = table.routing.targets.iter().zip(&table.upstreams);
        let pools: Vec<Option<Rc<Pool>>> = targets
            .map(|(target, upstream)| {
                let (target, upstream) = (target.as_ref()?, upstream.as_ref()?);
                let kept = kept.get(&target.instance);
                let kept = kept.filter(|pool| pool.address() == target.address);
                Some(match kept {
                    Some(pool) => Rc::clone(pool),
                    None => Rc::new(Pool::new(
                        Arc::clone(upstream),
                        target.address,
                        self.index,
                        (self.config.upstream_idle_max, self.config.upstream_idle),
                        Rc::clone(&self.clock),
                    )),
                })
            })
            .collect();
        for pool in kept.values() {
            if !pools.iter().flatten().any(|new| Rc::ptr_eq(new, pool)) {
                pool.retire();
            }
        }
        self.registry.eject_others(|instance| {
            let is_target = pools.iter().flatten().any(|p| p.instance() == instance);
            is_target || table.routing.finishing.contains(&instance)
        });
        *self.view.borrow_mut() = Rc::new(View { table, pools });
    }

    /// Who is next to get a request of this slot: the first admitted of the preference list that it
    /// has not tried. Instances are remembered, not members: a member's new instance may be tried
    /// although its old one was.
    pub(crate) fn pick(&self, slot: Slot, tried: &[InstanceId]) -> Option<Rc<Pool>> {
        let view = self.view.borrow();
        let untried = |pool: &&Rc<Pool>| !tried.contains(&pool.instance());
        let pool = |member: usize| view.pools.get(member)?.as_ref().filter(untried);
        let admitted = |member: crate::ring::MemberIndex| pool(member.0.into()).is_some();
        let member = balance::candidates(&view.table.routing.ring, slot, admitted, &[]).next()?;
        pool(member.0.into()).cloned()
    }

    /// The slot of a request's key.
    pub(crate) fn slot_of(&self, parts: &http::request::Parts) -> Slot {
        let mut rng = self.rng.borrow_mut();
        let (key, passed_over) = self.config.keys.find(&parts.uri, &parts.headers, &mut *rng);
        if passed_over {
            self.counters.keys_too_long.bump();
        }
        self.view.borrow().table.routing.ring.slot_of(key.as_bytes())
    }

    pub(crate) fn is_mounted(&self, path: &str) -> bool {
        self.config.mounts.iter().any(|mount| mount == path)
    }

    /// Tells the control core that an instance did not answer. Never waits.
    pub(crate) fn report(&self, instance: InstanceId, kind: FailureKind) {
        if self.failures.try_send((instance, kind)).is_err() {
            self.counters.failures_dropped.bump();
        }
    }

    pub(crate) fn count_failure(&self, failure: &Failure) {
        match failure {
            Failure::NoReplica => self.counters.no_replica.bump(),
            Failure::Unanswered => self.counters.unanswered.bump(),
            Failure::BadAnswer => self.counters.bad_answers.bump(),
            Failure::TimedOut => self.counters.timed_out.bump(),
            Failure::NotFound(_) => {}
            _ => self.counters.refused_requests.bump(),
        }
    }

    /// Reads what is left of an answer that nobody wants, so that its connection can be used again.
    pub(crate) fn discard(&self, mut streamed: Streamed) {
        if streamed.link.is_none() {
            return;
        }
        spawn_local(async move {
            let reading = async {
                let mut left = DISCARD_MAX;
                while let Some(Ok(frame)) = poll_fn(|cx| streamed.poll(cx)).await {
                    let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                    left = left.saturating_sub(length);
                    if left == 0 {
                        break;
                    }
                }
            };
            let _ = tokio::time::timeout(DISCARD_TIME, reading).await;
        });
    }

    /// Accepts what the kernel has already accepted for us: these clients think that they are
    /// connected. Only then the listener may close.
    fn empty_queue(self: &Rc<Self>, listener: TcpListener) -> io::Result<()> {
        let listener = listener.into_std()?;
        loop {
            match listener.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true)?;
                    self.admit(TcpStream::from_std(stream)?, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Serves a connection, or sheds it.
    fn admit(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let open = Open::new(&self.open);
        if open.number > self.config.connections_max {
            self.counters.connections_shed.bump();
            // Into the empty buffer of a new socket: it fits, or the client is gone.
            let _ = stream.try_write(SHED);
            return;
        }
        self.counters.connections_accepted.bump();
        let worker = Rc::clone(self);
        spawn_local(async move {
            let (id, downstream) = worker.registry.open(peer, &worker.clock);
            converse(&worker, stream, &downstream).await;
            worker.registry.close(id);
            worker.counters.connections_closed.bump();
            drop(open);
        });
    }
}

/// A place in the process's number of open connections.
struct Open {
    number: usize,
    count: Arc<AtomicUsize>,
}

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        Self { number: count.fetch_add(1, Ordering::Relaxed) + 1, count: Arc::clone(count) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All requests of one client connection.
async fn converse(worker: &Rc<Worker>, stream: TcpStream, downstream: &Rc<Downstream>) {
    // Without it small answers may wait for the client's delayed acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(|request| {
        let answer = forward::answer(Rc::clone(worker), Rc::clone(downstream), request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let io = TokioIo::new(Wire { stream, downstream: Rc::clone(downstream) });
    let mut connection = worker.downstream_http.serve_connection(io, service);
    let is_too_slow = poll_fn(|cx| {
        downstream.remember(cx.waker());
        match downstream.take_order() {
            Some(Order::Close) => return Poll::Ready(false),
            Some(Order::TooSlow) => return Poll::Ready(true),
            Some(Order::Finish) => Pin::new(&mut connection).graceful_shutdown(),
            None => {}
        }
        // How it ended concerns only the client, who knows it.
        Pin::new(&mut connection).poll(cx).map(|_| false)
    })
    .await;
    if is_too_slow {
        worker.counters.header_timeouts.bump();
        let wire = connection.into_parts().io.into_inner();
        let _ = wire.stream.try_write(TOO_SLOW);
    }
}

/// A client's socket; tells when bytes come.
struct Wire {
    stream: TcpStream,
    downstream: Rc<Downstream>,
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
        if buf.filled().len() > before {
            this.downstream.bytes_came();
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
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
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
