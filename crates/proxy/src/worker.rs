//! One worker: a thread's clients, connections, tables and deadlines.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::poll_fn,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;
use http::HeaderValue;
use hyper::{client, server};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use ringmaster_core::{
    fleet::{ids::InstanceId, message::FailureKind},
    ring::Slot,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::spawn_local,
};

use super::{
    accept,
    access_log::{AccessLog, Entry},
    body::Streamed,
    budget::RetryBudget,
    buffers::Buffers,
    config::ProxyConfig,
    converse::LocalExecutor,
    descriptors::Descriptors,
    downstream::{Clock, Deadlines, Downstream, Registry, SWEEP},
    errors::Failure,
    h2::BesideExecutor,
    hedge::Hedging,
    key::{self, Asked, Lines, Peer},
    metrics::Counters,
    own::{self, Ask},
    pick::{Picker, View},
    pool::Pool,
    routes::{Reader, Table},
    splice::Pipes,
    watch::{Deadlines as OwnDeadlines, Watches},
};

/// How often a worker that shuts down looks whether it is done.
const SHUTDOWN_STEP: Duration = Duration::from_millis(50);
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
    pub(crate) log: Option<Arc<AccessLog>>,
    /// Open client connections of the process.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) descriptors: Arc<Descriptors>,
}

/// A worker's own state; never leaves its thread.
pub(crate) struct Worker {
    pub(crate) config: Arc<ProxyConfig>,
    pub(crate) control: axum::Router,
    pub(crate) counters: Arc<CachePadded<Counters>>,
    pub(crate) log: Option<Arc<AccessLog>>,
    pub(crate) budget: RefCell<RetryBudget>,
    /// Only where requests are hedged.
    pub(crate) hedging: Option<RefCell<Hedging>>,
    pub(crate) clock: Rc<Clock>,
    pub(crate) upstream_http: client::conn::http1::Builder,
    pub(crate) upstream_http2: client::conn::http2::Builder<BesideExecutor>,
    pub(crate) fallback_host: String,
    pub(crate) picker: Picker,
    /// Whether a key may be in a body.
    pub(crate) reads_bodies: bool,
    pub(crate) downstream_http: server::conn::http1::Builder,
    pub(crate) downstream_http2: server::conn::http2::Builder<LocalExecutor>,
    pub(crate) executor: LocalExecutor,
    pub(crate) pipes: Rc<Pipes>,
    pub(crate) descriptors: Arc<Descriptors>,
    index: usize,
    failures: mpsc::Sender<(InstanceId, FailureKind)>,
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) registry: Registry,
    /// Connections that our own codec carries.
    pub(crate) watches: Watches,
    pub(crate) buffers: Buffers,
    /// Whether it carries any.
    pub(crate) is_own: bool,
    rng: RefCell<StdRng>,
    pub(crate) view: RefCell<Rc<View>>,
    reader: Reader,
    /// Tables that came since the last look.
    tables: RefCell<watch::Receiver<Arc<Table>>>,
}

/// Serves until told to stop. Returns when the last connection has ended, or at the deadline.
pub(crate) async fn run(
    parts: Parts,
    asks: mpsc::Receiver<Ask>,
    reader: Reader,
    mut stop: watch::Receiver<Option<Instant>>,
    listener: TcpListener,
) {
    let tables = reader.tables.clone();
    let worker = Rc::new(Worker::new(parts, reader));
    spawn_local(own::serve(Rc::clone(&worker), asks));
    spawn_local(follow(Rc::clone(&worker), tables));
    spawn_local(sweep(Rc::clone(&worker)));
    let deadline = tokio::select! {
        deadline = stopped(&mut stop) => deadline,
        never = accept::accept(&worker, &listener) => match never {},
    };
    if let Err(error) = accept::empty_queue(&worker, listener) {
        tracing::warn!(%error, "connections that waited to be accepted were lost");
    }
    let is_done = |worker: &Worker| worker.registry.is_empty() && worker.watches.is_empty();
    while !is_done(&worker) && Instant::now() < deadline {
        // Slept first: what idle connections have already sent is read before they are closed.
        tokio::time::sleep(SHUTDOWN_STEP).await;
        let now = worker.clock.advance();
        worker.registry.finish(now);
        worker.watches.finish(now);
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

/// Takes over each new table, also where no request comes.
async fn follow(worker: Rc<Worker>, mut tables: watch::Receiver<Arc<Table>>) {
    while tables.changed().await.is_ok() {
        worker.look_at_tables();
    }
}

/// Looks after deadlines.
async fn sweep(worker: Rc<Worker>) {
    let deadlines = Deadlines::new(&worker.config);
    let own_deadlines = OwnDeadlines::new(&worker.config);
    let mut missed = worker.descriptors.missed();
    for turn in 1_u64.. {
        tokio::time::sleep(SWEEP).await;
        let now = worker.clock.advance();
        if missed != worker.descriptors.missed() {
            missed = worker.descriptors.missed();
            worker.release_idle();
        }
        // Once a second, by one of all.
        if worker.index == 0 && turn % 10 == 0 {
            worker.descriptors.recount();
        }
        let overdue = worker.registry.sweep(now, &deadlines);
        let own_overdue = worker.watches.sweep(now, &own_deadlines);
        worker.counters.whole_timeouts.add(overdue + own_overdue);
        for pool in worker.view().pools.iter().flatten() {
            pool.cull();
        }
        if let Some(hedging) = &worker.hedging
            && hedging.borrow_mut().refresh(now)
        {
            worker.counters.hedge_measurements.bump();
        }
    }
}

impl Worker {
    fn new(parts: Parts, reader: Reader) -> Self {
        let mut tables = reader.tables.clone();
        let (index, table) = (reader.index, tables.borrow_and_update().clone());
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
        let picker = Picker::new(&config, index);
        let executor = LocalExecutor::default();
        let worker = Self {
            control: parts.control,
            counters: parts.counters,
            log: parts.log,
            budget: RefCell::new(budget),
            hedging: config.hedge_percent.map(|percent| RefCell::new(Hedging::new(percent))),
            clock: Rc::new(Clock::start()),
            upstream_http,
            upstream_http2: upstream_http2(&config),
            fallback_host: parts.local_addr.to_string(),
            reads_bodies: picker.is_by_key() && config.keys.read_bodies(),
            picker,
            downstream_http,
            downstream_http2: http2_builder(&config, executor.clone()),
            executor,
            pipes: Rc::new(Pipes::new(Arc::clone(&parts.descriptors))),
            descriptors: parts.descriptors,
            index,
            failures: parts.failures,
            open: parts.open,
            registry: Registry::default(),
            watches: Watches::default(),
            buffers: Buffers::default(),
            is_own: config.uses_own_codec(),
            rng: RefCell::new(StdRng::seed_from_u64(seed())),
            view: RefCell::new(Rc::new(View::new(Arc::clone(&table), Vec::new()))),
            tables: RefCell::new(tables),
            reader,
            config,
        };
        worker.take_over(table);
        worker
    }

    /// Takes over the newest table, if there is one. Each request looks before it is routed, which
    /// costs it one load: so what was published before a request came is what routes it.
    fn look_at_tables(&self) {
        let mut tables = self.tables.borrow_mut();
        if tables.has_changed().unwrap_or(false) {
            let table = tables.borrow_and_update().clone();
            self.take_over(table);
        }
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
                        (target.address, target.name.clone()),
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
        let may_finish = |instance| {
            let is_target = pools.iter().flatten().any(|p| p.instance() == instance);
            is_target || table.routing.finishing.contains(&instance)
        };
        self.registry.eject_others(may_finish);
        self.watches.eject_others(may_finish);
        self.picker.follow(&table);
        let version = table.version;
        *self.view.borrow_mut() = Rc::new(View::new(table, pools));
        self.reader.acknowledge(version);
    }

    /// Who is next to get a request of this slot, by the policy.
    pub(crate) fn pick(&self, slot: Slot, tried: &[InstanceId]) -> Option<Rc<Pool>> {
        self.picker.pick(&self.view.borrow(), slot, tried, &self.rng, &self.counters)
    }

    /// Closes what rests and holds a descriptor.
    pub(crate) fn release_idle(&self) {
        for pool in self.view.borrow().pools.iter().flatten() {
            pool.release_idle();
        }
        self.pipes.release_unused();
    }

    /// Whether anybody is admitted.
    pub(crate) fn has_replica(&self) -> bool {
        self.view.borrow().has_replica()
    }

    /// What a key is looked for in.
    pub(crate) fn asked<'a>(
        &'a self,
        parts: &'a http::request::Parts,
        downstream: &'a Downstream,
        body: key::Body<'a>,
    ) -> Asked<'a> {
        let peer = Peer {
            address: downstream.peer.ip(),
            text: &downstream.forwarded_for,
            trusted: downstream.is_trusted.then_some(&self.config.trusted_proxies),
        };
        let head = Lines::Map { uri: &parts.uri, headers: &parts.headers };
        Asked { head, peer, body }
    }

    /// The slot of a key that is given.
    pub(crate) fn slot_of_key(&self, key: &[u8]) -> Slot {
        self.look_at_tables();
        self.slot_in_view(key)
    }

    fn slot_in_view(&self, key: &[u8]) -> Slot {
        self.view.borrow().table.routing.ring.slot_of(key)
    }

    /// The slot of a request's key; any slot where the policy does not go by it.
    pub(crate) fn slot_of(&self, asked: &Asked<'_>) -> Slot {
        self.look_at_tables();
        if !self.picker.is_by_key() {
            return 0;
        }
        let mut rng = self.rng.borrow_mut();
        let key = self.config.keys.find(asked, &mut *rng, &self.counters);
        self.slot_in_view(key.as_bytes())
    }

    /// The entry of a request in the access log, if it is one that is logged.
    pub(crate) fn log_entry<B>(
        &self,
        request: &http::Request<B>,
        downstream: &Downstream,
    ) -> Option<Box<Entry>> {
        self.draws_log().map(|log| {
            let client = downstream.forwarded_for.clone();
            Entry::begin(Arc::clone(log), Arc::clone(&self.counters), client, request)
        })
    }

    /// Whether a request is one that is logged.
    pub(crate) fn draws_log(&self) -> Option<&Arc<AccessLog>> {
        let log = self.log.as_ref()?;
        let is_drawn = log.sample >= 1.0 || self.rng.borrow_mut().random::<f64>() < log.sample;
        is_drawn.then_some(log)
    }

    /// Counts a request of a connection, which may be its last.
    pub(crate) fn wear(&self, downstream: &Downstream) {
        if downstream.wear(self.config.requests_per_connection) {
            self.counters.connections_worn.bump();
        }
    }

    /// A new identity for a request that came without one: 16 hexadecimal digits.
    pub(crate) fn request_id(&self) -> HeaderValue {
        let digits = self.request_id_digits();
        // Digits are always a valid value.
        HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }

    pub(crate) fn request_id_digits(&self) -> [u8; 16] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let drawn: u64 = self.rng.borrow_mut().random();
        let mut text = [0; 16];
        for (place, byte) in text.iter_mut().enumerate() {
            *byte = DIGITS[(drawn >> (60 - 4 * place)) as usize & 15];
        }
        text
    }

    pub(crate) fn is_mounted(&self, path: &str) -> bool {
        self.config.mounts.holds(path)
    }

    /// Tells the control core that an instance did not answer. Never waits.
    pub(crate) fn report(&self, instance: InstanceId, kind: FailureKind) {
        if self.failures.try_send((instance, kind)).is_err() {
            self.counters.failures_dropped.bump();
        }
    }

    pub(crate) fn count_failure(&self, failure: &Failure) {
        if failure.status().is_server_error() {
            self.counters.unserved.bump();
        }
        match failure {
            Failure::NoReplica => self.counters.no_replica.bump(),
            Failure::Exhausted => self.counters.exhausted.bump(),
            Failure::Unanswered => self.counters.unanswered.bump(),
            Failure::BadAnswer => self.counters.bad_answers.bump(),
            Failure::TimedOut => self.counters.timed_out.bump(),
            Failure::LargeBody => self.counters.bodies_too_large.bump(),
            Failure::LongUri => self.counters.uris_too_long.bump(),
            // Counted where it is known why.
            Failure::Overloaded | Failure::NotFound(..) => {}
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
}

/// HTTP/2 towards replicas, within the same bounds as towards clients.
fn upstream_http2(config: &ProxyConfig) -> client::conn::http2::Builder<BesideExecutor> {
    let mut http2 = client::conn::http2::Builder::new(BesideExecutor);
    http2
        .max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(u32::try_from(config.buffer_max).unwrap_or(u32::MAX))
        .initial_connection_window_size(H2_WINDOW)
        .max_send_buf_size(config.buffer_max);
    http2
}

/// What a client may do to us over HTTP/2, within the same bounds as over HTTP/1.1.
fn http2_builder(
    config: &ProxyConfig,
    executor: LocalExecutor,
) -> server::conn::http2::Builder<LocalExecutor> {
    let mut http2 = server::conn::http2::Builder::new(executor);
    http2
        .max_concurrent_streams(config.streams_max)
        .max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(u32::try_from(config.buffer_max).unwrap_or(u32::MAX))
        .initial_connection_window_size(H2_WINDOW)
        .max_send_buf_size(config.buffer_max);
    http2
}

/// What a client may send on all streams of a connection before we have read some of it.
const H2_WINDOW: u32 = 1 << 20;
