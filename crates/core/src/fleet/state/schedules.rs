//! When the fleet is listed, and when its state is written: one of each at a time.

use std::time::Duration;

use crate::fleet::{ids::Moment, message::WriteId};

/// When the next list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListSchedule {
    /// When the one under way was asked for.
    pub requested_at: Option<Moment>,
    /// When the last one was asked for.
    pub last: Option<Moment>,
    /// When the next is due.
    pub next: Moment,
}

impl ListSchedule {
    /// The first list is due at once.
    pub(crate) fn new(now: Moment) -> Self {
        Self { requested_at: None, last: None, next: now }
    }

    /// A list is asked for.
    pub(crate) fn begin(&mut self, now: Moment, interval: Duration) {
        *self = Self { requested_at: Some(now), last: Some(now), next: now + interval };
    }

    /// A list has come; whether it is the latest. One that was taken as lost may be older than it
    /// looks.
    pub(crate) fn end(&mut self, requested_at: Moment) -> bool {
        self.requested_at.take_if(|latest| *latest == requested_at).is_some()
    }

    /// The next list is due at once, but never sooner than `retry` after the last.
    pub(crate) fn soon(&mut self, now: Moment, retry: Duration) {
        let earliest = self.last.map_or(now, |last| last + retry);
        self.next = self.next.min(earliest.max(now));
    }
}

/// When the state is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteSchedule {
    /// The write under way.
    pub under_way: Option<WriteUnderWay>,
    /// The number of the next.
    pub next: WriteId,
    /// Whether the file lags behind the committed state (names and incarnations only).
    pub stale: bool,
    /// Not before this moment, after a failure.
    pub not_before: Moment,
    /// Whether a fleet that had no file waits for its first write: killed before that, it would be
    /// rebuilt from the labels of what had been started so far.
    pub is_first: bool,
    /// Whether the last write was taken as lost, and none has ended since. Commands are refused
    /// meanwhile: each would wait for its whole deadline.
    pub hangs: bool,
}

/// A write whose end has not been reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteUnderWay {
    /// Which.
    pub write: WriteId,
    /// When it was asked for.
    pub requested_at: Moment,
}

impl WriteSchedule {
    /// Nothing is under way. `stale`: the state in the file is out of date already.
    pub(crate) fn new(stale: bool, now: Moment) -> Self {
        Self {
            under_way: None,
            next: WriteId(1),
            stale,
            not_before: now,
            is_first: false,
            hangs: false,
        }
    }

    /// A write begins.
    pub(crate) fn begin(&mut self, now: Moment) -> WriteId {
        let write = self.next;
        self.next = WriteId(write.0 + 1);
        self.under_way = Some(WriteUnderWay { write, requested_at: now });
        write
    }

    /// The disk has answered; whether it was for the write under way. The late result of a write that
    /// was taken as lost says nothing of the one under way.
    pub(crate) fn answered(&mut self, write: WriteId) -> bool {
        let is_current = self.under_way.is_some_and(|under_way| under_way.write == write);
        if is_current {
            self.hangs = false;
        }
        is_current
    }

    /// The write under way has ended. `retry_at`: it failed, and whether the file holds the old state
    /// or the new one is not known, so the committed state is written again from that moment on.
    pub(crate) fn end(&mut self, retry_at: Option<Moment>) {
        self.under_way = None;
        self.is_first = false;
        if let Some(retry_at) = retry_at {
            self.stale = true;
            self.not_before = retry_at;
        }
    }
}
