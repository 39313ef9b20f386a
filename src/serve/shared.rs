//! A process that shares its fleet with others by a store: supervisor, balancer, or both.

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
    Counting, END_DEADLINE, FAILURES_MAX, Signals, admin_guard, announce, bind_admin, driver_of,
    later, mounted, settings_of, text_of, traffic_guard,
};
use crate::{
    api::{follow, relay::Relay, shared::Shared},
    config::{self, Config},
    control::{
        Clock, Handle,
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

/// How long a routing table is waited for before that is said.
const TABLE_SOON: Duration = Duration::from_secs(3);
/// How long saying goodbye to the others may take.
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
    let clock = Clock::start();
    let (role, timing) = (config.role, Timing::default());
    let warnings = match role.supervises() {
        true => config::resolve(&config).await?,
        false => Vec::new(),
    };
    // A balancer has no driver: what strangers reach holds no power over the machine.
    let store = open_store(&config, Arc::clone(&address), timing)?;
    let (supervision, docker) = supervision_of(&config, &store)?;
    let store: Arc<dyn Store> = Arc::new(store);
    let admin = bind_admin(&config).await?;
    if role.carries_traffic() {
        Workers::check_address(&config.proxy)?;
    }
    let admin_address = admin.local_addr()?;
    let token = text_of(config.access.admin_token.as_ref());
    let me = holder_of(&config, admin_address, token.as_deref());
    let relay = Relay::new(&config.fleet, token.as_deref())?;
    announce(&config, &warnings);
    tracing::info!("role {}, the store is {}", role.name(), address.describe());

    let empty = RoutingTable::empty(Arc::new(Ring::new(config.ring.clone(), Vec::new())?));
    let routes = role.carries_traffic().then(|| Routes::new(empty));
    let (failures, failure_receiver) = mpsc::channel(FAILURES_MAX);
    let traffic =
        routes.clone().map(|routes| (Arc::new(routes) as Arc<dyn Traffic>, failure_receiver));
    let wiring = Wiring { me, store, clock, timing, traffic, supervision };
    let roles = Arc::new(Roles::start(wiring));
    let counting = Arc::default();
    let shared = Shared { roles: Arc::clone(&roles), traffic: later(&counting), relay };
    let admin_router = follow::admin_router(&shared, admin_guard(&config, docker));
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
            // It is set here only.
            let _ = OnceLock::set(&counting, Counting::of(&running));
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

/// Who a process is for the others. Where a token is set, it is proven.
fn holder_of(config: &Config, admin: SocketAddr, token: Option<&str>) -> Holder {
    let advertised = config.advertise.clone().unwrap_or_else(|| called(admin));
    let me = Holder {
        id: ProcessId(format!("{advertised}/{:016x}", rand::rng().random::<u64>()).into()),
        admin: advertised.into(),
        authenticator: None,
    };
    let proof = token.map(|token| authenticator(&config.fleet, &me, token.as_bytes()).into());
    Holder { authenticator: proof, ..me }
}

/// What others know a process by. Only a balancer may listen on all addresses without a name.
fn called(admin: SocketAddr) -> String {
    if !admin.ip().is_unspecified() {
        return admin.to_string();
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => admin.to_string(),
        name => format!("{name}:{}", admin.port()),
    }
}

type Power = (Option<Supervision>, Option<Arc<DockerDriver>>);

fn supervision_of(config: &Config, store: &RedisStore) -> anyhow::Result<Power> {
    if !config.role.supervises() {
        return Ok((None, None));
    }
    let (driver, docker) = driver_of(config)?;
    let supervision = Supervision {
        // Each term draws a seed of its own.
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

/// A client is refused until there is something to route by: it tries again, while a 503 is an answer.
async fn first_table(roles: &Roles) {
    let mut in_force = roles.local().subscribe();
    let come = in_force.wait_for(|in_force| in_force.publication.is_some());
    tokio::pin!(come);
    if tokio::time::timeout(TABLE_SOON, &mut come).await.is_err() {
        let trouble = roles.store().trouble();
        let because = trouble.map(|why| format!(": the store does not answer: {why}"));
        tracing::warn!("no routing table has come yet{}; waiting", because.unwrap_or_default());
        // It fails only when the roles have ended.
        let _ = come.await;
    }
}

/// First another process may supervise, then traffic ends. The replicas stay.
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
        // If it is not heard, the silence is.
        drop(tokio::time::timeout(LEAVE_DEADLINE, roles.leave()).await);
    };
    tokio::select! {
        () = orderly => {}
        () = signals.stopped(|| ()) => {
            tracing::warn!("told to stop again: what is under way is left as it is");
        }
    }
}
