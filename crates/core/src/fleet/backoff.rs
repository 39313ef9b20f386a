//! How long a replica waits before it is started again: a crash loop slows itself down, and no
//! other replica.

use std::time::Duration;

use super::{ids::Moment, limits::Limits};

/// The restart history of one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    not_before: Moment,
}

impl Backoff {
    /// When the next start is due.
    pub fn not_before(&self) -> Moment {
        self.not_before
    }

    /// Unexpected ends in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Lets the next start come at once; what failed is not forgotten.
    pub fn retry_now(&mut self) {
        self.not_before = Moment(0);
    }

    /// Notes an unexpected end. `admitted_for`: how long the instance had been in service.
    /// `roll`: chance, 0 to 1.
    pub fn record(
        &mut self,
        now: Moment,
        admitted_for: Option<Duration>,
        limits: &Limits,
        roll: f64,
    ) {
        let was_stable = admitted_for.is_some_and(|time| time >= limits.stable_after);
        self.failures = if was_stable { 1 } else { self.failures.saturating_add(1) };
        self.not_before = now + delay(self.failures, limits, roll);
    }
}

/// Nothing for the first failure, then `backoff_first` doubled each time up to `backoff_max`, of
/// which `roll` takes away up to a half so that replicas do not start in step.
pub fn delay(failures: u32, limits: &Limits, roll: f64) -> Duration {
    if failures <= 1 {
        return Duration::ZERO;
    }
    let doublings = (failures - 2).min(31);
    let full = limits.backoff_first.saturating_mul(1 << doublings).min(limits.backoff_max);
    full.mul_f64(1.0 - roll.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_double() {
        let limits = Limits::default();
        let delays: Vec<_> = (1..=13).map(|n| delay(n, &limits, 0.0).as_millis()).collect();
        let expected =
            [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000, 60_000];
        assert_eq!(delays, expected);
        assert_eq!(delay(u32::MAX, &limits, 1.0), limits.backoff_max / 2);
    }

    #[test]
    fn a_stable_time_forgets_the_past() {
        let limits = Limits::default();
        let mut backoff = Backoff::default();
        let short = Some(Duration::from_secs(1));
        for _ in 0..3 {
            backoff.record(Moment(0), short, &limits, 0.0);
        }
        assert_eq!(backoff.not_before(), Moment(200));
        backoff.record(Moment(50_000), Some(limits.stable_after), &limits, 0.0);
        assert_eq!((backoff.failures(), backoff.not_before()), (1, Moment(50_000)));
    }
}
