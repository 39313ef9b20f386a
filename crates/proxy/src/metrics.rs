//! What the data plane counts. Each worker writes its own numbers; a scrape adds them up.

use std::collections::BTreeMap;

use ringmaster_core::fleet::ids::{InstanceId, ReplicaId};

use super::{
    count::Count,
    histogram::{Histogram, HistogramTotals},
};

/// One metric with its meaning and its values, for a metrics page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Without the prefix of the program.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// The name of the label that tells its values apart, where there are several.
    pub label: Option<&'static str>,
    /// Each value with that of its label.
    pub values: Vec<(&'static str, u64)>,
}

/// Declares the counters of a worker, with the metric that each belongs to: alone, or told from its
/// siblings by a label.
macro_rules! counters {
    (@label) => { None };
    (@label $label:literal) => { Some($label) };
    (@value) => { "" };
    (@value $value:literal) => { $value };
    ($($metric:literal $(by $label:literal)?, $help:literal: $($name:ident $(= $value:literal)?),+;)*) => {
        /// The counters of one worker.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(pub(crate) $name: Count,)+)*
        }

        /// Sums over all workers since the start.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[doc = $help] pub $name: u64,)+)*
            /// By instance, for those that are known: in the table or not yet drained.
            pub instances: Vec<(InstanceId, InstanceTotals)>,
            /// What clients got from each replica of the current table, by all of its instances.
            pub replicas: BTreeMap<ReplicaId, ReplicaTotals>,
            /// The same from all replicas that have left.
            pub gone: ReplicaTotals,
        }

        impl Totals {
            pub(crate) fn add(&mut self, counters: &Counters) {
                $($(self.$name += counters.$name.get();)+)*
            }

            /// The sums as metrics.
            pub fn families(&self) -> Vec<Family> {
                vec![$(Family {
                    name: $metric,
                    help: $help,
                    label: counters!(@label $($label)?),
                    values: vec![$((counters!(@value $($value)?), self.$name)),+],
                },)*]
            }
        }
    };
}

counters! {
    "client_connections_opened_total", "Client connections accepted.": connections_accepted;
    "client_connections_closed_total", "Client connections that ended.": connections_closed;
    "client_connections_http2_total", "Client connections that speak HTTP/2.": connections_h2;
    "client_connections_refused_total" by "reason",
        "Client connections refused: too many, or without saying for whom they come.":
        connections_shed = "limit", connections_unannounced = "not_announced";
    "client_connections_worn_total", "Connections closed after the requests that one may carry.":
        connections_worn;
    "accept_errors_total", "Failed attempts to accept a connection.": accept_errors;
    "requests_total", "Requests to replicas.": requests;
    "control_requests_total", "Requests to the control paths.": control_requests;
    "responses_total" by "code", "Responses to clients, by the class of their status.":
        answered_2xx = "2xx", answered_3xx = "3xx", answered_4xx = "4xx", answered_5xx = "5xx";
    "requests_refused_total" by "reason",
        "Requests that were refused for what they are: answered 408, 431, 400, 414 or 413.":
        header_timeouts = "head_timeout", heads_too_large = "head_too_large",
        heads_malformed = "malformed", refused_requests = "ambiguous",
        uris_too_long = "target_too_long", bodies_too_large = "body_too_large";
    "requests_failed_total" by "reason",
        "Requests that no replica answered in time: answered 502, 503 or 504.":
        no_replica = "no_replica", exhausted = "no_descriptor", queue_full = "queue_full",
        queue_timeouts = "queue_timeout", unanswered = "no_response", timed_out = "timeout";
    "requests_unserved_total",
        "Requests answered 502, 503 or 504 by us, because there was no response of a replica.":
        unserved;
    "request_timeouts_total", "Requests that took longer than a whole one may.": whole_timeouts;
    "upgrades_total", "Requests that became a tunnel.": upgrades;
    "responses_spliced_total", "Responses whose body passed inside the kernel.": spliced;
    "responses_cut_short_total", "Responses that broke off in the middle.": cut_short;
    "keys_skipped_total" by "reason",
        "Keys passed over: too long, or in bodies that are too large, no JSON, or without it.":
        keys_too_long = "too_long", keys_unreadable = "unreadable";
    "keys_random_total", "Keys drawn at random.": keys_random;
    "requests_queued_total",
        "Requests that waited because their replica had as much in flight as it may.": queued;
    "requests_spilled_total", "Requests sent past a full owner to the next replica.": spills;
    "upstream_connections_opened_total", "Connections to replicas begun.": connects;
    "upstream_connections_failed_total", "Connections to replicas that failed.": connects_failed;
    "upstream_connections_reused_total", "Requests that found an open connection to their replica.":
        reused;
    "upstream_connections_stale_total",
        "Open connections that turned out to be closed by the replica.": stale;
    "upstream_connections_lost_total", "Connections lost before a response began.": lost;
    "upstream_responses_malformed_total", "Responses of replicas that are not HTTP.": bad_answers;
    "retries_total", "Requests passed on to another replica.": retries;
    "retries_denied_total", "Retries that the retry budget did not allow.": retries_denied;
    "hedges_total", "Requests sent to another replica because the first was slow.": hedges;
    "hedges_won_total", "Requests that the other replica answered first.": hedges_won;
    "hedges_denied_total", "Hedges that their budget did not allow.": hedges_denied;
    "hedge_measurements_total", "Times that a worker measured anew when a request is slow.":
        hedge_measurements;
    "attempts_ejected_total", "Attempts given up because their instance was ejected.": given_up;
    "error_runs_total", "Runs of error responses after which a replica was suspected.": error_runs;
    "access_log_lines_dropped_total",
        "Lines of the access log that were dropped: too many waited, or the file took none.":
        log_dropped;
    "failure_reports_dropped_total", "Reports of failed requests that found no room.":
        failures_dropped;
    "request_body_bytes_total", "Bytes of request bodies sent to replicas.": bytes_up;
    "response_body_bytes_total", "Bytes of response bodies received from replicas.": bytes_down;
    "routing_tables_total", "Routing tables taken over.": tables;
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
        let values = |name: &str| {
            let families = totals.families();
            let family = families.into_iter().find(|family| family.name == name).unwrap();
            (family.label, family.values)
        };
        assert_eq!(values("requests_total"), (None, vec![("", 3)]));
        let by_code = vec![("2xx", 0), ("3xx", 0), ("4xx", 0), ("5xx", 1)];
        assert_eq!(values("responses_total"), (Some("code"), by_code));
    }
}
