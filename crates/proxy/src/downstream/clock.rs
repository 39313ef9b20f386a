//! The time of a worker.

use std::{cell::Cell, time::Instant};

/// The time of a worker in milliseconds, as exact as its sweep is frequent.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    now: Cell<u64>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), now: Cell::new(0) }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(crate) fn advance(&self) -> u64 {
        let millis = self.started.elapsed().as_millis();
        self.now.set(u64::try_from(millis).unwrap_or(u64::MAX));
        self.now.get()
    }
}
