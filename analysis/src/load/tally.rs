//! The books of a run: every request ends in exactly one column.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Different replica names that are told apart; answers of further ones count as unnamed.
const MAX_NAMES: usize = 1024;
/// Samples that are kept at most, about 50 MB.
const MAX_SAMPLES: usize = 2_000_000;
/// The longest latency that is told apart from longer ones: an hour, in microseconds.
const LONGEST_LATENCY_US: u64 = 3_600_000_000;

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// No connection: nothing listens there.
    Refused,
    /// No connection for another reason.
    Connect,
    /// No connection within the deadline.
    ConnectTimeout,
    /// The connection was reset.
    Reset,
    /// The connection was closed before the answer was complete.
    Closed,
    /// No complete answer within the deadline.
    Timeout,
    /// The answer was not HTTP.
    Protocol,
    /// An answer with a status of 400 or above.
    Status(u16),
    /// Never sent: the run was over before a connection was free.
    Unsent,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("connect refused"),
            Failure::Connect => f.write_str("connect failed"),
            Failure::ConnectTimeout => f.write_str("connect timeout"),
            Failure::Reset => f.write_str("reset"),
            Failure::Closed => f.write_str("closed early"),
            Failure::Timeout => f.write_str("timeout"),
            Failure::Protocol => f.write_str("protocol"),
            Failure::Status(code) => write!(f, "status {code}"),
            Failure::Unsent => f.write_str("unsent"),
        }
    }
}

/// Who answered a sampled request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The replica at this place of [`Tally::names`].
    Replica(usize),
    /// Somebody who did not say a name.
    Unnamed,
    /// Nobody, or with an error.
    Failed,
}

/// One finished request on the time line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it was finished, counted from the start.
    pub at: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// All counts of one run.
#[derive(Debug)]
pub struct Tally {
    /// Latencies of good answers, in microseconds. Failures are counted, not
    /// timed: a quick refusal would make a broken server look fast.
    pub latency: Histogram<u64>,
    /// Good answers (status below 400).
    pub answered: u64,
    /// Good answers whose body named no replica.
    pub unnamed: u64,
    /// Failures by kind.
    pub failures: BTreeMap<Failure, u64>,
    /// Bytes of all bodies received.
    pub body_bytes: u64,
    /// Connections opened, the first ones included.
    pub connections_opened: u64,
    /// Names in the order they first answered.
    pub names: Vec<String>,
    /// Good answers of each name, in the order of `names`.
    pub counts: Vec<u64>,
    /// Every finished request in order, when asked for.
    pub samples: Option<Vec<Sample>>,
    places: HashMap<String, usize>,
}

impl Tally {
    /// Empty books; `keep_samples` says whether single requests are kept too.
    ///
    /// # Errors
    /// When the histogram cannot be built.
    pub fn new(keep_samples: bool) -> anyhow::Result<Tally> {
        Ok(Tally {
            latency: Histogram::new_with_bounds(1, LONGEST_LATENCY_US, 3)?,
            answered: 0,
            unnamed: 0,
            failures: BTreeMap::new(),
            body_bytes: 0,
            connections_opened: 0,
            names: Vec::new(),
            counts: Vec::new(),
            samples: keep_samples.then(Vec::new),
            places: HashMap::new(),
        })
    }

    /// Books a good answer; `name` is the replica that gave it, if it said so.
    pub fn answer(&mut self, at: Duration, latency: Duration, name: Option<&str>) {
        self.answered += 1;
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros.max(1));
        let place = name.and_then(|name| self.place(name));
        match place {
            Some(place) => self.counts[place] += 1,
            None => self.unnamed += 1,
        }
        self.sample(at, place.map_or(Outcome::Unnamed, Outcome::Replica));
    }

    /// Books a failure.
    pub fn failure(&mut self, at: Duration, failure: Failure) {
        *self.failures.entry(failure).or_insert(0) += 1;
        self.sample(at, Outcome::Failed);
    }

    /// All failures together.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Good answers by name.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<&str, u64> {
        self.names.iter().map(String::as_str).zip(self.counts.iter().copied()).collect()
    }

    fn place(&mut self, name: &str) -> Option<usize> {
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        if self.names.len() >= MAX_NAMES {
            return None;
        }
        let place = self.names.len();
        self.names.push(name.to_owned());
        self.counts.push(0);
        self.places.insert(name.to_owned(), place);
        Some(place)
    }

    fn sample(&mut self, at: Duration, outcome: Outcome) {
        if let Some(samples) = &mut self.samples
            && samples.len() < MAX_SAMPLES
        {
            samples.push(Sample { at, outcome });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn every_request_is_booked_once() {
        let mut tally = Tally::new(true).unwrap();
        tally.answer(MS, MS, Some("b"));
        tally.answer(MS * 2, MS, Some("a"));
        tally.answer(MS * 3, MS, Some("b"));
        tally.answer(MS * 4, MS, None);
        tally.failure(MS * 5, Failure::Reset);
        tally.failure(MS * 6, Failure::Status(503));
        assert_eq!((tally.answered, tally.unnamed, tally.failed()), (4, 1, 2));
        assert_eq!(tally.by_name(), BTreeMap::from([("a", 1), ("b", 2)]));
        assert_eq!(tally.latency.len(), 4);
        let outcomes: Vec<Outcome> =
            tally.samples.iter().flatten().map(|sample| sample.outcome).collect();
        let (b, a) = (Outcome::Replica(0), Outcome::Replica(1));
        assert_eq!(outcomes, [b, a, b, Outcome::Unnamed, Outcome::Failed, Outcome::Failed]);
    }

    #[test]
    fn names_are_bounded() {
        let mut tally = Tally::new(false).unwrap();
        for number in 0..MAX_NAMES + 5 {
            tally.answer(MS, MS, Some(&number.to_string()));
        }
        assert_eq!((tally.names.len(), tally.unnamed), (MAX_NAMES, 5));
    }
}
