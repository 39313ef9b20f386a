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
    /// What is done about living instances that fail.
    pub on_unhealthy: OnUnhealthy,
    /// How long a living but failing instance is left before it is replaced.
    pub replace_after: Duration,
    /// How many living instances are replaced at a time.
    pub replace_max: ReplaceMax,
    /// How long no living instance is replaced after more than half of four or more have failed.
    pub panic_hold: Duration,
    /// How long a replacement of a roll must pass before the next one is started.
    pub bake: Duration,
    /// From one heartbeat that a failed request asked for to the next of the same instance.
    pub suspect_interval: Duration,
    /// How often at most the same suspicion of an instance is noted; others are counted.
    pub suspect_note_interval: Duration,
    /// Starts that may be under way at once; an engine slows down beyond that.
    pub starts_max: usize,
    /// Stops and removals that may be under way at once; a graceful one mostly waits.
    pub stops_max: usize,
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
    /// From one lookup of the host of a registered server to the next.
    pub lookup_interval: Duration,
    /// When a lookup is taken as lost, and begun again.
    pub lookup_deadline: Duration,
    /// How long a registration waits for the first check of the server.
    pub register_wait: Duration,
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
    /// Replicas that a removal leaves at least.
    pub replicas_min: usize,
    /// Names that users may give to replicas.
    pub names: NameRule,
}

/// What is done about a living instance that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnhealthy {
    /// It leaves the table, and is replaced if it goes on failing.
    #[default]
    Replace,
    /// It leaves the table until it passes again.
    Eject,
    /// Nothing: only an end, a pause or a lost network takes it out of the table.
    Ignore,
}

impl OnUnhealthy {
    /// All of them, in the order of the documentation.
    pub const ALL: [OnUnhealthy; 3] = [Self::Replace, Self::Eject, Self::Ignore];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Eject => "eject",
            Self::Ignore => "ignore",
        }
    }

    /// The rule with a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// How many living instances are replaced at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplaceMax {
    /// So many.
    Count(usize),
    /// So many percent of the desired replicas, rounded down, but at least one.
    Percent(u8),
}

impl ReplaceMax {
    /// For a fleet of so many replicas.
    pub fn of(self, replicas: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (replicas.saturating_mul(percent.into()) / 100).max(1),
        }
    }
}

impl std::str::FromStr for ReplaceMax {
    type Err = String;

    /// `3` or `25%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is neither a number of at least 1 nor a part like 25%");
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().ok().filter(|percent| (1..=100).contains(percent));
                percent.map(Self::Percent).ok_or_else(wrong)
            }
            None => {
                let count = text.parse().ok().filter(|&count| count >= 1);
                count.map(Self::Count).ok_or_else(wrong)
            }
        }
    }
}

impl std::fmt::Display for ReplaceMax {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_millis(400),
            probe_timeout: Duration::from_millis(400),
            probe_misses: 2,
            probe_passes: 1,
            warm_interval: Duration::from_millis(20),
            on_unhealthy: OnUnhealthy::Replace,
            replace_after: Duration::from_secs(5),
            replace_max: ReplaceMax::Percent(25),
            panic_hold: Duration::from_secs(120),
            bake: Duration::from_secs(10),
            suspect_interval: Duration::from_millis(200),
            suspect_note_interval: Duration::from_secs(10),
            starts_max: 8,
            stops_max: 16,
            start_deadline: Duration::from_secs(30),
            drain: Duration::from_secs(5),
            stop_grace: Duration::from_secs(10),
            stop_retry: Duration::from_secs(1),
            list_interval: Duration::from_secs(5),
            list_retry: Duration::from_millis(250),
            list_deadline: Duration::from_secs(15),
            lookup_interval: Duration::from_secs(5),
            lookup_deadline: Duration::from_secs(5),
            register_wait: Duration::from_secs(1),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(60),
            stable_after: Duration::from_secs(10),
            persist_retry: Duration::from_secs(1),
            persist_deadline: Duration::from_secs(5),
            commands_waiting: 16,
            replicas_max: MEMBERS_MAX,
            replicas_min: 0,
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

    /// When a removal of so many replicas is answered although their containers are still there.
    pub fn removal_deadline(&self, replicas: usize) -> Duration {
        let rounds = replicas.div_ceil(self.stops_max.max(1)).max(1);
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        self.drain + self.stop_deadline().saturating_mul(rounds) + self.stop_deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_fleet_is_rounded_down_and_at_least_one() {
        let max: ReplaceMax = "25%".parse().unwrap();
        assert_eq!([0, 1, 4, 7, 8, 56].map(|n| max.of(n)), [1, 1, 1, 1, 2, 14]);
        assert_eq!("3".parse::<ReplaceMax>().unwrap().of(100), 3);
        for bad in ["", "0", "0%", "101%", "-1", "a", "25 %", "1.5"] {
            assert!(bad.parse::<ReplaceMax>().is_err(), "{bad}");
        }
    }
}
