//! Bounded load with a fixed number of requests in flight: the share that spills past the owner.

use rand::{RngExt, rngs::StdRng};
use ringmaster_core::{
    balance::load_bound,
    ring::{MemberIndex, Ring},
};

use super::keys::Keys;

/// How bounded load is simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounded {
    /// The bound on a replica's requests in flight, as a multiple of the average.
    pub factor: f64,
    /// Requests in flight per replica, at all times.
    pub in_flight: u32,
}

/// The effect of bounded load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spilled {
    /// The part of all requests that did not go to the owner of their key, 0 to 1.
    pub spill_share: f64,
    /// The most requests in flight of any replica at any time, over the average.
    pub peak_to_average: f64,
    /// The same as a number of requests.
    pub peak: u64,
}

/// Fills the ring with requests, then replaces one request by the next, as often as there are keys.
/// The request that ends is drawn at random. `None` on an empty ring.
///
/// A request goes to the first replica of its key's preference list that is below its bound.
pub(super) fn run(ring: &Ring, keys: &Keys, bounded: Bounded, rng: &mut StdRng) -> Option<Spilled> {
    let weights: Vec<u32> = ring.members().iter().map(|member| member.weight).collect();
    let all_weights: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    if all_weights == 0 {
        return None;
    }
    let population = weights.len() * bounded.in_flight as usize;
    let mut loads = vec![0u64; weights.len()];
    let mut in_flight: Vec<MemberIndex> = Vec::with_capacity(population);
    let (mut spilled, mut requests, mut peak) = (0u64, 0u64, 0u64);
    let mut most_relative = 0.0f64;
    for _ in 0..population + keys.len() {
        let is_full = in_flight.len() == population;
        if is_full {
            let ended = in_flight.swap_remove(rng.random_range(0..population));
            loads[ended.0 as usize] -= 1;
        }
        let before = in_flight.len() as u64;
        let has_room = |member: &MemberIndex| {
            let weight = weights[member.0 as usize];
            loads[member.0 as usize] < load_bound(bounded.factor, before, weight, all_weights)
        };
        let slot = keys.request(rng);
        let owner = ring.owner(slot)?;
        // A replica is always found: the sum of the bounds is larger than the number in flight.
        let chosen = ring.preference(slot).find(has_room).unwrap_or(owner);
        loads[chosen.0 as usize] += 1;
        in_flight.push(chosen);
        if is_full {
            requests += 1;
            spilled += u64::from(chosen != owner);
            let load = loads[chosen.0 as usize];
            peak = peak.max(load);
            let weight = f64::from(weights[chosen.0 as usize]);
            let average = population as f64 * weight / all_weights as f64;
            most_relative = most_relative.max(load as f64 / average);
        }
    }
    Some(Spilled {
        spill_share: spilled as f64 / requests.max(1) as f64,
        peak_to_average: most_relative,
        peak,
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use ringmaster_core::ring::{RingId, RingSettings, membership};

    use super::*;
    use crate::simulate::Distribution;

    fn spilled(factor: f64, exponent: f64) -> Spilled {
        let settings = RingSettings::default();
        let mut members = Vec::new();
        for id in 1..=10 {
            membership::join(&settings, &mut members, RingId(id), 1).unwrap();
        }
        let ring = Ring::new(settings.clone(), members).unwrap();
        let keys = Keys::draw(&settings, 20_000, Distribution::Zipf { exponent }, 1);
        let bounded = Bounded { factor, in_flight: 100 };
        run(&ring, &keys, bounded, &mut StdRng::seed_from_u64(1)).unwrap()
    }

    #[test]
    fn the_bound_is_kept_and_hot_keys_spill() {
        let hot = spilled(1.25, 1.1);
        assert!(hot.peak_to_average <= 1.25 && hot.peak <= 125, "{hot:?}");
        assert!(hot.spill_share > 0.05, "{hot:?}");
        let even = spilled(1.25, 0.0);
        assert!(even.spill_share < hot.spill_share / 3.0, "{even:?} {hot:?}");
        assert_eq!(spilled(1_000.0, 1.1).spill_share, 0.0);
    }

    #[test]
    fn an_empty_ring_gives_no_result() {
        let settings = RingSettings::default();
        let keys = Keys::draw(&settings, 10, Distribution::Uniform, 1);
        let ring = Ring::new(settings, Vec::new()).unwrap();
        let bounded = Bounded { factor: 1.25, in_flight: 10 };
        assert_eq!(run(&ring, &keys, bounded, &mut StdRng::seed_from_u64(1)), None);
    }
}
