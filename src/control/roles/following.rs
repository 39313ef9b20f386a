//! Follows the tables that the store publishes, and tells the supervisor how it is here.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ringmaster_core::{
    fleet::{ids::InstanceId, message::FailureKind},
    roles::{
        acknowledgements::{INSTANCES_MAX, Report},
        ids::{Holder, Version},
        publication::{Followed, Follower},
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};

use super::{
    holding::Input,
    leading::Mode,
    local::{InForce, Local, Traffic},
};
use crate::store::{Heard, Store};

/// How often the store is read although nothing was heard.
const READ_EVERY: Duration = Duration::from_secs(1);
/// From one report to the next, where nothing happens.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// From one report to the next at least, whatever happens.
const REPORT_APART: Duration = Duration::from_millis(20);
/// How often it is looked whether the workers have acknowledged a table, or a drain is over.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long tables may come before the copy on the disk is written again.
const KEEP_AFTER: Duration = Duration::from_secs(1);

/// Until the process ends. `standby`: who is to know that the lease is free, or of later terms.
pub(super) async fn follow(
    store: Arc<dyn Store>,
    local: Arc<Local>,
    standby: Option<mpsc::Sender<Input>>,
) {
    let mut heard = store.watch(false);
    let mut reads = interval(READ_EVERY);
    reads.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut follower = Follower::new(None);
    let mut is_first = true;
    loop {
        let is_to_be_read = tokio::select! {
            message = heard.recv() => match message {
                Some(Heard::Listening | Heard::Newer) => true,
                Some(Heard::Changed(delta)) => follower.take_delta(&delta) == Followed::ReadWhole,
                Some(Heard::LeaseFree) => {
                    tell(standby.as_ref(), Input::Free);
                    false
                }
                Some(Heard::Lost | Heard::Reported(..) | Heard::Gone(_)) => false,
                // The store's own task has ended, which is the end of the process.
                None => return,
            },
            _ = reads.tick() => true,
        };
        if is_to_be_read {
            read(store.as_ref(), &mut follower, is_first).await;
            if standby.is_some() {
                // Said by the store; a copy that lags is written by the next.
                drop(store.copy().await);
            }
            is_first = false;
        }
        if let Some(publication) = follower.held() {
            let fence = publication.version().fence;
            if fence > local.now().version().fence {
                tell(standby.as_ref(), Input::Heard(fence));
            }
            local.apply(publication);
        }
    }
}

/// A standby that is behind hears the next one.
fn tell(standby: Option<&mpsc::Sender<Input>>, input: Input) {
    if let Some(standby) = standby {
        drop(standby.try_send(input));
    }
}

async fn read(store: &dyn Store, follower: &mut Follower, is_first: bool) {
    let than = follower.held().map(|held| held.version()).unwrap_or_default();
    match store.table(than).await {
        Ok(Some(publication)) => {
            follower.take_whole(publication);
        }
        Ok(None) => {}
        // What went wrong is said by the store.
        Err(_) if is_first => {
            if let Some(kept) = store.kept_table().await {
                tracing::info!("going on with the table that was kept on the disk");
                follower.take_whole(kept);
            }
        }
        Err(_) => {}
    }
}

/// Keeps the newest table on the disk, until the process ends.
pub(super) async fn keep(store: Arc<dyn Store>, mut in_force: watch::Receiver<InForce>) {
    while in_force.changed().await.is_ok() {
        tokio::time::sleep(KEEP_AFTER).await;
        let newest = in_force.borrow_and_update().publication.clone();
        if let Some(publication) = newest {
            store.keep_table(&publication).await;
        }
    }
}

/// Says how this balancer is.
pub(super) struct Reporter {
    pub(super) store: Arc<dyn Store>,
    pub(super) me: Holder,
    pub(super) local: Arc<Local>,
    pub(super) traffic: Arc<dyn Traffic>,
    /// Failed requests, for the supervisor.
    pub(super) failures: mpsc::Receiver<(InstanceId, FailureKind)>,
    /// A supervisor in this process asks the data plane itself.
    pub(super) mode: watch::Receiver<Mode>,
}

/// What was said last, and when.
struct Said {
    at: Instant,
    version: Version,
    open: BTreeMap<InstanceId, u64>,
}

/// Failed requests that one report takes along.
const FAILED_MAX: usize = 256;

impl Reporter {
    /// Until the process ends.
    pub(super) async fn run(mut self) {
        let mut in_force = self.local.subscribe();
        let mut number = 0;
        let mut acknowledged = InForce::default();
        let mut said: Option<Said> = None;
        let (mut failed, mut has_new_failures) = (Vec::new(), false);
        loop {
            let now = in_force.borrow_and_update().clone();
            if self.traffic.acknowledged() >= now.number {
                acknowledged = now.clone();
            }
            // While nothing changes, only the heartbeat is to be sent.
            let open = self.traffic.open_requests();
            let is_calm = acknowledged.version() == now.version() && !finishes(&now, &open);
            let is_due = said.as_ref().is_none_or(|said| {
                said.at.elapsed() >= REPORT_EVERY
                    || said.version != acknowledged.version()
                    || has_ended(&now, &said.open, &open)
            });
            let follows = matches!(*self.mode.borrow(), Mode::Following);
            let may_report = follows && acknowledged.publication.is_some();
            let is_wanted = may_report && (is_due || has_new_failures);
            let is_soon = said.as_ref().is_some_and(|said| said.at.elapsed() < REPORT_APART);
            if is_wanted && !is_soon {
                number += 1;
                let report = self.report(number, &acknowledged, open.clone());
                // What fails is said by the store, and the next report says the same and more.
                if self.store.report(&report, &failed).await.is_ok() {
                    failed.clear();
                }
                has_new_failures = false;
                let version = acknowledged.version();
                said = Some(Said { at: Instant::now(), version, open });
            }
            let is_at_rest = is_calm && !(is_wanted && is_soon);
            let pause = if is_at_rest { REPORT_EVERY } else { LOOK_EVERY };
            let room = FAILED_MAX.saturating_sub(failed.len());
            tokio::select! {
                _ = tokio::time::sleep(pause) => {}
                changed = in_force.changed() => if changed.is_err() { return },
                // What could not be told yet stays; beyond it the sender drops more.
                count = self.failures.recv_many(&mut failed, room), if room > 0 => {
                    if count == 0 {
                        return;
                    }
                    failed.sort_unstable();
                    failed.dedup();
                    has_new_failures = true;
                }
            }
        }
    }

    fn report(
        &self,
        number: u64,
        acknowledged: &InForce,
        mut in_flight: BTreeMap<InstanceId, u64>,
    ) -> Report {
        while in_flight.len() > INSTANCES_MAX {
            in_flight.pop_first();
        }
        let publication = acknowledged.publication.as_ref();
        Report {
            balancer: self.me.id.clone(),
            number,
            acknowledged: acknowledged.version(),
            digest: publication.map_or(0, |publication| publication.table().ring.digest()),
            in_flight,
            admin: Some(Arc::clone(&self.me.admin)),
            authenticator: self.me.authenticator.clone(),
        }
    }
}

fn finishing(in_force: &InForce) -> &[InstanceId] {
    in_force.publication.as_ref().map_or(&[], |publication| &publication.table().finishing)
}

/// Whether an instance on its way out still has open requests: its drain waits for their end.
fn finishes(in_force: &InForce, open: &BTreeMap<InstanceId, u64>) -> bool {
    finishing(in_force).iter().any(|instance| open.contains_key(instance))
}

/// Whether the last open request of an instance on its way out has ended.
fn has_ended(
    in_force: &InForce,
    before: &BTreeMap<InstanceId, u64>,
    now: &BTreeMap<InstanceId, u64>,
) -> bool {
    let has_ended = |instance| before.contains_key(instance) && !now.contains_key(instance);
    finishing(in_force).iter().any(has_ended)
}
