//! One write at a time, in the order in which they were asked for. While one hangs, only the newest
//! of those that came after it waits: a disk that never answers holds one thread and one state.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// A write; it asks, right before it takes effect, whether a newer one waits.
pub(super) type Work = Box<dyn FnOnce(&dyn Fn() -> bool) -> io::Result<()> + Send>;

struct Job {
    work: Work,
    ended: oneshot::Sender<io::Result<()>>,
}

/// The queue of one file; clones share it.
#[derive(Clone, Default)]
pub(super) struct Writer {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    is_busy: bool,
    waiting: Option<Job>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("is_busy", &self.lock().is_busy).finish_non_exhaustive()
    }
}

/// What a write ends with whose place a newer one has taken.
pub(super) fn overtaken() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "a newer state is written instead")
}

impl Writer {
    /// Has a write done after the one that is under way. Queued when this is called, not when the
    /// future is polled.
    pub(super) fn queue(&self, work: Work) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let (ended, result) = oneshot::channel();
        let must_begin = {
            let mut shared = self.lock();
            // The one that waited is dropped; its future sees the closed channel.
            shared.waiting = Some(Job { work, ended });
            !std::mem::replace(&mut shared.is_busy, true)
        };
        if must_begin {
            tokio::spawn(self.clone().run());
        }
        async { result.await.unwrap_or_else(|_| Err(overtaken())) }
    }

    async fn run(self) {
        while let Some(Job { work, ended }) = self.next() {
            let writer = self.clone();
            let is_overtaken = move || writer.lock().waiting.is_some();
            let result = tokio::task::spawn_blocking(move || work(&is_overtaken)).await;
            // The receiver is gone when its task was aborted at shutdown.
            drop(ended.send(result.unwrap_or_else(|panic| Err(io::Error::other(panic)))));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut shared = self.lock();
        let job = shared.waiting.take();
        shared.is_busy = job.is_some();
        job
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Two fields that are set together; a panic between them cannot be.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn while_one_hangs_only_the_newest_waits_and_the_order_stays() {
        let writer = Writer::default();
        let done = Arc::new(Mutex::new(Vec::new()));
        let (release, hang) = mpsc::channel::<()>();
        let (begun, is_begun) = oneshot::channel();
        let log = Arc::clone(&done);
        let first = writer.queue(Box::new(move |is_overtaken: &dyn Fn() -> bool| {
            begun.send(()).unwrap();
            hang.recv_timeout(LONG).unwrap();
            if is_overtaken() {
                return Err(overtaken());
            }
            log.lock().unwrap().push(1);
            Ok(())
        }));
        tokio::time::timeout(LONG, is_begun).await.unwrap().unwrap();
        let note = |number: u32| {
            let log = Arc::clone(&done);
            writer.queue(Box::new(move |_: &dyn Fn() -> bool| {
                log.lock().unwrap().push(number);
                Ok(())
            }))
        };
        let (second, third) = (note(2), note(3));
        let error = tokio::time::timeout(LONG, second).await.unwrap().unwrap_err();
        assert!(error.to_string().contains("a newer state"), "{error}");
        release.send(()).unwrap();
        let ends = async { (first.await, third.await) };
        let (first, third) = tokio::time::timeout(LONG, ends).await.unwrap();
        assert!(first.is_err() && third.is_ok(), "{first:?} {third:?}");
        assert_eq!(*done.lock().unwrap(), [3]);
        // And it goes on.
        tokio::time::timeout(LONG, note(4)).await.unwrap().unwrap();
        assert_eq!(*done.lock().unwrap(), [3, 4]);
    }

    #[tokio::test]
    async fn a_write_that_panics_is_an_error_and_the_next_is_done() {
        let writer = Writer::default();
        let error = writer
            .queue(Box::new(|_: &dyn Fn() -> bool| panic!("out of order")))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("panic"), "{error}");
        tokio::time::timeout(LONG, writer.queue(Box::new(|_: &dyn Fn() -> bool| Ok(()))))
            .await
            .unwrap()
            .unwrap();
    }
}
