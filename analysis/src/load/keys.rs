//! The key of each request.
//!
//! A key depends on the seed and the request's number only, never on which
//! connection sends it: the same seed gives the same keys in every run.

use std::fmt;
use std::str::FromStr;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// A distribution of keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KeySource {
    /// No key is sent.
    None,
    /// A 6-digit number per request, as the balancer draws one for a request without a key.
    Random,
    /// One of the keys `0..count`, each equally likely.
    Uniform {
        /// How many different keys there are.
        count: u64,
    },
    /// One of the keys `1..=count`, key k with a weight of `1 / k^exponent`.
    Zipf {
        /// How many different keys there are.
        count: u64,
        /// The larger, the more requests are for the first keys; 0 is uniform.
        exponent: f64,
    },
}

impl FromStr for KeySource {
    type Err = String;

    fn from_str(text: &str) -> Result<KeySource, String> {
        let expected =
            || format!("{text:?} is none of none, random, uniform:COUNT, zipf:COUNT:EXPONENT");
        let count = |part: &str| match part.parse::<u64>() {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(format!("the number of keys must be a whole number above 0, not {part:?}")),
        };
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            ["none"] => Ok(KeySource::None),
            ["random"] => Ok(KeySource::Random),
            ["uniform", keys] => Ok(KeySource::Uniform { count: count(keys)? }),
            ["zipf", keys, exponent] => match exponent.parse::<f64>() {
                Ok(exponent) if exponent.is_finite() && exponent >= 0.0 => {
                    Ok(KeySource::Zipf { count: count(keys)?, exponent })
                }
                _ => Err(format!("the exponent must be a number from 0, not {exponent:?}")),
            },
            _ => Err(expected()),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::None => f.write_str("none"),
            KeySource::Random => f.write_str("random"),
            KeySource::Uniform { count } => write!(f, "uniform:{count}"),
            KeySource::Zipf { count, exponent } => write!(f, "zipf:{count}:{exponent}"),
        }
    }
}

/// Draws the key of any request.
#[derive(Debug, Clone)]
pub struct Keys {
    source: KeySource,
    zipf: Option<Zipf<f64>>,
    seed: u64,
}

impl Keys {
    /// # Errors
    /// When the distribution cannot be built from its parameters.
    pub fn new(source: KeySource, seed: u64) -> anyhow::Result<Keys> {
        let zipf = match source {
            KeySource::Zipf { count, exponent } => Some(Zipf::new(count as f64, exponent)?),
            _ => None,
        };
        Ok(Keys { source, zipf, seed })
    }

    /// The key of request number `index`, or none.
    #[must_use]
    pub fn key(&self, index: u64) -> Option<u64> {
        if self.source == KeySource::None {
            return None;
        }
        // Every request has its own generator. The seeding scrambles its argument
        // well, but seed + 1 must not be the same run moved by one request.
        let mut chance =
            SmallRng::seed_from_u64(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index);
        match (self.source, &self.zipf) {
            (KeySource::Uniform { count }, _) => Some(chance.random_range(0..count)),
            (_, Some(zipf)) => Some(zipf.sample(&mut chance) as u64),
            _ => Some(chance.random_range(100_000..=999_999)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(source: &str, seed: u64, count: u64) -> Vec<u64> {
        let keys = Keys::new(source.parse().unwrap(), seed).unwrap();
        (0..count).filter_map(|index| keys.key(index)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_keys_and_another_one_does_not() {
        for source in ["random", "uniform:1000", "zipf:1000:1.1"] {
            assert_eq!(draw(source, 7, 100), draw(source, 7, 100), "{source}");
            assert_ne!(draw(source, 7, 100), draw(source, 8, 100), "{source}");
        }
        assert!(draw("none", 7, 100).is_empty());
    }

    #[test]
    fn random_keys_have_six_digits_and_rarely_repeat() {
        let mut keys = draw("random", 1, 10_000);
        assert!(keys.iter().all(|key| (100_000..=999_999).contains(key)));
        keys.sort_unstable();
        keys.dedup();
        // 10,000 draws out of 900,000 leave about 9,945 different ones.
        assert!(keys.len() > 9_900, "{}", keys.len());
    }

    #[test]
    fn uniform_keys_are_even() {
        let mut counts = [0_u32; 10];
        for key in draw("uniform:10", 3, 100_000) {
            counts[usize::try_from(key).unwrap()] += 1;
        }
        // Five standard deviations (95 each) around 10,000.
        assert!(counts.iter().all(|count| (9_525..=10_475).contains(count)), "{counts:?}");
    }

    #[test]
    fn zipf_keys_follow_their_weights() {
        let keys = draw("zipf:100:1", 3, 100_000);
        let count = |key: u64| keys.iter().filter(|drawn| **drawn == key).count() as f64;
        assert!(keys.iter().all(|key| (1..=100).contains(key)));
        // The harmonic number of 100 is 5.187, so key 1 gets 19.3 %, key 2 half of that.
        assert!((count(1) / 100_000.0 - 0.1928).abs() < 0.01, "{}", count(1));
        assert!((count(1) / count(2) - 2.0).abs() < 0.1, "{}", count(2));
    }

    #[test]
    fn a_source_reads_back_as_it_is_written_and_nonsense_is_refused() {
        for text in ["none", "random", "uniform:5", "zipf:10:1.5"] {
            assert_eq!(text.parse::<KeySource>().unwrap().to_string(), text);
        }
        for text in ["", "uniform", "uniform:0", "uniform:-1", "zipf:10", "zipf:10:-1", "zipf:9:x"]
        {
            assert!(text.parse::<KeySource>().is_err(), "{text}");
        }
    }
}
