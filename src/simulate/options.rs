//! The options of a simulation as texts, and their check.

use ringmaster_core::{
    fleet::victim::VictimRule,
    ring::{MEMBERS_MAX, OptionError, RingOptions, RingSettings},
};

use super::{Bounded, Distribution, Question, keys::KEYS_MAX};

/// Most steps of a sequence.
pub const CHANGES_MAX: usize = 1_000;
/// The largest number of requests in flight per replica.
const IN_FLIGHT_MAX: u32 = 100_000;
/// The largest factor: beyond it a bound has no effect.
const FACTOR_MAX: f64 = 1_000.0;
/// The largest exponent: beyond it nearly all requests are for the first key.
const EXPONENT_MAX: f64 = 10.0;

/// One step of the sequence: a change of the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceStep {
    /// The initial number.
    Start(usize),
    /// This many join, one after the other.
    Add(usize),
    /// This many leave, one after the other, by the victim rule.
    Remove(usize),
}

/// The options of a simulation, before they are checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// The settings of the ring; the others are at their default.
    pub ring: RingOptions,
    /// `3,+2,-1`: the initial number, then the changes.
    pub sequence: String,
    /// The name of a [`VictimRule`].
    pub victim: String,
    /// Number of different keys.
    pub keys: u32,
    /// `uniform` or `zipf:EXPONENT`.
    pub distribution: String,
    /// The factor of bounded load, if that is simulated.
    pub bounded: Option<f64>,
    /// Requests in flight per replica under bounded load.
    pub in_flight: u32,
    /// Decides keys, requests and random victims.
    pub seed: u64,
}

impl Options {
    /// # Errors
    /// The first invalid option, with the valid values.
    pub fn check(&self) -> Result<Question, OptionError> {
        if !(1..=KEYS_MAX).contains(&self.keys) {
            return wrong("keys", format!("must be 1 to {KEYS_MAX}, not {}", self.keys));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight) {
            let why = format!("must be 1 to {IN_FLIGHT_MAX}, not {}", self.in_flight);
            return wrong("in_flight", why);
        }
        let victim = VictimRule::from_name(&self.victim);
        let Some(victim) = victim else {
            let allowed = VictimRule::ALL.map(VictimRule::name).join(", ");
            return wrong("victim", format!("'{}' is not one of {allowed}", shown(&self.victim)));
        };
        let bounded = match self.bounded {
            Some(factor) if !(1.0..=FACTOR_MAX).contains(&factor) => {
                return wrong("bounded", format!("must be 1 to {FACTOR_MAX}, not {factor}"));
            }
            factor => factor.map(|factor| Bounded { factor, in_flight: self.in_flight }),
        };
        Ok(Question {
            ring: self.ring.on(&RingSettings::default())?,
            changes: changes(&self.sequence)?,
            victim,
            keys: self.keys,
            distribution: distribution(&self.distribution)?,
            bounded,
            seed: self.seed,
        })
    }
}

fn wrong<T>(key: &'static str, why: String) -> Result<T, OptionError> {
    Err(OptionError { key, why })
}

/// The first part of a text, for a message.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn distribution(text: &str) -> Result<Distribution, OptionError> {
    if text == "uniform" {
        return Ok(Distribution::Uniform);
    }
    let Some(exponent) = text.strip_prefix("zipf:") else {
        let why = format!("'{}' is not one of uniform, zipf:EXPONENT", shown(text));
        return wrong("distribution", why);
    };
    match exponent.parse::<f64>() {
        Ok(exponent) if (0.0..=EXPONENT_MAX).contains(&exponent) => {
            Ok(Distribution::Zipf { exponent })
        }
        _ => {
            let why = format!(
                "the exponent of zipf must be 0 to {EXPONENT_MAX}, not '{}'",
                shown(exponent)
            );
            wrong("distribution", why)
        }
    }
}

/// Reads a sequence, and checks that no more replicas leave than there are.
fn changes(text: &str) -> Result<Vec<SequenceStep>, OptionError> {
    let refuse = |part: &str, why: &str| wrong("sequence", format!("'{}' {why}", shown(part)));
    let (mut changes, mut replicas) = (Vec::new(), 0usize);
    for part in text.split(',').map(str::trim) {
        let (sign, digits) = match part.split_at_checked(1) {
            Some((sign @ ("+" | "-"), digits)) => (sign, digits),
            _ => ("", part),
        };
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse::<usize>().ok().filter(|&n| is_number && n <= MEMBERS_MAX);
        let change = match (number, sign, changes.is_empty()) {
            (Some(number), "", true) => SequenceStep::Start(number),
            (Some(number), "+", false) if number > 0 => SequenceStep::Add(number),
            (Some(number), "-", false) if number > 0 => SequenceStep::Remove(number),
            (_, _, true) => {
                let why = format!("is not a number of replicas to begin with, 0 to {MEMBERS_MAX}");
                return refuse(part, &why);
            }
            _ => {
                let why = format!("is not one of +N, -N with an N of 1 to {MEMBERS_MAX}");
                return refuse(part, &why);
            }
        };
        replicas = match change {
            SequenceStep::Start(number) => number,
            SequenceStep::Add(number) => replicas + number,
            SequenceStep::Remove(number) => match replicas.checked_sub(number) {
                Some(left) => left,
                None => {
                    return refuse(part, &format!("removes more than the {replicas} there are"));
                }
            },
        };
        changes.push(change);
        if changes.len() > CHANGES_MAX {
            return refuse(part, &format!("is one change more than the {CHANGES_MAX} allowed"));
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            ring: RingOptions::default(),
            sequence: "3,+2,-1".to_owned(),
            victim: "newest".to_owned(),
            keys: 1_000,
            distribution: "uniform".to_owned(),
            bounded: None,
            in_flight: 100,
            seed: 1,
        }
    }

    #[test]
    fn options_are_read() {
        let question = options().check().unwrap();
        assert_eq!(
            question.changes,
            [SequenceStep::Start(3), SequenceStep::Add(2), SequenceStep::Remove(1)]
        );
        let zipf = Options { distribution: "zipf:1.1".to_owned(), ..options() }.check().unwrap();
        assert_eq!(zipf.distribution, Distribution::Zipf { exponent: 1.1 });
        let to_nothing = Options { sequence: "0, +2, -2".to_owned(), ..options() };
        assert_eq!(to_nothing.check().unwrap().changes.len(), 3);
    }

    #[test]
    fn an_invalid_option_is_named_with_the_valid_values() {
        let refused = |change: fn(&mut Options)| {
            let mut options = options();
            change(&mut options);
            options.check().unwrap_err().to_string()
        };
        type Edit = fn(&mut Options);
        let cases: [(Edit, &str); 16] = [
            (|o| o.sequence = String::new(), "`sequence`: '' is not a number of replicas"),
            (|o| o.sequence = "+3".to_owned(), "'+3' is not a number of replicas"),
            (|o| o.sequence = "3,2".to_owned(), "'2' is not one of +N, -N"),
            (|o| o.sequence = "3,+0".to_owned(), "'+0' is not one of +N, -N"),
            (|o| o.sequence = "3,++1".to_owned(), "'++1' is not one of"),
            (|o| o.sequence = "3,é".to_owned(), "'é' is not one of"),
            (|o| o.sequence = "2,-3".to_owned(), "'-3' removes more than the 2 there are"),
            (|o| o.sequence = "9999".to_owned(), "0 to 1024"),
            (|o| o.sequence = format!("1{}", ",+1".repeat(1_000)), "1000 allowed"),
            (|o| o.victim = "weakest".to_owned(), "newest, oldest, least_loaded"),
            (|o| o.distribution = "normal".to_owned(), "uniform, zipf:EXPONENT"),
            (|o| o.distribution = "zipf:nan".to_owned(), "0 to 10, not 'nan'"),
            (|o| o.keys = 0, "`keys`: must be 1 to 900000, not 0"),
            (|o| o.in_flight = 0, "`in_flight`: must be 1 to 100000"),
            (|o| o.bounded = Some(0.9), "`bounded`: must be 1 to 1000, not 0.9"),
            (|o| o.ring.hash = Some("sha3".to_owned()), "`hash`: 'sha3' is not one of xxh3"),
        ];
        for (change, expected) in cases {
            let text = refused(change);
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
