//! Every interval, deadline and bound that the core knows.

use std::time::Duration;

use super::names::NameRule;
use crate::ring::{MEMBERS_MAX, RingSettings};

/// The bounds of a fleet's supervision. Defaults are those of the documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the start of one heartbeat to the start of the next.
    pub probe_interval: Duration,
    /// How long a heartbeat may take.
    pub probe_timeout: Duration,
    /// Failed heartbeats in a row until an admitted instance is failing.
    pub probe_misses: u32,
    /// Passed heartbeats in a row until an instance is passing.
    pub probe_passes: u32,
    /// From the end of a heartbeat to the next while an instance warms.
    pub warm_interval: Duration,
    /// How long a living but failing instance is left before it is replaced.
    pub replace_after: Duration,
    /// From start to passing, for one instance and for a whole addition.
    pub start_deadline: Duration,
    /// How long open requests may go on after an instance left the table.
    pub drain: Duration,
    /// From SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// Until a stop that failed or did not end is tried again, now as a kill.
    pub stop_retry: Duration,
    /// From one list of all instances to the next, when nothing asks for one earlier.
    pub list_interval: Duration,
    /// The same while the engine is away, or when something asks for one.
    pub list_retry: Duration,
    /// When a list that was asked for is taken as lost.
    pub list_deadline: Duration,
    /// First delay between restarts of one replica; doubles each time. The first restart of a
    /// replica that had been stable is immediate.
    pub backoff_first: Duration,
    /// Longest delay between restarts of one replica.
    pub backoff_max: Duration,
    /// How long an instance must have been admitted for its end not to count as a crash loop.
    pub stable_after: Duration,
    /// Until a failed write of the state is tried again.
    pub persist_retry: Duration,
    /// When a write of the state that has not ended is taken as lost.
    pub persist_deadline: Duration,
    /// Commands that may wait for the running one.
    pub commands_waiting: usize,
    /// Replicas at most; the ring may hold fewer.
    pub replicas_max: usize,
    /// Names that users may give to replicas.
    pub names: NameRule,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_millis(400),
            probe_timeout: Duration::from_millis(400),
            probe_misses: 2,
            probe_passes: 1,
            warm_interval: Duration::from_millis(20),
            replace_after: Duration::from_secs(5),
            start_deadline: Duration::from_secs(30),
            drain: Duration::from_secs(5),
            stop_grace: Duration::from_secs(10),
            stop_retry: Duration::from_secs(1),
            list_interval: Duration::from_secs(5),
            list_retry: Duration::from_millis(250),
            list_deadline: Duration::from_secs(15),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(60),
            stable_after: Duration::from_secs(10),
            persist_retry: Duration::from_secs(1),
            persist_deadline: Duration::from_secs(5),
            commands_waiting: 16,
            replicas_max: MEMBERS_MAX,
            names: NameRule::Docker,
        }
    }
}

impl Limits {
    /// What has to change for more replicas than the limit, or than the ring holds.
    pub fn advice(&self, ring: &RingSettings) -> &'static str {
        if self.replicas_max < ring.replicas_max() { "raise `replicas_max`" } else { ring.advice() }
    }

    /// When a stop that has not ended is taken as lost: the driver has its own, shorter deadline.
    pub fn stop_deadline(&self) -> Duration {
        self.stop_grace + Duration::from_secs(10)
    }

    /// When a start that has not ended is taken as lost: the driver has its own, shorter deadline.
    pub fn start_lost(&self) -> Duration {
        self.start_deadline + Duration::from_secs(5)
    }

    /// When a removal whose containers are still there is answered nevertheless.
    pub fn removal_deadline(&self) -> Duration {
        self.drain + self.stop_deadline() + self.stop_deadline()
    }
}
