//! Carries out actions, each in a task of its own, and sends what came of them back as events. It
//! decides nothing: no retries, no order, no conditions.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::{Clock, Publisher, prober::Prober, store::Store};
use crate::{
    driver::Driver,
    fleet::message::{Action, Event, StopManner},
};

/// Starts and stops that may run at once; an engine slows down beyond that.
const ENGINE_CALLS_MAX: usize = 8;

pub(super) struct Executor {
    driver: Arc<dyn Driver>,
    store: Option<Store>,
    prober: Prober,
    publisher: Arc<dyn Publisher>,
    clock: Clock,
    events: mpsc::Sender<Event>,
    engine_calls: Arc<Semaphore>,
}

impl Executor {
    pub(super) fn new(
        driver: Arc<dyn Driver>,
        store: Option<Store>,
        prober: Prober,
        publisher: Arc<dyn Publisher>,
        clock: Clock,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let engine_calls = Arc::new(Semaphore::new(ENGINE_CALLS_MAX));
        Self { driver, store, prober, publisher, clock, events, engine_calls }
    }

    pub(super) fn carry_out(&self, action: Action) {
        let driver = Arc::clone(&self.driver);
        match action {
            Action::Start(request) => self.engine_call(async move {
                let instance = request.instance;
                Some(Event::Started { instance, result: driver.start(request).await })
            }),
            Action::Stop { instance, handle, manner } => self.engine_call(async move {
                let last_words = match manner {
                    StopManner::Collect => driver.last_words(handle.clone()).await.map(Box::new),
                    StopManner::Graceful | StopManner::Kill => None,
                };
                let result = driver.stop(handle, manner).await;
                Some(Event::Stopped { instance, last_words, result })
            }),
            Action::Reap { handle } => self.engine_call(async move {
                let result = driver.stop(handle.clone(), StopManner::Kill).await;
                if let Err(error) = result {
                    // The next list finds it again.
                    tracing::warn!(%handle, %error, "a stray could not be removed");
                }
                None
            }),
            Action::List { asked } => self
                .spawn(async move { Some(Event::Listed { asked, result: driver.list().await }) }),
            Action::Probe { instance, address, deadline } => {
                let prober = self.prober.clone();
                let timeout = deadline.since(self.clock.now());
                self.spawn(async move {
                    let outcome = prober.probe(address, timeout).await;
                    Some(Event::Probed { instance, outcome })
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
                let store = self.store.clone();
                self.spawn(async move {
                    let result = match store {
                        Some(store) => store.save(desired).await,
                        None => Ok(()),
                    };
                    let result = result.map_err(|error| error.to_string().into());
                    Some(Event::Persisted { write, result })
                });
            }
            // The shell answers by itself, after it has published.
            Action::Answer(..) => {}
        }
    }

    fn engine_call(&self, work: impl Future<Output = Option<Event>> + Send + 'static) {
        let permits = Arc::clone(&self.engine_calls);
        self.spawn(async move {
            // The semaphore is never closed; were it, the call is better made than lost.
            let _permit = permits.acquire_owned().await;
            work.await
        });
    }

    fn spawn(&self, work: impl Future<Output = Option<Event>> + Send + 'static) {
        let events = self.events.clone();
        tokio::spawn(async move {
            if let Some(event) = work.await {
                // The receiver is gone only when the balancer ends.
                drop(events.send(event).await);
            }
        });
    }
}
