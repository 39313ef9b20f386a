//! The counts of a run: every request is counted exactly once.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Most replica names; responses of further ones count as unnamed.
const MAX_NAMES: usize = 1024;
/// Most samples that are kept, about 50 MB.
const MAX_SAMPLES: usize = 2_000_000;
/// The longest recorded latency: an hour, in microseconds. Longer ones count as this.
const LONGEST_LATENCY_US: u64 = 3_600_000_000;

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestError {
    /// No connection: nothing listens there.
    Refused,
    /// No connection for another reason.
    Connect,
    /// No connection within the deadline.
    ConnectTimeout,
    /// The connection was reset.
    Reset,
    /// The connection was closed before the response was complete.
    Closed,
    /// No complete response within the deadline.
    Timeout,
    /// The response was not HTTP.
    Protocol,
    /// A response with a status of 400 or above.
    Status(u16),
    /// Never sent: the run was over before a connection was free.
    Unsent,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Refused => f.write_str("connect refused"),
            RequestError::Connect => f.write_str("connect failed"),
            RequestError::ConnectTimeout => f.write_str("connect timeout"),
            RequestError::Reset => f.write_str("reset"),
            RequestError::Closed => f.write_str("closed early"),
            RequestError::Timeout => f.write_str("timeout"),
            RequestError::Protocol => f.write_str("protocol"),
            RequestError::Status(code) => write!(f, "status {code}"),
            RequestError::Unsent => f.write_str("unsent"),
        }
    }
}

/// The result of a sampled request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A response of the replica at this index of [`Tally::names`].
    Replica(usize),
    /// A response without a replica's name.
    Unnamed,
    /// No response, or one with an error.
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
    /// Latencies of good responses, in microseconds. Failures are counted, not
    /// timed: a quick refusal would make a broken server look fast.
    pub latency: Histogram<u64>,
    /// Good responses (status below 400).
    pub answered: u64,
    /// Good responses without a replica's name.
    pub unnamed: u64,
    /// Failures by kind.
    pub failures: BTreeMap<RequestError, u64>,
    /// Bytes of all bodies received.
    pub body_bytes: u64,
    /// Connections opened, the first ones included.
    pub connections_opened: u64,
    /// Names in the order of their first response.
    pub names: Vec<String>,
    /// Good responses of each name, in the order of `names`.
    pub counts: Vec<u64>,
    /// Every finished request in order, when asked for.
    pub samples: Option<Vec<Sample>>,
    places: HashMap<String, usize>,
}

impl Tally {
    /// Starts at zero. `keep_samples`: whether single requests are kept too.
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

    /// Counts a good response; `name` is its replica, if known.
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

    /// Counts a failure.
    pub fn failure(&mut self, at: Duration, failure: RequestError) {
        *self.failures.entry(failure).or_insert(0) += 1;
        self.sample(at, Outcome::Failed);
    }

    /// All failures together.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Good responses by name.
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
        tally.failure(MS * 5, RequestError::Reset);
        tally.failure(MS * 6, RequestError::Status(503));
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
