//! How far the end of the balancer's run is.

use std::time::Duration;

use crate::fleet::ids::Moment;

/// How long an engine that does not answer is waited for.
const ENGINE_PATIENCE: Duration = Duration::from_secs(5);

/// How far the end of the balancer's run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Whether the instances are stopped, too.
    pub stop_replicas: bool,
    /// When that was said.
    pub since: Moment,
    /// Since when no instance is known.
    pub empty_since: Option<Moment>,
    /// Whether a list that was asked for after that has found nothing.
    pub is_swept: bool,
    /// Whether the engine has been away for too long to wait for it.
    pub is_given_up: bool,
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// All that was asked for is done.
    Done,
    /// The engine does not answer, so that instances may be left.
    EngineAway,
}

impl Shutdown {
    /// It begins.
    pub(crate) fn new(stop_replicas: bool, now: Moment) -> Self {
        Self { stop_replicas, since: now, empty_since: None, is_swept: false, is_given_up: false }
    }

    /// The replicas are to be stopped, too.
    pub(crate) fn extend_to_replicas(&mut self, now: Moment) {
        if !self.stop_replicas {
            (self.stop_replicas, self.since) = (true, now);
        }
    }

    /// Follows what is known by now; whether a list is needed that shows that nothing is left.
    pub(crate) fn follow(&mut self, is_engine_away: bool, is_empty: bool, now: Moment) -> bool {
        if !self.stop_replicas {
            return false;
        }
        self.is_given_up = is_engine_away && now >= self.since + ENGINE_PATIENCE;
        if !is_empty {
            (self.empty_since, self.is_swept) = (None, false);
            return false;
        }
        self.empty_since.get_or_insert(now);
        !self.is_swept
    }

    /// A list has found nothing. That says that nothing is left if it was asked for when nothing was
    /// known, and so no start was under way.
    pub(crate) fn found_nothing(&mut self, requested_at: Moment) {
        if self.empty_since.is_some_and(|since| requested_at >= since) {
            self.is_swept = true;
        }
    }
}
