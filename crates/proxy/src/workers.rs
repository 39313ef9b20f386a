//! Starting and stopping the worker threads.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc as std_mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;
use ringmaster_core::fleet::{ids::InstanceId, message::FailureKind};
use tokio::{
    net::TcpSocket,
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot, watch},
};

use super::{
    access_log::AccessLog,
    config::ProxyConfig,
    descriptors::Descriptors,
    metrics::{Counters, Totals},
    own::{self, OwnRequests},
    routes::Routes,
    worker::{self, Parts},
};

/// How long the last lines of the access log may take.
const LOG_DEADLINE: Duration = Duration::from_secs(1);
/// Connections that the kernel holds for each worker until it accepts them.
const BACKLOG: u32 = 4096;

/// The running worker threads. Dropping it stops them without waiting.
#[derive(Debug)]
pub struct Workers {
    local_addr: SocketAddr,
    routes: Routes,
    counters: Vec<Arc<CachePadded<Counters>>>,
    open: Arc<AtomicUsize>,
    stop: watch::Sender<Option<Instant>>,
    /// Each resolves (with an error) when its thread ends, however it ends.
    running: Vec<oneshot::Receiver<()>>,
    /// How each worker is given requests of our own.
    own: Vec<mpsc::Sender<own::Ask>>,
    /// The access log, which ends with the last worker.
    log: Weak<AccessLog>,
    /// Resolves when the thread that writes it ends.
    log_ended: Option<oneshot::Receiver<()>>,
}

/// What every worker gets.
struct Common {
    config: Arc<ProxyConfig>,
    routes: Routes,
    failures: mpsc::Sender<(InstanceId, FailureKind)>,
    control: axum::Router,
    log: Option<Arc<AccessLog>>,
    descriptors: Arc<Descriptors>,
}

impl Workers {
    /// Whether the address could be had, without listening on it: a client is refused as long as
    /// the balancer does not listen, and tries again.
    ///
    /// # Errors
    /// The address cannot be had (in use, not ours, not permitted).
    pub fn check_address(config: &ProxyConfig) -> io::Result<()> {
        let wanted = config.listen;
        open(wanted).and_then(|socket| socket.bind(wanted)).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {wanted}: {error}"))
        })
    }

    /// Binds the address and starts the threads. When it returns, connections are accepted.
    ///
    /// # Errors
    /// The address cannot be had (in use, not ours, not permitted), the access log cannot be opened,
    /// or a thread cannot start.
    pub fn start(
        config: ProxyConfig,
        routes: Routes,
        failures: mpsc::Sender<(InstanceId, FailureKind)>,
        control: axum::Router,
    ) -> io::Result<Self> {
        let wanted = config.listen;
        let sockets = bind(wanted, config.worker_count()).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {wanted}: {error}"))
        })?;
        // Those of the access log's thread come first.
        let counters = Arc::<CachePadded<Counters>>::default();
        let (log, log_ended) = match &config.access_log {
            None => (None, None),
            Some(settings) => {
                let (log, ended) = AccessLog::open(settings, Arc::clone(&counters))?;
                (Some(log), Some(ended))
            }
        };
        let mut workers = Self {
            local_addr: sockets[0].local_addr()?,
            routes: routes.clone(),
            counters: vec![counters],
            open: Arc::default(),
            stop: watch::Sender::new(None),
            running: Vec::new(),
            own: Vec::new(),
            log: log.as_ref().map_or_else(Weak::new, Arc::downgrade),
            log_ended,
        };
        let descriptors = Arc::new(Descriptors::of_process());
        let clients_max = descriptors.clients_max();
        if clients_max < config.connections_max {
            tracing::warn!(
                "the limit of open files leaves room for {clients_max} client connections, \
                 not for {} (`connections_max`)",
                config.connections_max
            );
        }
        let config = Arc::new(config);
        let common = Common { config, routes, failures, control, log, descriptors };
        for (number, socket) in sockets.into_iter().enumerate() {
            workers.start_one(number, socket, &common)?;
        }
        Ok(workers)
    }

    fn start_one(&mut self, number: usize, socket: TcpSocket, common: &Common) -> io::Result<()> {
        let counters = Arc::<CachePadded<Counters>>::default();
        let (own, asks) = mpsc::channel(own::ASKS_MAX);
        let parts = Parts {
            config: Arc::clone(&common.config),
            local_addr: self.local_addr,
            failures: common.failures.clone(),
            control: common.control.clone(),
            counters: Arc::clone(&counters),
            log: common.log.clone(),
            open: Arc::clone(&self.open),
            descriptors: Arc::clone(&common.descriptors),
        };
        let (running, ended) = oneshot::channel();
        let (ready, is_ready) = std_mpsc::sync_channel(1);
        let routes = common.routes.clone();
        let stop = self.stop.subscribe();
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            // Dropped last, after the runtime with all its connections.
            let _running: oneshot::Sender<()> = running;
            let mut builder = Builder::new_current_thread();
            let runtime = match builder.enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            runtime.block_on(async move {
                let listener = match socket.listen(BACKLOG) {
                    Ok(listener) => listener,
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                let reader = routes.reader();
                let _ = ready.send(Ok(()));
                worker::run(parts, asks, reader, stop, listener).await;
            });
        })?;
        is_ready.recv().map_err(|_| io::Error::other("a worker ended while it started"))??;
        self.counters.push(counters);
        self.own.push(own);
        self.running.push(ended);
        Ok(())
    }

    /// Where clients connect; the real port if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Client connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Lets the access log be opened anew by its path, for instance after it was moved away. Lines
    /// that wait are written to the old file or to the new one, and none is lost. Never waits.
    pub fn reopen_logs(&self) {
        if let Some(log) = self.log.upgrade() {
            log.reopen();
        }
    }

    /// What all workers have counted since the start.
    pub fn metrics(&self) -> Totals {
        self.totals_source()()
    }

    /// The same, for those who ask again and again.
    pub fn totals_source(&self) -> impl Fn() -> Totals + Send + Sync + 'static {
        let (counters, routes) = (self.counters.clone(), self.routes.clone());
        move || {
            let mut totals = Totals::default();
            counters.iter().for_each(|part| totals.add(part));
            routes.add_to(&mut totals);
            totals
        }
    }

    /// Requests of our own, which go through the same data plane as those of clients.
    pub fn own_requests(&self) -> OwnRequests {
        OwnRequests::new(self.own.clone())
    }

    /// Stops accepting, lets open requests end, and returns when the last has, or after `drain`.
    pub async fn shutdown(&mut self, drain: Duration) {
        let now = Instant::now();
        self.stop.send_replace(Some(now.checked_add(drain).unwrap_or(now)));
        for ended in self.running.drain(..) {
            let _ = ended.await;
        }
        // All workers have let go of it: what is left is written soon, if it can be written at all.
        if let Some(ended) = self.log_ended.take() {
            let _ = tokio::time::timeout(LOG_DEADLINE, ended).await;
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.send_replace(Some(Instant::now()));
    }
}

/// One socket per worker on the same address.
fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpSocket>> {
    let mut address = address;
    if address.port() != 0 {
        // With SO_REUSEPORT two processes of one user could share the port without noticing. A
        // socket without it cannot be bound beside one that listens.
        open(address)?.bind(address)?;
    }
    (0..count.max(1))
        .map(|_| {
            let socket = open(address)?;
            socket.set_reuseport(true)?;
            // Its connections inherit it. Without it small answers may wait for the client's delayed
            // acknowledgement.
            socket.set_nodelay(true)?;
            socket.bind(address)?;
            // Port 0 becomes the port that the first socket got.
            address = socket.local_addr()?;
            Ok(socket)
        })
        .collect()
}

fn open(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A port whose last connections still fade away is free.
    socket.set_reuseaddr(true)?;
    Ok(socket)
}
