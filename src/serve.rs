//! `ringmaster serve`: wires the parts, waits for the end, and takes them down in order. No logic.

use std::{
    io,
    net::IpAddr,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, bail};
use futures_util::future::BoxFuture;
use rand::TryRng;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::{
    api::{
        self,
        guard::HostNames,
        traffic::{KeyedGet, TotalsSource, Traffic},
    },
    config::{self, Config, DriverKind, MountGroup, Secret},
    control::{self, Clock, Handle, Parts, Publisher, record::Record},
    driver::{
        Driver,
        docker::{DockerConfig, DockerDriver},
        none::NoDriver,
        process::{ProcessConfig, ProcessDriver},
    },
    fleet::{
        desired::Desired,
        ids::InstanceId,
        message::FailureKind,
        state::{Finish, Keeper},
        supervisor::{Settings, Supervisor},
        table::RoutingTable,
    },
    logging::Log,
    proxy::{OwnError, OwnRequests, Routes, Totals, Workers},
    ring::hash,
    store::{FileStore, Loaded},
};

/// Failure reports of the data plane that may wait; more are dropped and counted.
const FAILURES_MAX: usize = 1_024;

impl Publisher for Routes {
    fn publish(&self, table: RoutingTable) {
        Routes::publish(self, table);
    }

    fn in_flight(&self, instance: InstanceId) -> u64 {
        Routes::in_flight(self, instance)
    }

    fn drained(&self, instance: InstanceId) -> BoxFuture<'static, ()> {
        let routes = self.clone();
        Box::pin(async move { routes.drained(instance).await })
    }
}

/// How long the traffic port may wait for an adopted replica to pass, from the first list on.
const ADOPTION_DEADLINE: Duration = Duration::from_secs(2);

/// Runs the balancer until SIGTERM or SIGINT.
///
/// # Errors
/// A port that is taken, a state directory that cannot be used, another balancer of the fleet.
pub async fn serve(config: Config, log: &Log) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let clock = Clock::start();
    let warnings = config::resolve(&config).await?;
    let (driver, docker) = driver_of(&config)?;
    let (store, stored) = open_store(&config)?;
    let _lock = lock_fleet(&config, docker.as_deref()).await?;
    let admin = TcpListener::bind(config.admin)
        .await
        .with_context(|| format!("cannot listen on {} (`admin`)", config.admin))?;
    Workers::check_address(&config.proxy)?;
    // What is refused is said in one line, and nothing before it.
    announce(&config, &warnings);

    let seed = rand::rngs::SysRng.try_next_u64().context("the system gives no random numbers")?;
    let supervisor = Supervisor::new(settings_of(&config, seed), stored, clock.now())
        .context("the replicas of the stored state do not fit the configured ring")?;
    let routes = Routes::new(supervisor.table());
    let (failures, failure_receiver) = mpsc::channel(FAILURES_MAX);
    let (handle, control) = control::prepare(Parts {
        supervisor,
        clock,
        driver: Arc::clone(&driver),
        store,
        prober: config.prober.clone(),
        publisher: Arc::new(routes.clone()),
        record: Arc::new(Record::default()),
        failures: failure_receiver,
    });
    // Both ports can be ours: only now may anything be started.
    let control = tokio::spawn(control);
    let listens_by = tokio::time::Instant::now() + ADOPTION_DEADLINE;
    let counting = Arc::<OnceLock<Counting>>::default();
    let router = admin_router(handle.clone(), later(&counting), &config, docker);
    let admin_address = admin.local_addr()?;
    let admin_server = tokio::spawn(api::listener::serve(admin, router));

    let may_listen = tokio::time::timeout_at(listens_by, handle.until(|view| view.may_listen));
    let mut workers = None;
    let started = tokio::select! {
        // Past the deadline it listens all the same.
        _ = may_listen => Some(start_workers(&config, &handle, routes, failures)),
        () = signals.stopped(|| log.reopen()) => None,
    };
    let result = match started.transpose() {
        Ok(None) => Ok(()),
        Ok(Some(running)) => {
            // It is set here only.
            let _ = counting.set(Counting::of(&running));
            let traffic = running.local_addr();
            tracing::info!(%traffic, admin = %admin_address, "listening");
            let reopen = || {
                log.reopen();
                running.reopen_logs();
            };
            signals.stopped(reopen).await;
            workers = Some(running);
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    let is_empty = end(&config, &handle, workers, &mut signals).await;
    admin_server.abort();
    // Its lists would make again what is tidied up.
    control.abort();
    if is_empty {
        tidy_up(driver.as_ref()).await;
    }
    result
}

/// Says what may surprise, and what of the configuration does not work now.
fn announce(config: &Config, warnings: &[String]) {
    for notice in &config.notices {
        tracing::info!("{notice}");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Listens for traffic and serves it.
fn start_workers(
    config: &Config,
    handle: &Handle,
    routes: Routes,
    failures: mpsc::Sender<(InstanceId, FailureKind)>,
) -> io::Result<Workers> {
    Workers::start(config.proxy.clone(), routes, failures, traffic_router(handle, config))
}

/// What the APIs have of workers that run.
struct Counting {
    totals: TotalsSource,
    own: OwnRequests,
}

impl Counting {
    fn of(workers: &Workers) -> Self {
        Self { totals: Arc::new(workers.totals_source()), own: workers.own_requests() }
    }
}

/// The same from now on, for the time when they run.
fn later(running: &Arc<OnceLock<Counting>>) -> Traffic {
    let (counted, way) = (Arc::clone(running), Arc::clone(running));
    let totals = move || counted.get().map_or_else(Totals::default, |running| (running.totals)());
    let route = move |get: KeyedGet| -> BoxFuture<'static, _> {
        let own = way.get().map(|running| running.own.clone());
        Box::pin(async move {
            let own = own.ok_or(OwnError::Stopped)?;
            own.get(&get.key, &get.target, get.headers, get.peer).await
        })
    };
    Traffic::new(Arc::new(totals), Arc::new(route))
}

/// How long the core may take to end what it has begun, without and with replicas to stop.
const END_DEADLINE: Duration = Duration::from_secs(5);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// How long tidying up may take.
const TIDY_DEADLINE: Duration = Duration::from_secs(10);

/// First no command begins any more, then traffic ends, then the replicas, where they are to.
/// Returns whether nothing of the fleet is left that we keep.
async fn end(
    config: &Config,
    handle: &Handle,
    workers: Option<Workers>,
    signals: &mut Signals,
) -> bool {
    let drain = config.limits.drain;
    tracing::info!("stopping: open requests may end within {drain:?}");
    handle.shut_down(false).await;
    let again = || tracing::warn!("told to stop again: what is under way is left as it is");
    if let Some(mut workers) = workers {
        tokio::select! {
            () = workers.shutdown(drain) => {}
            () = signals.stopped(|| ()) => {
                again();
                return false;
            }
        }
    }
    let stops_replicas = config.stop_replicas_on_exit || config.driver == DriverKind::Process;
    if stops_replicas {
        handle.shut_down(true).await;
    }
    let deadline = if stops_replicas { STOP_DEADLINE } else { END_DEADLINE };
    let ended = tokio::select! {
        ended = tokio::time::timeout(deadline, handle.until(|view| view.finish.is_some())) => ended,
        () = signals.stopped(|| ()) => {
            again();
            return false;
        }
    };
    match ended.map(|view| view.finish) {
        Ok(Some(Finish::Done)) => return stops_replicas,
        Ok(None) => {}
        Ok(Some(Finish::EngineAway)) => {
            tracing::warn!("not all replicas could be stopped: the engine does not answer");
        }
        Err(_) => tracing::warn!("what was under way has not ended within {deadline:?}"),
    }
    false
}

async fn tidy_up(driver: &dyn Driver) {
    match tokio::time::timeout(TIDY_DEADLINE, driver.tidy_up()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the fleet's network could not be removed"),
        Err(_) => tracing::warn!("the fleet's network could not be removed in time"),
    }
}

/// The signals that mean something, listened to from the beginning.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: [Signal; 2],
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    /// Waits for SIGTERM or SIGINT, and obeys the others meanwhile.
    async fn stopped(&mut self, reopen_logs: impl Fn()) {
        let [first, second] = &mut self.user;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    reopen_logs();
                    tracing::info!("SIGHUP: the log files are opened anew");
                }
                _ = first.recv() => tracing::info!("SIGUSR1: nothing is done"),
                _ = second.recv() => tracing::info!("SIGUSR2: nothing is done"),
            }
        }
    }
}

type Drivers = (Arc<dyn Driver>, Option<Arc<DockerDriver>>);

fn driver_of(config: &Config) -> anyhow::Result<Drivers> {
    Ok(match config.driver {
        DriverKind::Docker => {
            let docker = Arc::new(DockerDriver::new(DockerConfig {
                port: config.port,
                env: env_of(config),
                command: config.command.clone(),
                network: config.network.clone(),
                init: config.init,
                grace: config.limits.stop_grace,
                ..DockerConfig::new(&config.fleet, &config.image)
            }));
            (Arc::clone(&docker) as Arc<dyn Driver>, Some(docker))
        }
        DriverKind::Process => {
            let command = config::program(config)?;
            let process = ProcessDriver::new(ProcessConfig {
                env: env_of(config),
                grace: config.limits.stop_grace,
                ..ProcessConfig::new(command)
            })?;
            (Arc::new(process), None)
        }
        DriverKind::Static => (Arc::new(NoDriver), None),
    })
}

/// The environment of the replicas, with its values.
fn env_of(config: &Config) -> Vec<(String, String)> {
    config.env.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

fn open_store(config: &Config) -> anyhow::Result<(FileStore, Option<Desired>)> {
    let store = FileStore::open(&config.state_dir, &config.fleet)?;
    let stored = match store.load()? {
        Loaded::Nothing => None,
        Loaded::State(desired) => Some(*desired),
        Loaded::SetAside { path, why } => {
            let path = path.display();
            tracing::warn!(
                "the state file is corrupt ({why}): kept as '{path}', going on from labels"
            );
            None
        }
    };
    Ok((store, stored))
}

/// Refuses a second supervisor of the same fleet, as far as one can be seen from here: by state
/// directory (already locked), by an abstract socket of this network namespace, and by labels of
/// balancers in containers. The kernel releases the socket when the process ends.
async fn lock_fleet(
    config: &Config,
    docker: Option<&DockerDriver>,
) -> anyhow::Result<Option<std::os::unix::net::UnixListener>> {
    use std::os::{linux::net::SocketAddrExt, unix::net};
    let Some(docker) = docker else { return Ok(None) };
    // The hash, because the system limits such a name to 107 bytes.
    let engine = hash::xxh3(engine_name(&crate::driver::docker::default_host()).as_bytes());
    let name = format!("ringmaster/{engine:016x}/{}", config.fleet);
    let address = net::SocketAddr::from_abstract_name(name)?;
    let lock = match net::UnixListener::bind_addr(&address) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            bail!("another balancer already supervises the fleet '{}'", config.fleet)
        }
        Err(error) => return Err(error.into()),
    };
    match docker.other_balancers().await {
        Ok(others) if others.is_empty() => {}
        Ok(others) => bail!(
            "another balancer already supervises the fleet '{}': container '{}'",
            config.fleet,
            others.join("', '")
        ),
        Err(error) => tracing::warn!("{error}; waiting for it"),
    }
    Ok(Some(lock))
}

/// One name for one engine, by whichever path its socket is reached. The socket itself may be
/// missing while the engine is away, its directory hardly.
fn engine_name(host: &str) -> String {
    let path = host.strip_prefix("unix://").map(Path::new);
    let real = path.and_then(|path| {
        let directory = path.parent()?.canonicalize().ok()?;
        Some(directory.join(path.file_name()?).display().to_string())
    });
    real.unwrap_or_else(|| host.to_owned())
}

fn settings_of(config: &Config, seed: u64) -> Settings {
    Settings {
        limits: config.limits.clone(),
        keeper: match config.driver {
            DriverKind::Static => Keeper::Others,
            DriverKind::Docker | DriverKind::Process => Keeper::Ringmaster,
        },
        servers: config.upstreams.clone(),
        ring: config.ring.clone(),
        victim: config.victim,
        replicas: config.replicas,
        seed,
    }
}

fn admin_router(
    handle: Handle,
    traffic: Traffic,
    config: &Config,
    docker: Option<Arc<DockerDriver>>,
) -> axum::Router {
    let access = &config.access;
    let guard = api::guard::AdminGuard {
        token: text_of(access.admin_token.as_ref()),
        metrics_token: text_of(access.metrics_token.as_ref()),
        names: HostNames::new(access.admin_hosts.clone()),
        may_be_replica: Arc::new(move |peer: IpAddr| match &docker {
            Some(docker) => Some(docker.fleet_network()?.may_be_replica(peer)),
            None => Some(false),
        }),
    };
    api::admin::router(handle, traffic, guard)
}

/// What of the APIs is served on the traffic port.
fn traffic_router(handle: &Handle, config: &Config) -> axum::Router {
    let access = &config.access;
    let guard = api::guard::TrafficGuard {
        token: text_of(access.admin_token.as_ref()),
        public_rep: access.public_rep,
        names: HostNames::new(access.control_hosts.clone()),
    };
    // A path that no router of these has is not found; the others never come here.
    let router = config.mounts.iter().fold(axum::Router::new(), |router, group| match group {
        MountGroup::Scaling => router.merge(api::scaling::router(handle.clone())),
        MountGroup::Servers | MountGroup::Nodes => router,
    });
    api::guard::traffic(router, guard)
}

fn text_of(secret: Option<&Secret>) -> Option<Arc<str>> {
    secret.map(|secret| secret.0.as_str().into())
}
