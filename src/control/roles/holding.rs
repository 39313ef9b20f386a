//! Drives the lease of the fleet: sends what it asks for, and lets the rest of the process know which
//! term it is in.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::RngExt;
use ringmaster_core::{
    fleet::ids::Moment,
    roles::{
        ids::{Fence, Holder, RequestId},
        lease::{Lease, LeaseChange, Loss, Reply, Step, Stored, Timing},
    },
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    control::{CoreClock, sleep_until},
    store::Store,
};

/// How long a process that cannot lead leaves the lease to others.
const RESIGNED: Duration = Duration::from_secs(10);

/// What can happen to a lease, beside time and replies.
pub(super) enum Input {
    /// The store says that it is free.
    Free,
    /// Tables of this term are about.
    Heard(Fence),
    /// This process cannot lead now.
    Resign,
    /// It ends.
    Release(oneshot::Sender<()>),
}

/// One process's side of the lease.
pub(super) struct Holding {
    pub(super) store: Arc<dyn Store>,
    pub(super) me: Holder,
    pub(super) timing: Timing,
    pub(super) clock: CoreClock,
    pub(super) lease: Arc<Mutex<Lease>>,
    pub(super) term: watch::Sender<Option<Fence>>,
    pub(super) inputs: mpsc::Receiver<Input>,
}

type Replied = (RequestId, Reply);

impl Holding {
    /// Until the process ends.
    pub(super) async fn run(mut self) {
        // Few are under way at once: each has a deadline, and a lost one is replaced by one other.
        let (sender, mut replies) = mpsc::channel::<Replied>(16);
        let mut step = self.with(|lease, now| lease.tick(now, jitter()));
        loop {
            let (stored, mut wake_at) = (step.stored, step.wake_at);
            self.follow(step, &sender);
            // What is stored under a higher fence takes nothing from this term.
            if let Some(fence) = stored.and_then(highest) {
                let step = self.with(|lease, now| lease.heard(fence, now));
                wake_at = step.wake_at;
                self.follow(step, &sender);
            }
            let Some(wake_at) = wake_at else { return };
            let wake_at = self.clock.instant(wake_at);
            step = tokio::select! {
                biased;
                input = self.inputs.recv() => match input {
                    None => return,
                    Some(Input::Free) => self.with(Lease::nudge),
                    Some(Input::Heard(fence)) => self.with(|lease, now| lease.heard(fence, now)),
                    Some(Input::Resign) => self.resign().await,
                    Some(Input::Release(done)) => {
                        self.release().await;
                        // The one that said it may have stopped waiting.
                        let _ = done.send(());
                        return;
                    }
                },
                Some((id, reply)) = replies.recv() => {
                    self.with(|lease, now| lease.replied(id, reply, now, jitter()))
                }
                () = sleep_until(Some(wake_at)) => {
                    self.with(|lease, now| lease.tick(now, jitter()))
                }
            };
        }
    }

    fn with<T>(&self, then: impl FnOnce(&mut Lease, Moment) -> T) -> T {
        // It is changed by pure functions as a whole; a panic in between cannot be.
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        then(&mut lease, self.clock.now())
    }

    fn follow(&self, step: Step, replies: &mpsc::Sender<Replied>) {
        if let Some(change) = step.change {
            self.tell(&change);
            self.term.send_replace(match change {
                LeaseChange::Won(fence) => Some(fence),
                LeaseChange::Lost { .. } => None,
            });
        }
        if let Some(stored) = step.stored {
            tokio::spawn(self.store.refill(stored));
        }
        if let Some(request) = step.send {
            let (asked, replies) = (self.store.ask(&self.me, &request), replies.clone());
            tokio::spawn(async move {
                let reply = asked.await;
                // The receiver is gone only when the process ends.
                drop(replies.send((request.id, reply)).await);
            });
        }
    }

    async fn release(&mut self) {
        let step = self.with(Lease::release);
        self.term.send_replace(None);
        if let Some(request) = step.send {
            self.store.ask(&self.me, &request).await;
        }
    }

    /// Gives it back, and comes again later.
    async fn resign(&mut self) -> Step {
        self.release().await;
        let pause = tokio::time::sleep(RESIGNED);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                input = self.inputs.recv() => match input {
                    Some(Input::Release(done)) => {
                        let _ = done.send(());
                        return Step::default();
                    }
                    Some(_) => {}
                    None => return Step::default(),
                },
            }
        }
        self.with(|lease, now| {
            *lease = Lease::new(self.me.clone(), lease.known(), self.timing, now);
            lease.tick(now, jitter())
        })
    }

    fn tell(&self, change: &LeaseChange) {
        match change {
            LeaseChange::Won(fence) => {
                tracing::info!("this process supervises the fleet: fence {}", fence.0)
            }
            LeaseChange::Lost { fence, why } => {
                let why = match why {
                    Loss::Expired => "the store has confirmed no renewal in time".to_owned(),
                    Loss::Taken(Some(holder)) => format!("{} has the lease now", holder.admin),
                    Loss::Taken(None) => "the store knows of no lease".to_owned(),
                    Loss::Outranked(higher) => format!("fence {} is about", higher.0),
                    Loss::Released => "it gave the lease back".to_owned(),
                };
                tracing::warn!("this process supervises no more (fence {}): {why}", fence.0);
            }
        }
    }
}

fn highest(stored: Stored) -> Option<Fence> {
    [stored.state, stored.table].into_iter().flatten().map(|version| version.fence).max()
}

fn jitter() -> f64 {
    rand::rng().random()
}
