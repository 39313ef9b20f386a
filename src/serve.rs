//! `ringmaster serve`: wires the parts, waits for the end, and takes them down in order. No logic.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use futures_util::future::{BoxFuture, join_all};
use rand::TryRng;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    api,
    config::{Config, DriverKind},
    control::{
        self, Clock, Handle, Parts, Publisher,
        record::Record,
        store::{Loaded, Store},
    },
    driver::{
        Driver,
        docker::{DockerConfig, DockerDriver},
        fixed::FixedDriver,
        process::{ProcessConfig, ProcessDriver},
    },
    fleet::{
        desired::Desired,
        ids::InstanceId,
        message::{EngineError, StopManner},
        state::Keeper,
        supervisor::{Settings, Supervisor},
        table::RoutingTable,
    },
    proxy::{Routes, Workers},
    ring::hash,
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

/// Runs the balancer until SIGTERM or SIGINT.
///
/// # Errors
/// A port that is taken, a state directory that cannot be used, another balancer of the fleet.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let (driver, docker) = driver_of(&config)?;
    let (store, stored) = open_store(&config)?;
    let _lock = lock_fleet(&config, docker.as_deref()).await?;
    let admin = TcpListener::bind(config.admin)
        .await
        .with_context(|| format!("cannot listen on {} (`admin`)", config.admin))?;

    let clock = Clock::start();
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
    let scaling = api::scaling::router(handle.clone());
    let mut workers = Workers::start(config.proxy.clone(), routes, failures, scaling)?;
    let traffic_address = workers.local_addr();
    // Both ports are ours: only now may anything be started.
    let control = tokio::spawn(control);
    let totals = Arc::new(workers.totals_source());
    let router = admin_router(handle, totals, &config, docker);
    let admin_address = admin.local_addr()?;
    let admin_server = tokio::spawn(api::listener::serve(admin, router));
    for notice in &config.notices {
        tracing::info!("{notice}");
    }
    tracing::info!(traffic = %traffic_address, admin = %admin_address, "listening");

    stop.wait().await;
    tracing::info!("stopping: open requests may end within {:?}", config.limits.drain);
    workers.shutdown(config.limits.drain).await;
    admin_server.abort();
    control.abort();
    if config.stop_replicas_on_exit || config.driver == DriverKind::Process {
        stop_replicas(driver.as_ref()).await;
    }
    Ok(())
}

/// SIGTERM and SIGINT, listened to from the beginning.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

type Drivers = (Arc<dyn Driver>, Option<Arc<DockerDriver>>);

fn driver_of(config: &Config) -> anyhow::Result<Drivers> {
    Ok(match config.driver {
        DriverKind::Docker => {
            let docker = Arc::new(DockerDriver::new(DockerConfig {
                port: config.port,
                env: config.env.clone(),
                command: config.command.clone(),
                network: config.network.clone(),
                init: config.init,
                grace: config.limits.stop_grace,
                ..DockerConfig::new(&config.fleet, &config.image)
            }));
            (Arc::clone(&docker) as Arc<dyn Driver>, Some(docker))
        }
        DriverKind::Process => {
            let command = config.command.clone().map_or_else(bundled_server, Ok)?;
            let process = ProcessDriver::new(ProcessConfig {
                env: config.env.clone(),
                grace: config.limits.stop_grace,
                ..ProcessConfig::new(command)
            })?;
            (Arc::new(process), None)
        }
        DriverKind::Static => (Arc::new(FixedDriver::new(config.upstreams.clone())), None),
    })
}

/// The companion server beside our own program.
fn bundled_server() -> anyhow::Result<Vec<String>> {
    let own = std::env::current_exe().context("our own program cannot be found")?;
    let server: PathBuf = own.with_file_name("ringmaster-server");
    if !server.is_file() {
        bail!("`command`: there is no '{}'; name a program to run", server.display());
    }
    Ok(vec![server.to_string_lossy().into_owned()])
}

fn open_store(config: &Config) -> anyhow::Result<(Option<Store>, Option<Desired>)> {
    if config.driver == DriverKind::Static {
        return Ok((None, None));
    }
    let store = Store::open(&config.state_dir, &config.fleet)?;
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
    Ok((Some(store), stored))
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
        ring: config.ring.clone(),
        victim: config.victim,
        replicas: config.replicas,
        seed,
    }
}

fn admin_router(
    handle: Handle,
    totals: api::admin::TotalsSource,
    config: &Config,
    docker: Option<Arc<DockerDriver>>,
) -> axum::Router {
    let guard = api::admin::Guard {
        token: config.admin_token.as_ref().map(|token| token.0.as_str().into()),
        is_replica_address: Arc::new(move |peer: IpAddr| {
            let network = docker.as_ref().and_then(|docker| docker.fleet_network());
            network.is_some_and(|network| network.may_be_replica(peer))
        }),
    };
    api::admin::router(handle, totals, guard)
}

/// How often all of a fleet is stopped: a start that was under way shows in a later list only.
const STOP_ROUNDS: usize = 3;

/// Stops everything of the fleet, whatever its state.
async fn stop_replicas(driver: &dyn Driver) {
    let stopping = async {
        for _ in 0..STOP_ROUNDS {
            let found = driver.list().await?.found;
            if found.is_empty() {
                break;
            }
            let stops =
                found.into_iter().map(|found| driver.stop(found.handle, StopManner::Graceful));
            join_all(stops).await.into_iter().collect::<Result<(), _>>()?;
        }
        Ok::<(), EngineError>(())
    };
    match tokio::time::timeout(Duration::from_secs(60), stopping).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "not all replicas could be stopped"),
        Err(_) => tracing::warn!("not all replicas could be stopped within a minute"),
    }
}
