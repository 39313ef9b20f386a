//! What the data plane counts. Each worker writes its own numbers; a scrape adds them up.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::histogram::{Histogram, HistogramTotals};
use crate::fleet::ids::{InstanceId, ReplicaId};

/// A number with one writer: no read-modify-write instruction is needed.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, amount: u64) {
        self.0.store(self.get().wrapping_add(amount), Relaxed);
    }

    pub(crate) fn bump(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One number with its name and meaning, for a metrics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, in snake case.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// The number.
    pub value: u64,
}

macro_rules! counters {
    ($($name:ident: $help:literal,)*) => {
        /// The counters of one worker.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Count,)*
        }

        /// Sums over all workers since the start.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $(#[doc = $help] pub $name: u64,)*
            /// By instance, for those that are known: in the table or not yet drained.
            pub instances: Vec<(InstanceId, InstanceTotals)>,
            /// What clients got from each replica of the current table, by all of its instances.
            pub replicas: BTreeMap<ReplicaId, ReplicaTotals>,
            /// The same from all replicas that have left.
            pub gone: ReplicaTotals,
        }

        impl Totals {
            pub(crate) fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.get();)*
            }

            /// The sums with their names and meanings.
            pub fn fields(&self) -> Vec<Field> {
                vec![$(Field { name: stringify!($name), help: $help, value: self.$name },)*]
            }
        }
    };
}

counters! {
    connections_accepted: "Client connections accepted.",
    connections_closed: "Client connections that ended.",
    connections_h2: "Client connections that speak HTTP/2.",
    connections_shed: "Client connections refused because there were too many.",
    connections_unannounced: "Client connections closed because they did not say for whom they come.",
    accept_errors: "Failed attempts to accept a connection.",
    header_timeouts: "Clients that took too long to send the head of a request.",
    heads_too_large: "Connections closed because a head was too large or had too many fields.",
    heads_malformed: "Connections closed because a head could not be understood.",
    connections_worn: "Connections closed after the requests that one may carry.",
    requests: "Requests to replicas.",
    upgrades: "Requests that became a tunnel.",
    spliced: "Answers whose body passed inside the kernel.",
    control_requests: "Requests to the control paths.",
    answered_2xx: "Answers to clients with a status below 300.",
    answered_3xx: "Answers to clients with a status of 300 to 399.",
    answered_4xx: "Answers to clients with a status of 400 to 499.",
    answered_5xx: "Answers to clients with a status of 500 and above.",
    no_replica: "Requests answered 503 because no replica was admitted.",
    exhausted: "Requests answered 503 because no descriptor was left for a connection.",
    unanswered: "Requests answered 502.",
    unserved: "Requests answered 502, 503 or 504 by us, because there was no answer of a replica.",
    timed_out: "Requests answered 504.",
    uris_too_long: "Requests answered 414.",
    bodies_too_large: "Requests answered 413.",
    whole_timeouts: "Requests that took longer than a whole one may.",
    refused_requests: "Requests refused because they are ambiguous or not for a proxy.",
    keys_too_long: "Keys passed over because they are too long.",
    keys_unreadable: "Bodies passed over because they are too large, no JSON, or without the key.",
    keys_random: "Keys drawn at random.",
    queued: "Requests that waited because their replica had as much in flight as it may.",
    queue_full: "Requests answered 503 because too many waited already.",
    queue_timeouts: "Requests answered 503 because they had waited for too long.",
    spills: "Requests sent past a full owner to the next replica.",
    connects: "Connections to replicas begun.",
    connects_failed: "Connections to replicas that failed.",
    reused: "Requests that found an open connection to their replica.",
    stale: "Open connections that turned out to be closed by the replica.",
    retries: "Requests passed on to another replica.",
    retries_denied: "Retries that the retry budget did not allow.",
    hedges: "Requests sent to another replica because the first was slow.",
    hedges_won: "Requests that the other replica answered first.",
    hedges_denied: "Hedges that their budget did not allow.",
    hedge_measurements: "Times that a worker measured anew when a request is slow.",
    given_up: "Requests given up because their instance was ejected.",
    lost: "Connections lost before an answer began.",
    error_runs: "Runs of error answers after which a replica was suspected.",
    bad_answers: "Answers of replicas that are not HTTP.",
    cut_short: "Answers that broke off in the middle.",
    log_dropped: "Lines of the access log that were dropped: too many waited, or the file took none.",
    failures_dropped: "Failure reports that nobody had room for.",
    bytes_up: "Bytes of request bodies sent to replicas.",
    bytes_down: "Bytes of answers' bodies received from replicas.",
    tables: "Routing tables taken over.",
}

/// What one instance was asked and answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstanceTotals {
    /// Requests that were given to it.
    pub requests: u64,
    /// Requests that it did not answer, and answers of 500 and above.
    pub errors: u64,
    /// Bytes of request bodies, and of tunnels, that were sent to it.
    pub bytes_up: u64,
    /// Bytes of bodies, and of tunnels, that came from it.
    pub bytes_down: u64,
    /// How long it took to begin its answers.
    pub answers: HistogramTotals,
    /// Requests that are open now.
    pub in_flight: u64,
}

/// The part of one worker in an instance's totals.
#[derive(Debug, Default)]
pub(crate) struct InstanceCounters {
    pub(crate) requests: Count,
    pub(crate) errors: Count,
    pub(crate) bytes_up: Count,
    pub(crate) bytes_down: Count,
    pub(crate) answers: Histogram,
    pub(crate) served: ServedCounters,
}

/// What clients got from a replica.
///
/// Attempts are no part of it: of a request that was retried or hedged only the answer counts that
/// was passed on. It is counted before its first byte is written to the client, and an answer that
/// breaks off becomes an error before the client is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaTotals {
    /// Answers of 500 and above, and answers that broke off.
    pub errors: u64,
    /// The answers, by the time from the beginning of the attempt to their first byte.
    pub times: HistogramTotals,
}

impl ReplicaTotals {
    /// Answers that were passed on.
    pub fn requests(&self) -> u64 {
        self.times.count()
    }

    /// Takes what another one counted in.
    pub fn merge(&mut self, other: &Self) {
        self.errors = self.errors.saturating_add(other.errors);
        self.times.merge(&other.times);
    }

    /// What was counted after an earlier state of the same.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            errors: self.errors.saturating_sub(earlier.errors),
            times: self.times.since(&earlier.times),
        }
    }

    pub(crate) fn add(&mut self, counters: &ServedCounters) {
        // Before the answers themselves, so that hardly ever an error is seen without its answer.
        self.errors += counters.errors.get();
        self.times.add(&counters.times);
    }
}

/// The part of one worker in what clients got from an instance.
#[derive(Debug, Default)]
pub(crate) struct ServedCounters {
    errors: Count,
    times: Histogram,
}

impl ServedCounters {
    /// An answer is passed on whose first byte took so many microseconds.
    pub(crate) fn pass_on(&self, micros: u64, is_error: bool) {
        self.times.observe(micros);
        if is_error {
            self.errors.bump();
        }
    }

    /// An answer that was no error so far has broken off.
    pub(crate) fn break_off(&self) {
        self.errors.bump();
    }
}

impl InstanceTotals {
    pub(crate) fn add(&mut self, counters: &InstanceCounters) {
        self.requests += counters.requests.get();
        self.errors += counters.errors.get();
        self.bytes_up += counters.bytes_up.get();
        self.bytes_down += counters.bytes_down.get();
        self.answers.add(&counters.answers);
    }
}

impl Counters {
    /// Counts an answer to a client.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        match status.as_u16() {
            0..300 => self.answered_2xx.bump(),
            300..400 => self.answered_3xx.bump(),
            400..500 => self.answered_4xx.bump(),
            _ => self.answered_5xx.bump(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_adds_workers_up() {
        let (one, two) = (Counters::default(), Counters::default());
        one.requests.bump();
        two.requests.add(2);
        two.answered(http::StatusCode::BAD_GATEWAY);
        let mut totals = Totals::default();
        totals.add(&one);
        totals.add(&two);
        assert_eq!((totals.requests, totals.answered_5xx), (3, 1));
        let field = totals.fields().into_iter().find(|f| f.name == "requests");
        assert_eq!(field.map(|f| f.value), Some(3));
    }
}
