//! Predicts requests per replica with the library that also serves them, from the
//! positions that a balancer shows. Pure.

use anyhow::Result;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Binomial, Distribution};
use ringmaster_core::ring::{self, Algorithm, Member, RingId, RingOptions, RingSettings};
use serde::Serialize;

use crate::balancer;
use crate::load::KeySource;

/// Simulated runs, to estimate the effect of chance.
const DRAWS: usize = 2_000;
/// The part of the runs below, and above, the middle 95 %.
const OUTSIDE: f64 = 0.025;
/// The keys that are drawn for [`KeySource::Random`].
const SIX_DIGITS: std::ops::RangeInclusive<u64> = 100_000..=999_999;

/// Rebuilds the ring that a balancer shows. `hash_key` is the secret of siphash, which it does not show.
///
/// # Errors
/// The shown ring is invalid, or its hash function needs a key that is not given.
pub fn ring_of(shown: &balancer::ShownRing, hash_key: Option<&str>) -> Result<ring::Ring> {
    // The other algorithms choose the size of their circle or table themselves.
    let is_sized = keeps_positions(shown);
    let slots = shown.slots.filter(|_| is_sized).map(u32::try_from).transpose()?;
    let options = RingOptions {
        algorithm: shown.algorithm.clone(),
        slots,
        virtual_servers: shown.virtual_servers.filter(|_| is_sized),
        placement: shown.placement.clone(),
        collision: shown.collision.clone(),
        hash: shown.hash.clone(),
        hash_key: hash_key.map(str::to_owned),
    };
    let settings = options.on(&RingSettings::default())?;
    let member = |(replica, number): (&balancer::RingReplica, u32)| Member {
        id: RingId(replica.id),
        // Only needed for placement, and the positions are given.
        ordinal: number,
        weight: replica.weight,
        positions: replica.slots.clone(),
    };
    Ok(ring::Ring::new(settings, shown.replicas.iter().zip(1..).map(member).collect())?)
}

/// Whether the algorithm of a ring keeps positions, which have to be shown then.
pub fn keeps_positions(shown: &balancer::ShownRing) -> bool {
    let algorithm = shown.algorithm.as_deref().and_then(Algorithm::from_name);
    algorithm.is_none_or(Algorithm::has_positions)
}

/// The part of all requests that each member is to get, by member index: exactly, over all keys
/// that can be drawn.
pub fn shares(ring: &ring::Ring, keys: KeySource) -> Vec<f64> {
    let (range, exponent) = match keys {
        // The balancer draws the same for requests without a key.
        KeySource::None | KeySource::Random => (SIX_DIGITS, 0.0),
        KeySource::Uniform { count } => (0..=count - 1, 0.0),
        KeySource::Zipf { count, exponent } => (1..=count, exponent),
    };
    let mut weights = vec![0.0; ring.members().len()];
    let mut text = Vec::with_capacity(20);
    for key in range {
        text.clear();
        // Writing to a vector cannot fail.
        let _ = std::io::Write::write_fmt(&mut text, format_args!("{key}"));
        if let Some(owner) = ring.owner(ring.slot_of(&text)) {
            weights[usize::from(owner.0)] +=
                if exponent == 0.0 { 1.0 } else { (key as f64).powf(-exponent) };
        }
    }
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total.max(f64::MIN_POSITIVE)).collect()
}

/// The distribution of a peak-to-average, from many runs that assign `requests` at random by `shares`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Expected {
    /// The peak-to-average of the shares themselves, without chance.
    pub peak_to_average: f64,
    /// The lower end of the range of 95 % of all runs.
    pub low: f64,
    /// The upper end of the range of 95 % of all runs.
    pub high: f64,
    /// Standard deviation of the replicas' requests, without chance.
    pub deviation: f64,
}

/// See [`Expected`]. `None` without shares.
pub fn expected(shares: &[f64], requests: u64) -> Option<Expected> {
    let count = shares.len() as f64;
    let greatest = shares.iter().copied().reduce(f64::max)?;
    let mut chance = SmallRng::seed_from_u64(1);
    let mut peaks = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        // A multinomial draw, one replica after the other.
        let (mut left, mut rest, mut most) = (requests, 1.0, 0);
        for &share in shares {
            let part: f64 = if rest > share { share / rest } else { 1.0 };
            let got = Binomial::new(left, part.clamp(0.0, 1.0)).ok()?.sample(&mut chance);
            (left, rest, most) = (left - got, rest - share, most.max(got));
        }
        peaks.push(most as f64 * count / requests.max(1) as f64);
    }
    peaks.sort_by(f64::total_cmp);
    let at = |part: f64| peaks[((DRAWS - 1) as f64 * part).round() as usize];
    let square = |share: &f64| (share - 1.0 / count).powi(2);
    let deviation = (shares.iter().map(square).sum::<f64>() / count).sqrt() * requests as f64;
    Some(Expected {
        peak_to_average: greatest * count,
        low: at(OUTSIDE),
        high: at(1.0 - OUTSIDE),
        deviation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(placement: &str, hash: &str, positions: &[&[u32]]) -> balancer::ShownRing {
        let replica = |(number, slots): (u32, &&[u32])| balancer::RingReplica {
            name: format!("server_{number}"),
            share: 0.0,
            id: number,
            weight: 1,
            slots: slots.to_vec(),
        };
        balancer::ShownRing {
            placement: Some(placement.to_owned()),
            hash: Some(hash.to_owned()),
            replicas: (1..).zip(positions).map(replica).collect(),
            ..balancer::ShownRing::default()
        }
    }

    #[test]
    fn shares_of_requests_are_those_of_the_slots_under_a_good_hash() {
        let ring = ring_of(&shown("even", "xxh3", &[&[127, 300], &[255, 511]]), None).unwrap();
        let expected = ring.shares();
        let shares = shares(&ring, KeySource::Random);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!((shares[0] - expected[0]).abs() < 0.002, "{shares:?} {expected:?}");
    }

    #[test]
    fn the_polynomial_of_requests_is_followed_key_by_key() {
        // H(i) = i² + 2i + 17 = (i + 1)² + 16, and no square leaves 2 when divided by 4: the one on
        // slot 2, behind another on slot 1, owns a slot and gets nothing.
        let shown_ring = shown("polynomial", "polynomial", &[&[1, 511], &[2]]);
        let ring = ring_of(&shown_ring, None).unwrap();
        assert!(ring.shares()[1] > 0.0);
        assert_eq!(shares(&ring, KeySource::Random), [1.0, 0.0]);
        assert!(ring_of(&shown("even", "siphash", &[&[1]]), None).is_err(), "a key is needed");
        assert!(ring_of(&shown("even", "xxh3", &[&[]]), None).is_err(), "no positions");
    }

    #[test]
    fn tables_need_no_positions() {
        let maglev = balancer::ShownRing {
            algorithm: Some("maglev".to_owned()),
            slots: Some(65_537),
            ..shown("even", "xxh3", &[&[], &[]])
        };
        let shares = shares(&ring_of(&maglev, None).unwrap(), KeySource::Random);
        assert!((shares[0] - 0.5).abs() < 0.01, "{shares:?}");
        let ketama = balancer::ShownRing {
            algorithm: Some("ketama".to_owned()),
            slots: Some(1 << 32),
            ..maglev
        };
        assert!(ring_of(&ketama, None).is_ok());
    }

    #[test]
    fn popular_keys_count_for_more() {
        let ring = ring_of(&shown("even", "xxh3", &[&[255], &[511]]), None).unwrap();
        let zipf = shares(&ring, KeySource::Zipf { count: 1_000, exponent: 2.0 });
        let first = usize::from(ring.owner(ring.slot_of(b"1")).unwrap().0);
        assert!(zipf[first] > 0.6, "{zipf:?}");
    }

    #[test]
    fn chance_adds_to_an_even_ring() {
        let even = expected(&[0.25; 4], 10_000).unwrap();
        assert_eq!((even.peak_to_average, even.deviation), (1.0, 0.0));
        assert!(even.low > 1.0 && even.high > even.low && even.high < 1.06, "{even:?}");
        let uneven = expected(&[0.5, 0.5, 0.0], 9_000).unwrap();
        assert!((uneven.peak_to_average - 1.5).abs() < 1e-12);
        assert!((uneven.deviation - 2_121.32).abs() < 0.01, "{uneven:?}");
        assert_eq!(expected(&[], 10), None);
    }
}
