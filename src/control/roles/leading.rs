//! One term of supervision after the other: each begins with what the store has, and ends at once when
//! the lease does.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use rand::RngExt;
use ringmaster_core::{
    fleet::{
        desired::Desired,
        ids::InstanceId,
        message::FailureKind,
        supervisor::{Settings, Supervisor},
        view::{FleetView, InstancePhase},
    },
    roles::{
        acknowledgements::{Acknowledgements, Agreement, Known},
        ids::{Fence, ProcessId, Version},
        lease::Lease,
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

use super::{
    backends::Mirror,
    holding::Input,
    local::Local,
    publishing::{self, Fanout, Shared},
};
use crate::{
    control::{
        self, ControlParts, CoreClock, Handle, leash::Leash, own::OwnPorts, prober::Prober,
        record::Record,
    },
    driver::Driver,
    store::{Heard, Loaded, Store, StoreError, redis::RedisStore},
};

/// From a state that could not be read or written to the next attempt.
const RETRY: Duration = Duration::from_millis(200);
/// How long reading the state and writing it under the new fence may take. A process that cannot do
/// that leaves the lease to one that can.
const BEGIN_DEADLINE: Duration = Duration::from_secs(5);
/// How long a new supervisor holds its first table back, from its first list on, for those that are in
/// service and have not passed yet.
const ADOPTION_DEADLINE: Duration = Duration::from_secs(2);
/// The same beyond that, where the table would have no target at all: more likely it is this process
/// that does not reach them.
const EMPTY_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked whether the balancers agree.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Failed requests that may wait for the core; more are dropped.
const FAILURES_MAX: usize = 1_024;

/// A term of this process.
#[derive(Clone)]
pub struct Term {
    /// Reaches the supervisor.
    pub handle: Handle,
    /// Under which it acts.
    pub fence: Fence,
    fanout: Arc<Fanout>,
    heard: publishing::Heard,
    disagreeing: Arc<AtomicUsize>,
    clock: CoreClock,
}

/// What a balancer has said last.
#[derive(Clone, Debug)]
pub struct BalancerView {
    /// What it has said.
    pub known: Known,
    /// How long ago.
    pub age: Duration,
    /// Whether it is waited for.
    pub is_live: bool,
}

impl Term {
    /// The balancers that have reported in this term, apart from this process.
    pub fn balancers(&self) -> Vec<BalancerView> {
        let now = self.clock.now();
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(heard) = heard.as_ref() else { return Vec::new() };
        let live: Vec<&ProcessId> = heard.live(now).map(|known| &known.report.balancer).collect();
        let view = |known: &Known| BalancerView {
            known: known.clone(),
            age: now.since(known.heard),
            is_live: live.contains(&&known.report.balancer),
        };
        heard.all().map(view).collect()
    }

    /// Whether each balancer that lives has had the time to be heard in this term.
    pub fn hears_all(&self) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.as_ref().is_some_and(|heard| heard.hears_all(self.clock.now()))
    }

    /// Whether its tables are in force yet; until then the last one of the term before is.
    pub fn is_in_force(&self) -> bool {
        self.fanout.is_open()
    }

    /// How many balancers have had another ring than the published one for longer than a moment.
    pub fn disagreeing(&self) -> usize {
        self.disagreeing.load(Ordering::Relaxed)
    }
}

/// What this process does for its fleet now.
#[derive(Clone)]
pub enum Mode {
    /// It supervises.
    Leading(Term),
    /// It follows the store.
    Following,
}

/// What each term is made from.
pub(super) struct Leading {
    pub(super) store: Arc<dyn Store>,
    pub(super) lease: Arc<Mutex<Lease>>,
    pub(super) clock: CoreClock,
    pub(super) local: Arc<Local>,
    pub(super) settings: Settings,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) prober: Prober,
    pub(super) record: Arc<Record>,
    pub(super) backends: Option<RedisStore>,
    pub(super) own: OwnPorts,
    /// Where failed requests go while a term lasts.
    pub(super) failures: Arc<ArcSwapOption<mpsc::Sender<(InstanceId, FailureKind)>>>,
    pub(super) mode: watch::Sender<Mode>,
    pub(super) inputs: mpsc::Sender<Input>,
}

impl Leading {
    /// Until the process ends.
    pub(super) async fn run(self, mut term: watch::Receiver<Option<Fence>>) {
        let mut said = None;
        loop {
            let won = term.wait_for(Option::is_some).await.map(|fence| *fence);
            let Ok(Some(fence)) = won else { return };
            // Dropped when the lease is lost: nothing is begun any more.
            let ended = tokio::select! {
                why = self.lead(fence) => Some(why),
                lost = term.wait_for(|now| *now != Some(fence)) => {
                    if lost.is_err() {
                        return;
                    }
                    None
                }
            };
            self.failures.store(None);
            self.mode.send_replace(Mode::Following);
            let Some(why) = ended else { continue };
            if said.as_ref() != Some(&why) {
                tracing::error!("this process cannot supervise the fleet: {why}");
            }
            said = Some(why);
            // The lease's own task lives as long as this one.
            drop(self.inputs.send(Input::Resign).await);
            if term.wait_for(|now| *now != Some(fence)).await.is_err() {
                return;
            }
        }
    }

    /// Supervises until it is dropped, or returns why that cannot be.
    async fn lead(&self, fence: Fence) -> String {
        let leash = Leash::of_term(Arc::clone(&self.lease), fence, self.clock);
        let stored = match tokio::time::timeout(BEGIN_DEADLINE, self.begin(fence)).await {
            Ok(Ok(stored)) => stored,
            Ok(Err(error)) => return error.to_string(),
            Err(_) => {
                return format!(
                    "the state could not be read and written again within {BEGIN_DEADLINE:?}"
                );
            }
        };
        let settings = Settings { seed: rand::rng().random(), ..self.settings.clone() };
        let supervisor = match Supervisor::new(settings, stored, self.clock.now()) {
            Ok(supervisor) => supervisor,
            Err(error) => return format!("the stored replicas do not fit the ring: {error}"),
        };
        let heard = publishing::Heard::default();
        let local = Arc::clone(&self.local);
        let fanout = Fanout::new(leash.clone(), self.clock, local, Arc::clone(&heard));
        let fanout = Arc::new(fanout);
        let (failures, failure_receiver) = mpsc::channel(FAILURES_MAX);
        self.failures.store(Some(Arc::new(failures.clone())));
        let (handle, control) = control::prepare(ControlParts {
            supervisor,
            clock: self.clock,
            driver: Arc::clone(&self.driver),
            store: Arc::clone(&self.store),
            leash,
            prober: self.prober.clone(),
            publisher: Arc::new(Shared(Arc::clone(&fanout))),
            record: Arc::clone(&self.record),
            failures: failure_receiver,
            own: self.own.clone(),
        });
        let term = Term {
            handle: handle.clone(),
            fence,
            fanout: Arc::clone(&fanout),
            heard: Arc::clone(&heard),
            disagreeing: Arc::default(),
            clock: self.clock,
        };
        let disagreeing = Arc::clone(&term.disagreeing);
        self.mode.send_replace(Mode::Leading(term));
        tokio::select! {
            () = control => {}
            () = open_when_adopted(&fanout, &handle) => {}
            () = fanout.store_all(self.store.as_ref()) => {}
            () = self.listen(fence, &heard, &failures, &disagreeing) => {}
            () = self.mirror(fence, handle.clone()) => {}
        }
        "a part of it has ended".to_owned()
    }

    /// Reads what earlier terms have left.
    async fn begin(&self, fence: Fence) -> Result<Option<Desired>, StoreError> {
        let stored = self.load().await?;
        // From now on no write of an earlier term counts.
        if let Some(desired) = &stored {
            self.establish(fence, desired).await;
        }
        self.follow_last(fence).await;
        Ok(stored)
    }

    /// Puts the published table into force: the first one of this term is compared with it.
    async fn follow_last(&self, fence: Fence) {
        loop {
            match self.store.table(self.local.now().version()).await {
                Ok(Some(publication)) => {
                    let published = publication.version().fence;
                    self.local.apply(&publication);
                    if published > fence {
                        // The lease's own task lives as long as this one.
                        drop(self.inputs.send(Input::Heard(published)).await);
                    }
                    return;
                }
                Ok(None) => return,
                Err(StoreError::Away(_)) => tokio::time::sleep(RETRY).await,
                // One that cannot be read is said by the store, and replaced by the first of ours.
                Err(_) => return,
            }
        }
    }

    async fn load(&self) -> Result<Option<Desired>, StoreError> {
        loop {
            match self.store.load().await {
                Ok(Loaded::State(desired)) => return Ok(Some(*desired)),
                Ok(Loaded::Nothing) => return Ok(None),
                Ok(Loaded::SetAside { place, why }) => {
                    tracing::warn!(
                        "the state file is corrupt ({why}): kept as {place}, going on from labels"
                    );
                    return Ok(None);
                }
                Err(StoreError::Away(_)) => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn establish(&self, fence: Fence, desired: &Desired) {
        let version = Version { fence, number: 0 };
        let mut is_said = false;
        while let Err(error) = self.store.save(version, desired.clone()).await {
            if !std::mem::replace(&mut is_said, true) {
                tracing::warn!(%error, "the state could not be written at the beginning of a term");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Follows the backends that others list, where that is asked for.
    async fn mirror(&self, fence: Fence, handle: Handle) {
        let leash = Leash::of_term(Arc::clone(&self.lease), fence, self.clock);
        match &self.backends {
            Some(store) => Mirror::new(store.clone(), handle, leash).run().await,
            None => std::future::pending().await,
        }
    }

    /// Takes in what balancers report, until it is dropped.
    async fn listen(
        &self,
        fence: Fence,
        heard: &publishing::Heard,
        failures: &mpsc::Sender<(InstanceId, FailureKind)>,
        disagreeing: &AtomicUsize,
    ) {
        let mut messages = self.store.watch(true);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                _ = looks.tick() => {
                    self.compare(fence, heard, disagreeing);
                    continue;
                }
            };
            let Some(message) = message else { return };
            let now = self.clock.now();
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            match message {
                // What was said meanwhile is unknown: all of them are to be heard again.
                Heard::Listening => {
                    let mut anew = Acknowledgements::new(now);
                    if let Some(publication) = self.local.now().publication {
                        anew.published(publication.table().ring.digest(), now);
                    }
                    *heard = Some(anew);
                    // It is told anew, too.
                    disagreeing.store(0, Ordering::Relaxed);
                }
                Heard::Reported(report, failed) => {
                    if let Some(Err(error)) = heard.as_mut().map(|heard| heard.take(*report, now)) {
                        tracing::debug!(%error, "the report of a balancer does not count");
                        continue;
                    }
                    for failure in failed {
                        // There are more than the core can look into.
                        let _ = failures.try_send(failure);
                    }
                }
                // A drain that counts balancers waits until they are heard again.
                // The silence of balancers says nothing now: none of their drains is over.
                Heard::Lost => {
                    *heard = None;
                    disagreeing.store(0, Ordering::Relaxed);
                }
                Heard::Gone(balancer) => {
                    if let Some(heard) = heard.as_mut() {
                        heard.forget(&balancer);
                    }
                }
                Heard::Changed(_) | Heard::Newer | Heard::LeaseFree => {}
            }
        }
    }

    /// Each report changes little, and all balancers are looked at: so not at each of them.
    fn compare(&self, fence: Fence, heard: &publishing::Heard, disagreeing: &AtomicUsize) {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        let agreement = heard.as_mut().and_then(|heard| heard.agreement(self.clock.now()));
        let newest = heard.as_ref().and_then(Acknowledgements::newest);
        drop(heard);
        if let Some(version) = newest.filter(|version| version.fence > fence) {
            // The lease's own task lives as long as this one; if it is behind, the next look says it.
            drop(self.inputs.try_send(Input::Heard(version.fence)));
        }
        match agreement {
            Some(Agreement::Disagree { balancers }) => {
                let names: Vec<&str> = balancers.iter().map(|id| &*id.0).collect();
                let names = names.join(", ");
                tracing::warn!("balancers with another ring than the published one: {names}");
                disagreeing.store(balancers.len(), Ordering::Relaxed);
            }
            Some(Agreement::Agree) => {
                tracing::info!("all balancers have the published ring");
                disagreeing.store(0, Ordering::Relaxed);
            }
            None => {}
        }
    }
}

/// Holds the first table back until it takes nothing from anyone; then never returns.
async fn open_when_adopted(fanout: &Fanout, handle: &Handle) {
    handle.until(|view| view.is_booted()).await;
    let adopted = handle.until(|view| view.may_listen && fanout.is_whole());
    // Past the deadline it is given out all the same, unless it would take all that there is.
    drop(tokio::time::timeout(ADOPTION_DEADLINE, adopted).await);
    let some = handle.until(|view| fanout.routes_as_well() || !may_yet_pass(view, fanout));
    if tokio::time::timeout(EMPTY_DEADLINE, some).await.is_err() {
        tracing::warn!("no replica in service has passed within {EMPTY_DEADLINE:?}");
    }
    fanout.open();
    std::future::pending().await
}

/// Whether one that is in service may pass: a server that others keep, or what the engine still runs.
fn may_yet_pass(view: &FleetView, fanout: &Fanout) -> bool {
    let in_force = fanout.targets();
    view.replicas.iter().any(|replica| {
        let mut instances =
            replica.instances.iter().filter(|one| one.phase != InstancePhase::Stopping);
        match &replica.server {
            Some(_) => in_force.iter().any(|target| target.replica == replica.id),
            None => instances.any(|one| in_force.contains(&one.id)),
        }
    })
}
