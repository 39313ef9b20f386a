//! When a slow request is worth a second try, and how many may get one. Pure: answers and times are
//! arguments.
//!
//! A request that has waited for longer than nineteen of twenty others is sent to the next replica
//! of its key as well, and the first answer wins. That shortens the tail where a replica is slow by
//! chance (a pause, a full disk queue), and only there: where all are slow, what counts as slow rises
//! with the next measurement, and the budget bounds what hedging adds until then.

use std::time::Duration;

use super::{budget::RetryBudget, histogram::HistogramTotals};

/// The part of the answers that has begun when a hedge is sent.
const QUANTILE: f64 = 0.95;
/// Answers that a measurement needs: of fewer, the slowest twentieth is hardly more than chance.
const ANSWERS_MIN: u64 = 100;
/// From one measurement to the next, in milliseconds.
const REFRESH: u64 = 1_000;
/// Hedges that may come at once after a quiet time.
const BURST: u32 = 10;

/// What one worker knows of hedging.
#[derive(Clone, Debug)]
pub(crate) struct Hedging {
    /// Since the last measurement.
    recent: HistogramTotals,
    after: Option<Duration>,
    measured_at: Option<u64>,
    budget: RetryBudget,
}

impl Hedging {
    /// At most so many hedges, in percent of requests.
    pub(crate) fn new(percent: u32) -> Self {
        Self {
            recent: HistogramTotals::default(),
            after: None,
            measured_at: None,
            // Nothing comes by time alone: a hedge is a favour, never needed for an answer.
            budget: RetryBudget::new(percent, 0.0, BURST),
        }
    }

    /// How long a request waits before it is hedged; `None` while too little is known, or where
    /// answers take longer than can be measured.
    pub(crate) fn after(&self) -> Option<Duration> {
        self.after
    }

    /// A request has waited so long for its answer. If a hedge won it counts since the first attempt:
    /// without these, those who are slow would seem to be fewer with each hedge.
    pub(crate) fn observe(&mut self, micros: u64) {
        self.recent.observe(micros);
    }

    /// Measures anew at `now`, in milliseconds, if it is time and enough is known: the first time as
    /// soon as it is. Returns whether it did.
    pub(crate) fn refresh(&mut self, now: u64) -> bool {
        let is_time = self.measured_at.is_none_or(|last| now.saturating_sub(last) >= REFRESH);
        if !is_time || self.recent.count() < ANSWERS_MIN {
            return false;
        }
        self.measured_at = Some(now);
        self.after = self.recent.quantile(QUANTILE).map(Duration::from_micros);
        self.recent = HistogramTotals::default();
        true
    }

    /// A request came in: it pays for a part of a hedge.
    pub(crate) fn deposit(&mut self) {
        self.budget.deposit();
    }

    /// Whether one more hedge is allowed.
    pub(crate) fn withdraw(&mut self) -> bool {
        self.budget.withdraw(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(hedging: &mut Hedging, answers: usize, micros: u64) {
        (0..answers).for_each(|_| hedging.observe(micros));
    }

    #[test]
    fn the_slowest_twentieth_is_slow() {
        let mut hedging = Hedging::new(2);
        observe(&mut hedging, 95, 900);
        observe(&mut hedging, 5, 80_000);
        assert!(hedging.refresh(1_000));
        assert_eq!(hedging.after(), Some(Duration::from_millis(1)));
        // Only what came since counts.
        observe(&mut hedging, 94, 900);
        observe(&mut hedging, 6, 80_000);
        assert!(hedging.refresh(2_000));
        assert_eq!(hedging.after(), Some(Duration::from_millis(100)));
        // What cannot be measured is not waited for.
        observe(&mut hedging, 100, 70_000_000);
        assert!(hedging.refresh(3_000));
        assert_eq!(hedging.after(), None);
    }

    #[test]
    fn too_few_answers_change_nothing_and_are_not_forgotten() {
        let mut hedging = Hedging::new(2);
        observe(&mut hedging, 99, 900);
        assert!(!hedging.refresh(5_000));
        assert_eq!(hedging.after(), None);
        observe(&mut hedging, 1, 900);
        assert!(hedging.refresh(5_100));
        let known = Some(Duration::from_millis(1));
        assert_eq!(hedging.after(), known);
        observe(&mut hedging, 99, 80_000);
        assert!(!hedging.refresh(60_000));
        assert_eq!(hedging.after(), known);
    }

    #[test]
    fn it_is_measured_once_a_second() {
        let mut hedging = Hedging::new(2);
        observe(&mut hedging, 200, 900);
        assert!(hedging.refresh(100));
        observe(&mut hedging, 200, 900);
        assert!(!hedging.refresh(1_099));
        // A clock that runs backwards is no second.
        assert!(!hedging.refresh(5));
        assert!(hedging.refresh(1_100));
    }

    #[test]
    fn hedges_are_at_most_their_part_of_requests() {
        let mut hedging = Hedging::new(2);
        let mut hedges = 0;
        for _ in 0..10_000 {
            hedging.deposit();
            hedges += u32::from(hedging.withdraw());
        }
        assert!((200..=200 + BURST).contains(&hedges), "{hedges}");
        // Quiet requests save up for a burst, no more.
        (0..10_000).for_each(|_| hedging.deposit());
        assert_eq!((0..100).filter(|_| hedging.withdraw()).count(), BURST as usize);
    }
}
