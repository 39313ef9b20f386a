//! The keys of the simulated requests, and their frequencies.

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution as _, Zipf};
use ringmaster_core::ring::{Ring, RingSettings, Slot};

/// The smallest six-digit number: requests without a key get a random six-digit number.
const FIRST: u32 = 100_000;
/// The number of six-digit numbers.
pub const KEYS_MAX: u32 = 900_000;

/// How requests spread over the keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Each key as often as any other.
    Uniform,
    /// The k-th key with a frequency of 1/k^exponent.
    Zipf {
        /// The larger, the more requests are for the first keys; 0 is uniform.
        exponent: f64,
    },
}

/// Different keys with their frequencies. They are six-digit numbers, as the balancer draws for
/// requests without a key.
#[derive(Debug)]
pub(super) struct Keys {
    slots: Vec<Slot>,
    frequencies: Vec<f64>,
    zipf: Option<Zipf<f64>>,
}

impl Keys {
    /// Draws `count` different keys; the first one drawn is the most popular.
    pub(super) fn draw(
        settings: &RingSettings,
        count: u32,
        distribution: Distribution,
        seed: u64,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = count.clamp(1, KEYS_MAX) as usize;
        let drawn = rand::seq::index::sample(&mut rng, KEYS_MAX as usize, count);
        let slot =
            |number: usize| settings.slot_of((FIRST as usize + number).to_string().as_bytes());
        let exponent = match distribution {
            Distribution::Uniform => 0.0,
            Distribution::Zipf { exponent } => exponent,
        };
        Self {
            slots: drawn.iter().map(slot).collect(),
            frequencies: (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect(),
            // Fails only for invalid parameters, which are checked before.
            zipf: (exponent > 0.0).then(|| Zipf::new(count as f64, exponent).ok()).flatten(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The sum of frequencies by member index, if each request goes to the owner of its key.
    pub(super) fn loads(&self, ring: &Ring) -> Vec<f64> {
        let mut loads = vec![0.0; ring.members().len()];
        for (&slot, frequency) in self.slots.iter().zip(&self.frequencies) {
            if let Some(owner) = ring.owner(slot) {
                loads[owner.0 as usize] += frequency;
            }
        }
        loads
    }

    /// The slot of the next request's key.
    pub(super) fn request(&self, rng: &mut impl Rng) -> Slot {
        let index = match &self.zipf {
            Some(zipf) => zipf.sample(rng) as usize - 1,
            None => rng.random_range(0..self.slots.len()),
        };
        self.slots[index.min(self.slots.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_the_frequencies() {
        let settings = RingSettings { slots: 65_536, ..RingSettings::default() };
        let zipf = Distribution::Zipf { exponent: 1.1 };
        let keys = Keys::draw(&settings, 1_000, zipf, 1);
        let mut rng = StdRng::seed_from_u64(2);
        let first = (0..20_000).filter(|_| keys.request(&mut rng) == keys.slots[0]).count();
        let all: f64 = keys.frequencies.iter().sum();
        let expected = keys.frequencies[0] / all;
        assert!((first as f64 / 20_000.0 - expected).abs() < 0.01, "{first}, {expected}");
    }

    #[test]
    fn keys_are_different_and_follow_from_the_seed() {
        let settings = RingSettings::default();
        let slots = |seed| Keys::draw(&settings, 500, Distribution::Uniform, seed).slots;
        assert_eq!(slots(1), slots(1));
        assert_ne!(slots(1), slots(2));
        let all = Keys::draw(&settings, KEYS_MAX, Distribution::Uniform, 1);
        assert_eq!(all.len(), 900_000);
    }
}
