//! How long replicas take to begin their answers, in classes.

use super::count::Count;

/// Upper bounds of the classes in microseconds; what is longer than the last is in one more.
pub const BOUNDS_MICROS: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

const CLASSES: usize = BOUNDS_MICROS.len() + 1;

fn class_of(micros: u64) -> usize {
    BOUNDS_MICROS.partition_point(|&bound| bound < micros)
}

/// The part of one worker.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    classes: [Count; CLASSES],
    micros: Count,
}

impl Histogram {
    pub(crate) fn observe(&self, micros: u64) {
        self.classes[class_of(micros)].bump();
        self.micros.add(micros);
    }
}

/// Sums over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramTotals {
    /// Observations in each class, in the order of [`BOUNDS_MICROS`]; the last is beyond all bounds.
    pub classes: [u64; CLASSES],
    /// The sum of all observations, in microseconds.
    pub micros: u64,
}

impl HistogramTotals {
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        for (sum, class) in self.classes.iter_mut().zip(&histogram.classes) {
            *sum += class.get();
        }
        self.micros += histogram.micros.get();
    }

    pub(crate) fn observe(&mut self, micros: u64) {
        self.classes[class_of(micros)] += 1;
        self.micros += micros;
    }

    /// Takes the observations of another one in, which may be what another process says.
    pub fn merge(&mut self, other: &Self) {
        for (sum, class) in self.classes.iter_mut().zip(other.classes) {
            *sum = sum.saturating_add(class);
        }
        self.micros = self.micros.saturating_add(other.micros);
    }

    /// The observations that were not there yet in an earlier state of the same.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = *self;
        for (class, before) in since.classes.iter_mut().zip(earlier.classes) {
            *class = class.saturating_sub(before);
        }
        since.micros = since.micros.saturating_sub(earlier.micros);
        since
    }

    /// All observations.
    pub fn count(&self) -> u64 {
        self.classes.iter().fold(0, |sum, class| sum.saturating_add(*class))
    }

    /// The upper bound in microseconds of the class in which this part (0 to 1) of the observations
    /// is reached. `None` without observations, or beyond the last bound.
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let wanted = (self.count() as f64 * part).ceil().max(1.0) as u64;
        let mut seen: u64 = 0;
        let class = self.classes.iter().position(|class| {
            seen = class.saturating_add(seen);
            seen >= wanted
        });
        BOUNDS_MICROS.get(class?).copied()
    }
}

impl HistogramTotals {
    /// What this part (0 to 1) of the observations stays below, in microseconds: estimated, as if
    /// those of a class were spread over it evenly. Beyond the last bound it is that bound. `None`
    /// without observations.
    pub fn percentile(&self, part: f64) -> Option<f64> {
        let wanted = self.count() as f64 * part;
        let (mut below, mut lower) = (0.0, 0.0);
        for (class, bound) in self.classes.iter().zip(BOUNDS_MICROS) {
            let (held, upper) = (*class as f64, bound as f64);
            if held > 0.0 && below + held >= wanted {
                return Some(lower + (upper - lower) * (wanted - below) / held);
            }
            (below, lower) = (below + held, upper);
        }
        (self.count() > 0).then_some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_in_the_first_class_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 60_000_000, 60_000_001, u64::from(u32::MAX)] {
            histogram.observe(micros);
        }
        let mut totals = HistogramTotals::default();
        totals.add(&histogram);
        totals.add(&Histogram::default());
        assert_eq!((totals.classes[0], totals.classes[1]), (2, 1));
        assert_eq!((totals.classes[17], totals.classes[18]), (1, 2));
        assert_eq!(totals.count(), 6);
        assert_eq!(totals.micros, 201 + 120_000_001 + u64::from(u32::MAX));
        assert_eq!(totals.quantile(0.3), Some(100));
        assert_eq!(totals.quantile(0.5), Some(250));
        assert_eq!(totals.quantile(0.99), None);
        assert_eq!(HistogramTotals::default().quantile(0.5), None);
        assert!(BOUNDS_MICROS.is_sorted());
        let mut own = HistogramTotals::default();
        for micros in [0, 100, 101, 60_000_000, 60_000_001, u64::from(u32::MAX)] {
            own.observe(micros);
        }
        assert_eq!(own, totals);
    }

    #[test]
    fn percentiles_lie_inside_the_class_that_they_are_reached_in() {
        let mut totals = HistogramTotals::default();
        assert_eq!(totals.percentile(0.5), None);
        for _ in 0..9 {
            totals.observe(300);
        }
        totals.observe(7_000_000);
        // Nine of ten are spread over 250 to 500, one over 5 s to 10 s.
        assert_eq!(totals.percentile(0.0), Some(250.0));
        assert_eq!(totals.percentile(0.45), Some(375.0));
        assert_eq!(totals.percentile(0.9), Some(500.0));
        assert_eq!(totals.percentile(0.95), Some(7_500_000.0));
        assert_eq!(totals.percentile(1.0), Some(10_000_000.0));
        totals.observe(u64::from(u32::MAX));
        assert_eq!(totals.percentile(1.0), Some(60_000_000.0), "no bound is higher");
    }

    #[test]
    fn what_was_merged_can_be_told_apart_again() {
        let (mut one, mut other) = (HistogramTotals::default(), HistogramTotals::default());
        one.observe(90);
        other.observe(90);
        other.observe(2_000);
        let before = one;
        one.merge(&other);
        assert_eq!((one.count(), one.micros), (3, 2_180));
        assert_eq!(one.since(&before), other);
        assert_eq!(before.since(&one), HistogramTotals::default());
    }
}
