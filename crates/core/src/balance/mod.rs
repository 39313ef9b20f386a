//! Who gets a request. Pure: candidates, loads and chance come in as plain data.
//!
//! The ring gives the order, the routing table says who is admitted, a policy picks. Never sees a
//! connection, a clock or a request.
//!
//! Start with [`Policy`]. The policies that go by the key walk a preference list; the others pick
//! among [`Candidates`], with the state they need as a value of the caller's.

mod candidates;
mod ewma;
mod failures;
mod policy;
mod round_robin;

pub use self::{
    candidates::{Candidate, Candidates},
    ewma::Ewma,
    failures::{Failures, enough_failures},
    policy::{Bounded, Policy, PolicyError, bounded, least_in_flight, p2c, peak_ewma},
    round_robin::{RoundRobin, SmoothRoundRobin},
};

use crate::ring::{MemberIndex, Ring, Slot};

/// The members that a request may try, in the order of its key's preference list: those that are
/// admitted and not tried yet.
pub fn candidates<'a>(
    ring: &'a Ring,
    slot: Slot,
    admitted: impl Fn(MemberIndex) -> bool + 'a,
    tried: &'a [MemberIndex],
) -> impl Iterator<Item = MemberIndex> + 'a {
    ring.preference(slot).filter(move |&member| admitted(member) && !tried.contains(&member))
}

/// The few requests above the average that `bounded` always allows: with little in flight chance
/// alone would spill.
const BOUND_SLACK: f64 = 3.0;

/// The most requests in flight that a member of weight `weight` may have under `bounded`, one more
/// included, when all members together have `in_flight` and weigh `weights`: `factor` times the
/// average of its weight, rounded up, or a few above the average if that is more.
///
/// Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads (SODA 2018).
pub fn load_bound(factor: f64, in_flight: u64, weight: u32, weights: u64) -> u64 {
    let average = (in_flight + 1) as f64 * f64::from(weight) / weights.max(1) as f64;
    (factor * average).ceil().max((average + BOUND_SLACK).floor()) as u64
}

#[cfg(test)]
mod testing {
    use super::Candidates;
    use crate::ring::MemberIndex;
    use rand::{RngExt, SeedableRng};

    pub(super) fn candidates(weights: &[u32]) -> Candidates {
        (0..).map(MemberIndex).zip(weights.iter().copied()).collect()
    }

    pub(super) fn rolls(seed: u64) -> impl Iterator<Item = u64> {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        std::iter::repeat_with(move || rng.random())
    }

    /// The part of the turns that each member got.
    pub(super) fn share_of(turns: impl Iterator<Item = MemberIndex>, members: usize) -> Vec<f64> {
        let mut counts = vec![0_u32; members];
        turns.for_each(|member| counts[member.0 as usize] += 1);
        let all: u32 = counts.iter().sum();
        counts.iter().map(|count| f64::from(*count) / f64::from(all)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{RingId, RingSettings, membership};

    #[test]
    fn the_next_distinct_admitted_member_follows_the_owner() {
        let settings = RingSettings::default();
        let mut members = Vec::new();
        for id in 1..=5 {
            membership::join(&settings, &mut members, RingId(id), 1).unwrap();
        }
        let ring = Ring::new(settings, members).unwrap();
        for slot in 0..512 {
            let order: Vec<_> = ring.preference(slot).collect();
            let picked = |tried: &[MemberIndex], out: MemberIndex| {
                candidates(&ring, slot, |member| member != out, tried).next()
            };
            assert_eq!(picked(&[], order[4]), Some(order[0]));
            assert_eq!(picked(&[], order[0]), Some(order[1]));
            assert_eq!(picked(&[order[0]], order[1]), Some(order[2]));
            assert_eq!(picked(&order, order[0]), None);
        }
    }

    #[test]
    fn the_bound_follows_load_and_weight() {
        // Few in flight: a few more than the average.
        assert_eq!(load_bound(1.25, 0, 1, 10), 3);
        assert_eq!(load_bound(1.25, 99, 1, 10), 13);
        assert_eq!(load_bound(1.25, 999, 1, 10), 125);
        assert_eq!(load_bound(1.25, 999, 2, 10), 250);
        // The bounds together always have room for one more.
        for in_flight in 0..500 {
            let together: u64 =
                [1, 2, 4].map(|weight| load_bound(1.0, in_flight, weight, 7)).iter().sum();
            assert!(together > in_flight);
        }
    }
}
