//! The descriptors of the process, which clients and replicas share.
//!
//! A client that is accepted and then finds no descriptor left for its replica has been promised too
//! much. So clients get a part only, the other is for what they will need, and some are left to the
//! rest of the program: its heartbeats must not fail because there are many clients.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use rustix::process::{Resource, getrlimit};

/// Left to the rest of the program: an eighth of all, within these bounds.
const RESERVE_LEAST: usize = 8;
const RESERVE_MOST: usize = 128;
/// With fewer than these no body passes through a pipe: pipes are a convenience.
const PIPES_FROM: usize = 256;
/// Above this limit what others use is not counted: it is little, and counting takes long.
const COUNTED_MOST: usize = 4_096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// Of the process.
    limit: usize,
    /// Used by the rest of the program when that was counted last.
    other: AtomicUsize,
    /// Connections of clients and to replicas.
    used: AtomicUsize,
    /// Ends of pipes.
    pipes: AtomicUsize,
    /// How often none was left.
    missed: AtomicU64,
}

/// A descriptor's place in the number, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held(Arc<Descriptors>);

/// The places of both ends of a pipe.
#[derive(Debug)]
pub(crate) struct HeldPipe(Arc<Descriptors>);

impl Descriptors {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let descriptors = Self::new(limit);
        descriptors.recount();
        descriptors
    }

    /// So many, of which the rest of the program uses none yet.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            other: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            pipes: AtomicUsize::new(0),
            missed: AtomicU64::new(0),
        }
    }

    /// Counts what the rest of the program uses, where that may matter now. Reads a directory of the
    /// kernel's.
    pub(crate) fn recount(&self) {
        let ours = self.used.load(Relaxed) + self.pipes.load(Relaxed);
        if self.limit > COUNTED_MOST || (ours > 0 && ours < self.budget() / 4) {
            return;
        }
        // Where there is no descriptor to look with, what was found last time holds.
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory's own.
            self.other.store(open.count().saturating_sub(ours + 1), Relaxed);
        }
    }

    /// What clients and replicas may have.
    fn budget(&self) -> usize {
        let reserve = (self.limit / 8).clamp(RESERVE_LEAST, RESERVE_MOST);
        self.limit.saturating_sub(self.other.load(Relaxed)).saturating_sub(reserve)
    }

    /// Clients that each find a descriptor for their replica; at least one.
    pub(crate) fn clients_max(&self) -> usize {
        let budget = self.budget();
        let pipes = if budget < PIPES_FROM { 0 } else { budget / 4 };
        ((budget - pipes) / 2).max(1)
    }

    /// For a client, who is here already.
    pub(crate) fn enter(self: &Arc<Self>) -> Held {
        self.used.fetch_add(1, Relaxed);
        Held(Arc::clone(self))
    }

    /// For a connection to a replica, if there is one left.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Held> {
        let held = self.enter();
        let all = self.used.load(Relaxed) + self.pipes.load(Relaxed);
        // Taken back by the drop.
        (all <= self.budget()).then_some(held)
    }

    /// For a pipe, if there are many left.
    pub(crate) fn take_pipe(self: &Arc<Self>) -> Option<HeldPipe> {
        let budget = self.budget();
        let pipes = self.pipes.fetch_add(2, Relaxed) + 2;
        let held = HeldPipe(Arc::clone(self));
        (budget >= PIPES_FROM && pipes <= budget / 4).then_some(held)
    }

    /// None is left: connections that rest should be closed.
    pub(crate) fn miss(&self) {
        self.missed.fetch_add(1, Relaxed);
    }

    /// A number that is another one when one was missed since.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }
}

/// Without a limit.
impl Default for Descriptors {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Relaxed);
    }
}

impl Drop for HeldPipe {
    fn drop(&mut self) {
        self.0.pipes.fetch_sub(2, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_finds_one_for_its_replica() {
        for limit in [0, 9, 10, 64, 100, 1_024, 4_096, 1 << 20, usize::MAX] {
            let descriptors = Arc::new(Descriptors::new(limit));
            let clients = descriptors.clients_max();
            assert!(clients >= 1);
            let many = clients.min(5_000);
            let pipes: Vec<_> = std::iter::from_fn(|| descriptors.take_pipe()).take(many).collect();
            assert_eq!(pipes.is_empty(), descriptors.budget() < PIPES_FROM, "{limit}");
            let held: Vec<Held> = (0..many).map(|_| descriptors.enter()).collect();
            let links: Vec<Held> = std::iter::from_fn(|| descriptors.take()).take(many).collect();
            if limit >= 10 {
                assert_eq!(links.len(), many, "{limit}");
            }
            drop((pipes, held, links));
            assert_eq!(descriptors.used.load(Relaxed) + descriptors.pipes.load(Relaxed), 0);
        }
    }

    #[test]
    fn none_is_given_that_the_rest_of_the_program_needs() {
        let descriptors = Arc::new(Descriptors::new(64));
        descriptors.other.store(20, Relaxed);
        let held: Vec<Held> = std::iter::from_fn(|| descriptors.take()).take(64).collect();
        assert_eq!(held.len(), 64 - 20 - RESERVE_LEAST);
        assert!(descriptors.take().is_none() && descriptors.take_pipe().is_none());
        descriptors.other.store(1_000, Relaxed);
        assert_eq!(descriptors.clients_max(), 1);
    }

    #[test]
    fn this_process_has_some() {
        let descriptors = Arc::new(Descriptors::of_process());
        assert!(descriptors.limit > 3);
        if descriptors.limit <= COUNTED_MOST {
            assert!(descriptors.other.load(Relaxed) >= 3);
        }
        let file = fs::File::open("/dev/null").unwrap();
        drop(file);
        descriptors.recount();
    }
}
