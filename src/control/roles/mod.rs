//! A process that shares its fleet with others: whether it supervises or follows, and what it routes
//! by. All of them meet in the store; see [`ringmaster_core::roles`] for what is decided, which is pure.

mod backends;
mod following;
mod holding;
mod leading;
mod local;
mod publishing;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use ringmaster_core::{
    fleet::{ids::InstanceId, message::FailureKind, supervisor::Settings},
    roles::{
        ids::{Fence, Holder},
        lease::{Lease, Timing},
    },
};
use tokio::sync::{mpsc, oneshot, watch};

use self::{
    following::Reporter,
    holding::{Holding, Input},
    leading::Leading,
};
pub use self::{
    leading::{BalancerView, Mode, Term},
    local::{InForce, Local, Traffic},
};
use super::{AbortOnDrop, CoreClock, own::OwnPorts, prober::Prober, record::Record};
use crate::{
    driver::Driver,
    store::{Store, redis::RedisStore},
};

/// Inputs that may wait for the lease's task.
const INPUTS_MAX: usize = 64;
/// Failed requests that may wait to be reported; more are dropped.
const FAILURES_MAX: usize = 1_024;

/// What a process that may supervise is wired to, beside the rest.
pub struct Supervision {
    /// What each term's supervisor is made from.
    pub settings: Settings,
    /// How instances are run.
    pub driver: Arc<dyn Driver>,
    /// Sends heartbeats.
    pub prober: Prober,
    /// Where transitions go.
    pub record: Arc<Record>,
    /// The store, where backends that others list in it are registered servers.
    pub backends: Option<RedisStore>,
}

/// Requests that the data plane could not get answered.
pub type Failures = mpsc::Receiver<(InstanceId, FailureKind)>;

/// What a process is wired to.
pub struct Wiring {
    /// Who this process is.
    pub me: Holder,
    /// Where all of them meet.
    pub store: Arc<dyn Store>,
    /// The clock's zero, the same for all.
    pub clock: CoreClock,
    /// Intervals of the lease.
    pub timing: Timing,
    /// The data plane, if there is one, and what it reports.
    pub traffic: Option<(Arc<dyn Traffic>, Failures)>,
    /// `None`: it never supervises.
    pub supervision: Option<Supervision>,
    /// Where no server may be.
    pub own: OwnPorts,
}

/// A process's part in its fleet. It ends when this is dropped.
pub struct Roles {
    me: Holder,
    store: Arc<dyn Store>,
    local: Arc<Local>,
    mode: watch::Receiver<Mode>,
    inputs: Option<mpsc::Sender<Input>>,
    /// Says how this balancer is, where there is a data plane.
    reporter: Mutex<Option<AbortOnDrop>>,
    _tasks: Vec<AbortOnDrop>,
}

impl Roles {
    /// Begins to follow, and to ask for the lease.
    pub fn start(wiring: Wiring) -> Self {
        let Wiring { me, store, clock, timing, traffic, supervision, own } = wiring;
        let (traffic, reports) = traffic.unzip();
        let local = Arc::new(Local::new(traffic.clone(), own.clone()));
        let (mode, mode_receiver) = watch::channel(Mode::Following);
        let leads_to = Arc::new(ArcSwapOption::empty());
        let mut tasks = Vec::new();
        let mut spawn = |task: tokio::task::JoinHandle<()>| tasks.push(AbortOnDrop(task));
        let standby = supervision.map(|supervision| {
            let lease = Lease::new(me.clone(), Fence::default(), timing, clock.now());
            let lease = Arc::new(Mutex::new(lease));
            let (inputs, input_receiver) = mpsc::channel(INPUTS_MAX);
            let (term, term_receiver) = watch::channel(None);
            let holding = Holding {
                store: Arc::clone(&store),
                me: me.clone(),
                timing,
                clock,
                lease: Arc::clone(&lease),
                term,
                inputs: input_receiver,
            };
            let leading = Leading {
                store: Arc::clone(&store),
                lease,
                clock,
                local: Arc::clone(&local),
                settings: supervision.settings,
                driver: supervision.driver,
                prober: supervision.prober,
                record: supervision.record,
                backends: supervision.backends,
                own,
                failures: Arc::clone(&leads_to),
                mode,
                inputs: inputs.clone(),
            };
            spawn(tokio::spawn(holding.run()));
            spawn(tokio::spawn(leading.run(term_receiver)));
            inputs
        });
        let followed = following::follow(Arc::clone(&store), Arc::clone(&local), standby.clone());
        spawn(tokio::spawn(followed));
        spawn(tokio::spawn(following::keep(Arc::clone(&store), local.subscribe())));
        let mut reporting = None;
        if let Some((traffic, failures)) = traffic.zip(reports) {
            let (to_report, reported) = mpsc::channel(FAILURES_MAX);
            let reporter = Reporter {
                store: Arc::clone(&store),
                me: me.clone(),
                local: Arc::clone(&local),
                traffic,
                failures: reported,
                mode: mode_receiver.clone(),
            };
            reporting = Some(AbortOnDrop(tokio::spawn(reporter.run())));
            spawn(tokio::spawn(pass_on(failures, leads_to, to_report)));
        }
        let (mode, reporter) = (mode_receiver, Mutex::new(reporting));
        Self { me, store, local, mode, inputs: standby, reporter, _tasks: tasks }
    }

    /// Who this process is.
    pub fn me(&self) -> &Holder {
        &self.me
    }

    /// Where all of them meet.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What this process does now, and from now on.
    pub fn mode(&self) -> watch::Receiver<Mode> {
        self.mode.clone()
    }

    /// Whether this process has a data plane.
    pub fn carries_traffic(&self) -> bool {
        self.local.traffic().is_some()
    }

    /// What is in force here.
    pub fn local(&self) -> &Arc<Local> {
        &self.local
    }

    /// Gives the lease back, if this process has it, and wants it no more.
    pub async fn release(&self) {
        if let Some(inputs) = &self.inputs {
            let (sender, done) = oneshot::channel();
            if inputs.send(Input::Release(sender)).await.is_ok() {
                // An error means that it had ended before.
                let _ = done.await;
            }
        }
    }

    /// Tells the supervisor that this process carries no traffic any more.
    pub async fn leave(&self) {
        if self.carries_traffic() {
            // A report after the goodbye would make it a balancer again that is waited for.
            let reporter = self.reporter.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(mut reporter) = reporter {
                reporter.0.abort();
                // An error says that it was aborted.
                let _ = (&mut reporter.0).await;
            }
            // If it is not heard, its silence is.
            drop(self.store.leave(&self.me.id).await);
        }
    }
}

/// Takes failed requests to the supervisor: in this process, or by the next report.
async fn pass_on(
    mut failures: Failures,
    leads_to: Arc<ArcSwapOption<mpsc::Sender<(InstanceId, FailureKind)>>>,
    to_report: mpsc::Sender<(InstanceId, FailureKind)>,
) {
    while let Some(failure) = failures.recv().await {
        // There are more than the core can look into.
        let _ = match leads_to.load().as_ref() {
            Some(leader) => leader.try_send(failure),
            None => to_report.try_send(failure),
        };
    }
}
