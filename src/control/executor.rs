//! Carries out actions, each in a task of its own, and sends their results back as events. It decides
//! nothing: retries, order, conditions and limits are the plan's. Dropping it aborts its tasks, because
//! a supervisor that has lost the lease must not continue with what it had begun.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use ringmaster_core::{
    fleet::{
        command::ScaleError,
        message::{Action, Event, StopManner},
    },
    roles::ids::Version,
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    CoreClock, Publisher, checks::Checks, leash::Leash, own::OwnPorts, prober::Prober, resolver,
};
use crate::{driver::Driver, store::Store};

pub(super) struct Executor {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) store: Arc<dyn Store>,
    pub(super) leash: Leash,
    pub(super) prober: Prober,
    pub(super) checks: Arc<Checks>,
    pub(super) publisher: Arc<dyn Publisher>,
    pub(super) clock: CoreClock,
    pub(super) own: OwnPorts,
    pub(super) events: mpsc::Sender<Event>,
    /// The actions under way; aborted on drop.
    pub(super) tasks: JoinSet<()>,
}

impl Executor {
    pub(super) fn carry_out(&mut self, action: Action) {
        let driver = Arc::clone(&self.driver);
        match action {
            Action::Start(request) => self.spawn(async move {
                let instance = request.instance;
                Some(Event::Started { instance, result: driver.start(request).await })
            }),
            Action::Stop { instance, handle, manner } => self.spawn(async move {
                let last_words = match manner {
                    StopManner::Collect => driver.last_words(handle.clone()).await.map(Box::new),
                    StopManner::Graceful | StopManner::Kill => None,
                };
                let result = driver.stop(handle, manner).await;
                Some(Event::Stopped { instance, last_words, result })
            }),
            Action::Reap { handle } => self.spawn(async move {
                let result = driver.stop(handle.clone(), StopManner::Kill).await;
                Some(Event::Reaped { handle, result })
            }),
            Action::List { requested_at } => self.spawn(async move {
                Some(Event::Listed { requested_at, result: driver.list().await })
            }),
            Action::Probe { instance, address, deadline } => {
                let prober = self.prober.clone();
                let checks = Arc::clone(&self.checks);
                let timeout = deadline.since(self.clock.now());
                self.spawn(async move {
                    let begun = Instant::now();
                    let outcome = prober.probe(address, timeout).await;
                    checks.record(instance, &outcome, SystemTime::now(), begun.elapsed());
                    Some(Event::Probed { instance, outcome })
                });
            }
            Action::Resolve { instance, host, port } => {
                let own = self.own.clone();
                self.spawn(async move {
                    let result = match resolver::resolve(&host, port).await {
                        Ok(address) if own.include(address) => {
                            let place = format!("{host}:{port} ({address})");
                            Err(ScaleError::OwnPort(place).to_string())
                        }
                        result => result,
                    };
                    Some(Event::Resolved { instance, result: result.map_err(Into::into) })
                });
            }
            Action::AwaitDrain { instance } => {
                let drained = self.publisher.drained(instance);
                self.spawn(async move {
                    drained.await;
                    Some(Event::Drained { instance })
                });
            }
            Action::Persist { write, desired } => {
                // The save is queued here and not in the task, because tasks run in any order.
                let version = Version { fence: self.leash.fence(), number: write.0 };
                let saved = self.store.save(version, desired);
                self.spawn(async move {
                    let result = saved.await.map_err(|error| error.to_string().into());
                    Some(Event::Persisted { write, result })
                });
            }
            // Sent by the shell, after it has published the table.
            Action::Respond(..) => {}
        }
    }

    fn spawn(&mut self, work: impl Future<Output = Option<Event>> + Send + 'static) {
        let (events, leash) = (self.events.clone(), self.leash.clone());
        // A task set keeps the results of ended tasks until they are taken.
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(async move {
            // The lease may have been lost since the action was decided.
            if !leash.may_act() {
                return;
            }
            if let Some(event) = work.await {
                // The receiver is gone only when the balancer ends.
                drop(events.send(event).await);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::BoxFuture;
    use ringmaster_core::fleet::{
        ids::{Incarnation, InstanceId, ReplicaId},
        table::RoutingTable,
    };

    use super::*;
    use crate::{driver::none::NoDriver, store::FileStore};

    /// A data plane where a request never ends. The count of references shows who waits for that.
    struct Endless(Arc<()>);

    impl Publisher for Endless {
        fn publish(&self, _: RoutingTable) {}

        fn in_flight(&self, _: InstanceId) -> u64 {
            1
        }

        fn drained(&self, _: InstanceId) -> BoxFuture<'static, ()> {
            let held = Arc::clone(&self.0);
            Box::pin(async move {
                let _held = held;
                std::future::pending().await
            })
        }
    }

    #[tokio::test]
    async fn dropping_the_executor_ends_its_tasks() {
        let unique = format!("ringmaster-executor-{}", std::process::id());
        let directory = std::env::temp_dir().join(unique);
        let (waits, (events, _receiver)) = (Arc::new(()), mpsc::channel(8));
        let mut executor = Executor {
            driver: Arc::new(NoDriver),
            store: Arc::new(FileStore::open(&directory, "f").unwrap()),
            leash: Leash::unlimited(),
            prober: Prober::tcp(),
            checks: Arc::default(),
            publisher: Arc::new(Endless(Arc::clone(&waits))),
            clock: CoreClock::start(),
            own: OwnPorts::default(),
            events,
            tasks: JoinSet::new(),
        };
        let instance = InstanceId { replica: ReplicaId(1), incarnation: Incarnation(1) };
        executor.carry_out(Action::AwaitDrain { instance });
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&waits), 3);
        drop(executor);
        let over = async {
            while Arc::strong_count(&waits) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), over).await.unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
