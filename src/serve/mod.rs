//! `ringmaster serve`: wires the parts, waits for a signal, and ends them in order. No logic.

mod lock;
mod shared;
mod signals;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use futures_util::future::BoxFuture;
use rand::TryRng;
use ringmaster_core::fleet::{
    desired::Desired,
    ids::InstanceId,
    state::{Finish, Keeper},
    supervisor::{Settings, Supervisor},
    table::RoutingTable,
};
use ringmaster_proxy::{OwnError, OwnRequests, Routes, Totals, Workers};
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    api::{
        self,
        guard::{AdminGuard, HostNames, TrafficGuard},
        traffic::{KeyedGet, TotalsSource, Traffic},
    },
    config::{self, Config, DriverKind, MountGroup, Secret, StoreKind},
    control::{
        self, ControlParts, CoreClock, Handle, Publisher, leash::Leash, own::OwnPorts,
        record::Record,
    },
    driver::{
        Driver,
        docker::{DockerConfig, DockerDriver},
        none::NoDriver,
        process::{ProcessConfig, ProcessDriver},
    },
    logging::Log,
    store::{FileStore, Loaded},
};
use lock::lock_fleet;
use signals::Signals;

/// Reports of failed requests that may wait for the core; more are dropped and counted.
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
    match config.store.clone() {
        StoreKind::File => alone(config, log).await,
        StoreKind::Redis(address) => shared::serve(config, address, log).await,
    }
}

/// A process that is supervisor and balancer of a fleet of its own.
async fn alone(config: Config, log: &Log) -> anyhow::Result<()> {
    let (mut signals, clock) = (Signals::listen()?, CoreClock::start());
    let warnings = config::resolve(&config).await?;
    let (driver, docker) = driver_of(&config)?;
    let (store, stored) = open_store(&config)?;
    let _lock = lock_fleet(&config, docker.as_deref()).await?;
    let (admin, admin_address) = bind_admin(&config).await?;
    Workers::check_address(&config.proxy)?;
    // After all checks, so that a refused start logs its error and nothing else.
    announce(&config, &warnings);

    let seed = rand::rngs::SysRng.try_next_u64().context("the system gives no random numbers")?;
    let supervisor = Supervisor::new(settings_of(&config, seed), stored, clock.now())
        .context("the replicas of the stored state do not fit the configured ring")?;
    let routes = Routes::new(supervisor.table());
    let (failures, failure_receiver) = mpsc::channel(FAILURES_MAX);
    let (handle, control) = control::prepare(ControlParts {
        supervisor,
        clock,
        driver: Arc::clone(&driver),
        store: Arc::new(store),
        leash: Leash::unlimited(),
        prober: config.prober.clone(),
        publisher: Arc::new(routes.clone()),
        record: Arc::new(Record::default()),
        failures: failure_receiver,
        own: OwnPorts::new(Some(config.proxy.listen), admin_address),
    });
    // Both ports are free: only now may instances be started.
    let control = tokio::spawn(control);
    let listens_by = tokio::time::Instant::now() + ADOPTION_DEADLINE;
    let access = Arc::<OnceLock<WorkerAccess>>::default();
    let traffic = traffic_of(&access);
    let mounted = traffic_router(&handle, &traffic, &config);
    let router = api::admin::router(handle.clone(), traffic, admin_guard(&config, docker, None));
    let admin_server = tokio::spawn(api::listener::serve(admin, router));

    let may_listen = tokio::time::timeout_at(listens_by, handle.until(|view| view.may_listen));
    let mut workers = None;
    let started = tokio::select! {
        // After the deadline the port is opened in any case.
        _ = may_listen => Some(Workers::start(config.proxy.clone(), routes, failures, mounted)),
        () = signals.stopped(|| log.reopen()) => None,
    };
    let result = match started.transpose() {
        Ok(None) => Ok(()),
        Ok(Some(running)) => {
            // Never fails: it is set only here.
            let _ = access.set(WorkerAccess::of(&running));
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
    // A list of the control task would make the network again that is removed next.
    control.abort();
    if is_empty {
        tidy_up(driver.as_ref()).await;
    }
    result
}

async fn bind_admin(config: &Config) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let bound = TcpListener::bind(config.admin).await;
    let bound = bound.and_then(|bound| bound.local_addr().map(|address| (bound, address)));
    bound.with_context(|| format!("cannot listen on {} (`admin`)", config.admin))
}

/// Logs what may surprise, and what of the configuration does not work at the moment.
fn announce(config: &Config, warnings: &[String]) {
    for notice in &config.notices {
        tracing::info!("{notice}");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// What the APIs need of the running workers.
struct WorkerAccess {
    totals: TotalsSource,
    own: OwnRequests,
}

impl WorkerAccess {
    fn of(workers: &Workers) -> Self {
        Self { totals: Arc::new(workers.totals_source()), own: workers.own_requests() }
    }
}

/// Access to the workers that can be passed on before they run.
fn traffic_of(running: &Arc<OnceLock<WorkerAccess>>) -> Traffic {
    let (for_totals, for_requests) = (Arc::clone(running), Arc::clone(running));
    let totals =
        move || for_totals.get().map_or_else(Totals::default, |running| (running.totals)());
    let route = move |get: KeyedGet| -> BoxFuture<'static, _> {
        let own = for_requests.get().map(|running| running.own.clone());
        Box::pin(async move {
            let own = own.ok_or(OwnError::Stopped)?;
            own.get(&get.key, &get.target, get.headers, get.peer).await
        })
    };
    Traffic::new(Arc::new(totals), Arc::new(route))
}

/// How long the core may take to finish its operations, without and with replicas to stop.
const END_DEADLINE: Duration = Duration::from_secs(5);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// How long the removal of the fleet's network may take.
const TIDY_DEADLINE: Duration = Duration::from_secs(10);

/// Ends the commands first, then traffic, then the replicas if they are to be stopped. Returns whether
/// all replicas have been stopped.
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
        ended = tokio::time::timeout(deadline, handle.until(|view| view.finish().is_some())) => ended,
        () = signals.stopped(|| ()) => {
            again();
            return false;
        }
    };
    match ended.map(|view| view.finish()) {
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

/// The environment of the replicas, with the values of secrets.
fn env_of(config: &Config) -> Vec<(String, String)> {
    config.env.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

fn open_store(config: &Config) -> anyhow::Result<(FileStore, Option<Desired>)> {
    let store = FileStore::open(&config.state_dir, &config.fleet)?;
    let stored = match store.load()? {
        Loaded::Nothing => None,
        Loaded::State(desired) => Some(*desired),
        Loaded::SetAside { place, why } => {
            tracing::warn!(
                "the state file is corrupt ({why}): kept as {place}, going on from labels"
            );
            None
        }
    };
    let started = stored.iter().flat_map(|stored: &Desired| stored.replicas());
    let mut started = started.filter(|replica| replica.server.is_none());
    if config.driver == DriverKind::Static
        && let Some(replica) = started.next()
    {
        anyhow::bail!(
            "`state_dir`: the state in '{}' holds replicas that another driver starts (like '{}'), and the driver `static` starts none; name another directory, or remove them with that driver",
            config.state_dir.display(),
            replica.name
        );
    }
    drop(started);
    Ok((store, stored))
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

/// `called`: the HOST:PORT that other processes of the fleet reach it by; else what is advertised.
fn admin_guard(
    config: &Config,
    docker: Option<Arc<DockerDriver>>,
    called: Option<&str>,
) -> AdminGuard {
    let access = &config.access;
    let advertised = called.or(config.advertise.as_deref());
    let advertised = advertised.and_then(|place| Some(place.rsplit_once(':')?.0));
    // An address needs no name.
    let advertised = advertised.filter(|host| api::guard::is_host_name(host)).map(str::to_owned);
    let names: Vec<String> = access.admin_hosts.iter().cloned().chain(advertised).collect();
    AdminGuard {
        token: text_of(access.admin_token.as_ref()),
        metrics_token: text_of(access.metrics_token.as_ref()),
        names: HostNames::new(names),
        may_be_replica: Arc::new(move |peer: IpAddr| match &docker {
            Some(docker) => Some(docker.fleet_network()?.may_be_replica(peer)),
            None => Some(false),
        }),
    }
}

fn traffic_guard(config: &Config) -> TrafficGuard {
    let access = &config.access;
    TrafficGuard {
        token: text_of(access.admin_token.as_ref()),
        public_rep: access.public_rep,
        names: HostNames::new(access.control_hosts.clone()),
    }
}

/// The APIs that are also served on the traffic port.
fn mounted(handle: &Handle, traffic: &Traffic, groups: &BTreeSet<MountGroup>) -> axum::Router {
    // A path of a mounted API that it does not know is 404; other paths are never routed here.
    groups.iter().fold(axum::Router::new(), |router, group| match group {
        MountGroup::Scaling => router.merge(api::scaling::router(handle.clone())),
        MountGroup::Servers => router.merge(api::servers::router(handle.clone(), traffic.clone())),
        MountGroup::Nodes => router.merge(api::nodes::router(handle.clone())),
    })
}

fn traffic_router(handle: &Handle, traffic: &Traffic, config: &Config) -> axum::Router {
    api::guard::traffic(mounted(handle, traffic, &config.mounts), traffic_guard(config))
}

fn text_of(secret: Option<&Secret>) -> Option<Arc<str>> {
    secret.map(|secret| secret.0.as_str().into())
}
