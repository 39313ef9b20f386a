//! How long an instance takes: a moving average that believes bad news at once.

/// How fast old answers are forgotten: after this time they count e times less.
pub(super) const DECAY_MILLIS: f64 = 10_000.0;
/// What a failure counts at least. One that fails fast would else look like the fastest.
const FAILURE_MICROS: f64 = 1_000_000.0;
/// What an instance is taken to need at least. It keeps one that has not been asked for long from
/// looking free, however much it has in flight.
const LEAST_MICROS: f64 = 100.0;

/// The peak-sensitive moving average of an instance's latency. Pure: time is an argument, in
/// milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ewma {
    /// Microseconds at the time of the last sample; `None` before the first.
    micros: Option<f64>,
    at: u64,
}

impl Ewma {
    /// With one more sample. What is above the average replaces it; what is below draws it down
    /// the more, the longer the last sample is ago.
    #[must_use]
    pub fn with(self, micros: u64, failed: bool, now: u64) -> Self {
        let sample = if failed { (micros as f64).max(FAILURE_MICROS) } else { micros as f64 };
        let at = self.at.max(now);
        let micros = match self.micros {
            Some(average) if sample < average => {
                let weight = self.weight(at);
                average * weight + sample * (1.0 - weight)
            }
            _ => sample,
        };
        Self { micros: Some(micros), at }
    }

    /// What one more request costs here: the average for each request that is open already and
    /// for itself. The average fades while there are no samples, so that an instance that was
    /// slow is asked again. One that never answered gets one request at a time.
    pub fn cost(self, in_flight: u64, now: u64) -> f64 {
        let micros = match self.micros {
            Some(average) => average * self.weight(now),
            None if in_flight > 0 => FAILURE_MICROS,
            None => 0.0,
        };
        micros.max(LEAST_MICROS) * (in_flight as f64 + 1.0)
    }

    /// What the past counts at a time.
    fn weight(self, now: u64) -> f64 {
        (-(now.saturating_sub(self.at) as f64) / DECAY_MILLIS).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{
        peak_ewma,
        testing::{candidates, rolls},
    };

    #[test]
    fn bad_news_count_at_once_and_good_ones_slowly() {
        let calm = Ewma::default().with(1_000, false, 0);
        assert_eq!(calm.cost(0, 0), 1_000.0);
        assert_eq!(calm.cost(3, 0), 4_000.0);
        let peak = calm.with(50_000, false, 100);
        assert_eq!(peak.cost(0, 100), 50_000.0);
        let soon = peak.with(1_000, false, 200).cost(0, 200);
        assert!((49_000.0..50_000.0).contains(&soon), "{soon}");
        // After one time constant the rest of the peak is 1/e.
        let later = peak.with(1_000, false, 10_100).cost(0, 10_100);
        assert!((later - (49_000.0 / std::f64::consts::E + 1_000.0)).abs() < 1.0, "{later}");
        // Time that runs backwards changes nothing.
        assert_eq!(peak.with(1_000, false, 0).cost(0, 0), 50_000.0);
    }

    #[test]
    fn without_samples_the_past_fades_but_never_to_zero() {
        let slow = Ewma::default().with(1_000_000, false, 0);
        assert!(slow.cost(0, 20_000) < 150_000.0);
        assert_eq!(slow.cost(0, 10_000_000), LEAST_MICROS);
        assert_eq!(slow.cost(9, 10_000_000), LEAST_MICROS * 10.0);
    }

    #[test]
    fn a_newcomer_gets_one_request_at_a_time() {
        let known = Ewma::default().with(2_000, false, 0);
        let new = Ewma::default();
        assert!(new.cost(0, 0) < known.cost(0, 0));
        assert!(new.cost(1, 0) > known.cost(100, 0));
    }

    #[test]
    fn failures_count_a_second_at_least() {
        assert_eq!(Ewma::default().with(50, true, 0).cost(0, 0), 1_000_000.0);
        assert_eq!(Ewma::default().with(3_000_000, true, 0).cost(0, 0), 3_000_000.0);
    }

    /// A minute with a request in each millisecond: one member fails within 50 µs, the others
    /// answer in 5 ms.
    #[test]
    fn who_fails_fast_does_not_attract_load() {
        let all = candidates(&[1, 1, 1]);
        let mut members = [Ewma::default(); 3];
        let mut rolls = rolls(9);
        let mut failed = 0;
        let requests = 60_000;
        for now in 0..requests {
            let pair = [rolls.next().unwrap(), rolls.next().unwrap()];
            let cost = |member: crate::ring::MemberIndex| members[member.0 as usize].cost(0, now);
            let picked = peak_ewma(&all, cost, pair).unwrap().0 as usize;
            let fails = picked == 0;
            let micros = if fails { 50 } else { 5_000 };
            members[picked] = members[picked].with(micros, fails, now);
            failed += u64::from(fails);
        }
        assert!(failed < requests / 1_000, "{failed} of {requests}");
        assert!(failed > 0, "it is asked again now and then");
    }
}
