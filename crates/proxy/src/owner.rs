//! Who is woken when a replica's connection can move on.
//!
//! A connection is driven by whoever waits for its answer, so it changes hands with every request,
//! and what its halves tell each other (a request is there, an answer is there, more is wanted) is
//! told to a task that is just about to look. Were each of these a wake-up, every request would cost
//! a poll of its own client's connection and one of the client's whose request came before. So the
//! connection knows one waker for as long as it lives, and that one asks here who is to be woken.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

/// The task to which a connection belongs at the moment, if it is to be woken.
#[derive(Debug, Default)]
pub(crate) struct Owner(Mutex<Word>);

#[derive(Debug, Default)]
struct Word {
    task: Option<Waker>,
    /// Whether something happened while nobody was to be woken.
    missed: bool,
}

impl Owner {
    /// Never contended, since all that happens is on one thread; a waker must be sendable, though.
    fn word(&self) -> MutexGuard<'_, Word> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this task is woken. Returns whether it would have been in the meantime.
    pub(crate) fn set(&self, task: &Waker) -> bool {
        let mut word = self.word();
        if !word.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            word.task = Some(task.clone());
        }
        mem::take(&mut word.missed)
    }

    /// From now on nobody is woken.
    pub(crate) fn clear(&self) {
        let mut word = self.word();
        word.task = None;
        word.missed = false;
    }
}

impl Wake for Owner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut word = self.word();
        match &word.task {
            Some(task) => task.wake_by_ref(),
            None => word.missed = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn only_the_task_at_hand_is_woken_and_what_it_missed_is_said() {
        let (first, second) = (Arc::<Task>::default(), Arc::<Task>::default());
        let owner = Arc::<Owner>::default();
        let waker = Waker::from(Arc::clone(&owner));
        let woken = || (first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst));
        waker.wake_by_ref();
        assert!(owner.set(&Waker::from(Arc::clone(&first))), "it was missed");
        waker.wake_by_ref();
        assert_eq!(woken(), (1, 0));
        owner.clear();
        waker.wake_by_ref();
        owner.clear();
        assert!(!owner.set(&Waker::from(Arc::clone(&second))), "nobody wants to know any more");
        waker.wake();
        assert_eq!(woken(), (1, 1));
    }
}
