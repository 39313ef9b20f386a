//! A process that shares its fleet with others through a store: supervisor, balancer, or both.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rand::RngExt;
use ringmaster_core::{
    fleet::{ids::InstanceId, table::RoutingTable},
    ring::Ring,
    roles::{
        ids::{Holder, ProcessId},
        lease::Timing,
    },
};
use ringmaster_proxy::{Routes, Workers};
use tokio::sync::mpsc;

use super::{
    END_DEADLINE, FAILURES_MAX, Signals, WorkerAccess, admin_guard, announce, bind_admin,
    driver_of, mounted, settings_of, text_of, traffic_guard, traffic_of,
};
use crate::{
    api::{follow, others::Others, peers::Peers, relay::Relay, shared::Shared, traffic},
    config::{self, Config},
    control::{
        CoreClock, Handle,
        own::OwnPorts,
        record::Record,
        roles::{Mode, Roles, Supervision, Traffic, Wiring},
    },
    driver::docker::DockerDriver,
    logging::Log,
    store::{
        FileStore, Store,
        authenticator::authenticator,
        redis::{Address, RedisStore, Times},
    },
};

/// How long a balancer waits for its first routing table before it logs that.
const TABLE_SOON: Duration = Duration::from_secs(3);
/// How long releasing the lease, and leaving the list of processes, may take.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);

impl Traffic for Routes {
    fn number(&self) -> u64 {
        Routes::number(self)
    }

    fn acknowledged(&self) -> u64 {
        Routes::acknowledged(self)
    }

    fn open_requests(&self) -> BTreeMap<InstanceId, u64> {
        Routes::open_requests(self)
    }
}

/// Runs the process until SIGTERM or SIGINT.
pub(super) async fn serve(config: Config, address: Arc<Address>, log: &Log) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let clock = CoreClock::start();
    let (role, timing) = (config.role, Timing::default());
    let warnings = match role.supervises() {
        true => config::resolve(&config).await?,
        false => Vec::new(),
    };
    // A balancer has no driver: a process that clients reach must have no power over the machine.
    let store = open_store(&config, Arc::clone(&address), timing)?;
    let (admin, admin_address) = bind_admin(&config).await?;
    let (supervision, docker) = supervision_of(&config, &store)?;
    let store: Arc<dyn Store> = Arc::new(store);
    if role.carries_traffic() {
        Workers::check_address(&config.proxy)?;
    }
    let token = text_of(config.access.admin_token.as_ref());
    let me = holder_of(&config, admin_address, token.as_deref());
    let peers = Peers::new(&config.fleet, token.as_deref())?;
    let guard = admin_guard(&config, docker, Some(&me.admin));
    announce(&config, &warnings);
    tracing::info!("role {}, the store is {}", role.name(), address.describe());

    let empty = RoutingTable::empty(Arc::new(Ring::new(config.ring.clone(), Vec::new())?));
    let routes = role.carries_traffic().then(|| Routes::new(empty));
    let (failures, failure_receiver) = mpsc::channel(FAILURES_MAX);
    let traffic =
        routes.clone().map(|routes| (Arc::new(routes) as Arc<dyn Traffic>, failure_receiver));
    let own = OwnPorts::new(role.carries_traffic().then_some(config.proxy.listen), admin_address);
    let wiring = Wiring { me, store, clock, timing, traffic, supervision, own };
    let roles = Arc::new(Roles::start(wiring));
    let access = Arc::default();
    let shared = shared_of(&roles, traffic_of(&access), peers);
    let admin_router = follow::admin_router(&shared, guard);
    let admin_server = tokio::spawn(crate::api::listener::serve(admin, admin_router));

    let mut workers = None;
    if let Some(routes) = routes {
        let started = tokio::select! {
            () = first_table(&roles) => true,
            () = signals.stopped(|| log.reopen()) => false,
        };
        if started {
            let groups = config.mounts.clone();
            let counted = shared.traffic.clone();
            let leading = move |handle: &Handle| mounted(handle, &counted, &groups);
            let control = follow::traffic_router(&shared, leading, traffic_guard(&config));
            let running = Workers::start(config.proxy.clone(), routes, failures, control)?;
            // Never fails: it is set only here.
            let _ = OnceLock::set(&access, WorkerAccess::of(&running));
            tracing::info!(traffic = %running.local_addr(), admin = %admin_address, "listening");
            workers = Some(running);
        }
    } else {
        tracing::info!(admin = %admin_address, "listening");
    }
    if workers.is_some() || !role.carries_traffic() {
        let reopen = || {
            log.reopen();
            if let Some(running) = &workers {
                running.reopen_logs();
            }
        };
        signals.stopped(reopen).await;
    }
    end(&config, &roles, workers, &mut signals).await;
    admin_server.abort();
    Ok(())
}

fn shared_of(roles: &Arc<Roles>, traffic: traffic::Traffic, peers: Peers) -> Shared {
    let others = Others::new(Arc::clone(roles), peers.clone());
    Shared { roles: Arc::clone(roles), traffic: traffic.beside(others), relay: Relay::new(peers) }
}

/// Who a process is for the others. Where a token is set, it is proven.
fn holder_of(config: &Config, admin: SocketAddr, token: Option<&str>) -> Holder {
    let advertised = config.advertise.clone().unwrap_or_else(|| default_advertised(admin));
    let me = Holder {
        id: ProcessId(format!("{advertised}/{:016x}", rand::rng().random::<u64>()).into()),
        admin: advertised.into(),
        authenticator: None,
    };
    let proof = token.map(|token| authenticator(&config.fleet, &me, token.as_bytes()).into());
    Holder { authenticator: proof, ..me }
}

/// The address under which others reach this process. For one that listens on all addresses it is the
/// host name; the configuration allows that without `advertise` only for a balancer.
fn default_advertised(admin: SocketAddr) -> String {
    if !admin.ip().is_unspecified() {
        return admin.to_string();
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => admin.to_string(),
        name => format!("{name}:{}", admin.port()),
    }
}

type SupervisionParts = (Option<Supervision>, Option<Arc<DockerDriver>>);

fn supervision_of(config: &Config, store: &RedisStore) -> anyhow::Result<SupervisionParts> {
    if !config.role.supervises() {
        return Ok((None, None));
    }
    let (driver, docker) = driver_of(config)?;
    let supervision = Supervision {
        // Replaced: each term draws a seed of its own.
        settings: settings_of(config, 0),
        driver,
        prober: config.prober.clone(),
        record: Arc::new(Record::default()),
        backends: config.backends.then(|| store.clone()),
    };
    Ok((Some(supervision), docker))
}

fn open_store(
    config: &Config,
    address: Arc<Address>,
    timing: Timing,
) -> anyhow::Result<RedisStore> {
    let copy = match config.role.supervises() {
        true => Some(FileStore::open(&config.state_dir, &config.fleet)?),
        false => None,
    };
    let kept = config.state_dir.join(format!("table-{}.json", config.fleet));
    let kept = config.role.carries_traffic().then_some(kept);
    let times = Times { timeout: config.store_timeout, ttl: timing.ttl };
    Ok(RedisStore::new(address, times, &config.fleet, copy, kept))
}

/// The traffic port is closed until there is a table: a client retries a refused connection, but would
/// take a 503 as the response.
async fn first_table(roles: &Roles) {
    let mut in_force = roles.local().subscribe();
    let come = in_force.wait_for(|in_force| in_force.publication.is_some());
    tokio::pin!(come);
    if tokio::time::timeout(TABLE_SOON, &mut come).await.is_err() {
        let trouble = roles.store().trouble();
        let because = trouble.map(|why| format!(": the store does not answer: {why}"));
        tracing::warn!("no routing table has come yet{}; waiting", because.unwrap_or_default());
        // An error means that the roles have ended.
        let _ = come.await;
    }
}

/// Releases the lease first, so that another process can supervise, then ends traffic. The replicas
/// keep running.
async fn end(config: &Config, roles: &Roles, workers: Option<Workers>, signals: &mut Signals) {
    let drain = config.limits.drain;
    tracing::info!("stopping: open requests may end within {drain:?}");
    let orderly = async {
        let leading = match &*roles.mode().borrow() {
            Mode::Leading(term) => Some(term.handle.clone()),
            Mode::Following => None,
        };
        if let Some(handle) = leading {
            handle.shut_down(false).await;
            let done = handle.until(|view| view.finish().is_some());
            if tokio::time::timeout(END_DEADLINE, done).await.is_err() {
                tracing::warn!("what was under way has not ended within {END_DEADLINE:?}");
            }
        }
        let released = tokio::time::timeout(LEAVE_DEADLINE, roles.release());
        if released.await.is_err() {
            tracing::warn!("the lease could not be given back: it ends by itself");
        }
        if let Some(mut workers) = workers {
            workers.shutdown(drain).await;
        }
        // If this fails, the others notice when the entry expires.
        drop(tokio::time::timeout(LEAVE_DEADLINE, roles.leave()).await);
    };
    tokio::select! {
        () = orderly => {}
        () = signals.stopped(|| ()) => {
            tracing::warn!("told to stop again: what is under way is left as it is");
        }
    }
}
