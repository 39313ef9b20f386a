//! Which of the admitted replicas gets a request.

use std::{fmt, str::FromStr};

use super::{
    candidates::{Candidate, Candidates, scaled},
    load_bound,
};
use crate::ring::MemberIndex;

/// How the replica of a request is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The first of the key's preference list.
    #[default]
    Ring,
    /// The first of the key's preference list that has not more than its part in flight.
    Bounded,
    /// One after the other.
    RoundRobin,
    /// One after the other, each by its weight and evenly in between.
    WeightedRoundRobin,
    /// Who has least in flight for its weight.
    LeastInFlight,
    /// The better of two drawn ones, by what they have in flight.
    P2c,
    /// The better of two drawn ones, by what they have in flight and how long they take.
    PeakEwma,
    /// A drawn one.
    Random,
}

/// A policy that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is not one of {}", names())]
pub struct PolicyError {
    given: String,
}

impl Policy {
    /// All policies with their names.
    pub const ALL: [(Policy, &'static str); 8] = [
        (Policy::Ring, "ring"),
        (Policy::Bounded, "bounded"),
        (Policy::RoundRobin, "round_robin"),
        (Policy::WeightedRoundRobin, "weighted_round_robin"),
        (Policy::LeastInFlight, "least_in_flight"),
        (Policy::P2c, "p2c"),
        (Policy::PeakEwma, "peak_ewma"),
        (Policy::Random, "random"),
    ];

    /// Whether it asks for the key of a request.
    pub fn is_by_key(self) -> bool {
        matches!(self, Policy::Ring | Policy::Bounded)
    }
}

fn names() -> String {
    Policy::ALL.map(|(_, name)| name).join(", ")
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let known = Self::ALL.into_iter().find(|(_, name)| *name == text);
        let wrong = || PolicyError { given: text.chars().take(80).collect() };
        known.map(|(policy, _)| policy).ok_or_else(wrong)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(policy, _)| policy == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// Who gets a request under [`Policy::Bounded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// Who gets it.
    pub member: MemberIndex,
    /// Whether it was sent past a full owner.
    pub is_spill: bool,
}

/// With fewer than these in flight no member is full, whatever the others have: see [`load_bound`].
const NEVER_FULL: u64 = 3;

/// The first of a preference list that is below its bound; where all are full, the least loaded
/// for its weight. `order` are those who may get the request; the bound is a part of what all
/// `admitted` have in flight.
pub fn bounded(
    mut order: impl Iterator<Item = (MemberIndex, u32)>,
    admitted: &Candidates,
    factor: f64,
    in_flight: impl Fn(MemberIndex) -> u64,
) -> Option<Bounded> {
    let (owner, weight) = order.next()?;
    let own = Load { weight, in_flight: in_flight(owner) };
    if own.in_flight < NEVER_FULL {
        return Some(Bounded { member: owner, is_spill: false });
    }
    let together = admitted.as_slice().iter().map(|candidate| in_flight(candidate.member)).sum();
    let is_full = |load: Load| {
        load.in_flight >= load_bound(factor, together, load.weight, admitted.weights())
    };
    if !is_full(own) {
        return Some(Bounded { member: owner, is_spill: false });
    }
    let mut least = (owner, own);
    for (member, weight) in order {
        let load = Load { weight, in_flight: in_flight(member) };
        if !is_full(load) {
            return Some(Bounded { member, is_spill: true });
        }
        if load.is_less_than(least.1) {
            least = (member, load);
        }
    }
    Some(Bounded { member: least.0, is_spill: least.0 != owner })
}

/// What a member has to carry, and how much of it is its part.
#[derive(Clone, Copy)]
struct Load {
    weight: u32,
    in_flight: u64,
}

impl Load {
    fn of(candidate: Candidate, in_flight: impl Fn(MemberIndex) -> u64) -> Self {
        Self { weight: candidate.weight, in_flight: in_flight(candidate.member) }
    }

    /// Whether it is less for its weight. Nothing is divided, so nothing is rounded.
    fn is_less_than(self, other: Self) -> bool {
        let own = u128::from(self.in_flight) * u128::from(other.weight);
        own < u128::from(other.in_flight) * u128::from(self.weight)
    }
}

/// Who has least in flight for its weight. Among equals each is picked by its weight.
pub fn least_in_flight(
    candidates: &Candidates,
    in_flight: impl Fn(MemberIndex) -> u64,
    roll: u64,
) -> Option<MemberIndex> {
    let mut best: Option<(MemberIndex, Load)> = None;
    let mut equals = 0;
    for &candidate in candidates.as_slice() {
        let new = Load::of(candidate, &in_flight);
        let weight = u64::from(candidate.weight);
        match best {
            Some((_, old)) if old.is_less_than(new) => {}
            Some((_, old)) if !new.is_less_than(old) => {
                // Each of the equals is left with the probability of its weight among them.
                equals += weight;
                if scaled(mixed(roll, candidate.member), equals) < weight {
                    best = Some((candidate.member, new));
                }
            }
            _ => (best, equals) = (Some((candidate.member, new)), weight),
        }
    }
    best.map(|(member, _)| member)
}

/// A roll of a member's own (the finaliser of SplitMix64).
fn mixed(roll: u64, member: MemberIndex) -> u64 {
    let mut bits = roll ^ u64::from(member.0).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The one of two drawn ones that has less in flight for its weight. Both are drawn by weight and
/// the first wins a tie, so that without load the weights decide alone.
pub fn p2c(
    candidates: &Candidates,
    in_flight: impl Fn(MemberIndex) -> u64,
    rolls: [u64; 2],
) -> Option<MemberIndex> {
    let (first, second) = candidates.draw_two(rolls)?;
    let load = |candidate: Candidate| Load::of(candidate, &in_flight);
    let better = second.filter(|&second| load(second).is_less_than(load(first)));
    Some(better.unwrap_or(first).member)
}

/// The one of two drawn ones that costs less, for its weight; see [`Ewma::cost`](super::Ewma::cost).
pub fn peak_ewma(
    candidates: &Candidates,
    cost: impl Fn(MemberIndex) -> f64,
    rolls: [u64; 2],
) -> Option<MemberIndex> {
    let (first, second) = candidates.draw_two(rolls)?;
    let weighed = |candidate: Candidate| cost(candidate.member) / f64::from(candidate.weight);
    let better = second.filter(|&second| weighed(second) < weighed(first));
    Some(better.unwrap_or(first).member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::testing::{candidates, rolls, share_of};
    use proptest::prelude::*;

    #[test]
    fn names_lead_back_to_their_policy() {
        for (policy, name) in Policy::ALL {
            assert_eq!((name.parse(), policy.to_string()), (Ok(policy), name.to_owned()));
        }
        let error = "fair".parse::<Policy>().unwrap_err().to_string();
        assert!(error.starts_with("'fair' is not one of ring, bounded, round_robin,"), "{error}");
        assert!(error.ends_with("least_in_flight, p2c, peak_ewma, random"), "{error}");
        assert_eq!(Policy::default(), Policy::Ring);
    }

    fn order(list: &[Candidate]) -> impl Iterator<Item = (MemberIndex, u32)> {
        list.iter().map(|candidate| (candidate.member, candidate.weight))
    }

    fn pick(loads: &[u64], weights: &[u32], factor: f64) -> Bounded {
        let all = candidates(weights);
        let in_flight = |member: MemberIndex| loads[member.0 as usize];
        bounded(order(all.as_slice()), &all, factor, in_flight).unwrap()
    }

    #[test]
    fn an_owner_is_taken_until_it_is_full() {
        let owner = Bounded { member: MemberIndex(0), is_spill: false };
        assert_eq!(pick(&[0, 0, 0], &[1, 1, 1], 1.0), owner);
        assert_eq!(pick(&[2, 0, 0], &[1, 1, 1], 1.0), owner);
        let next = Bounded { member: MemberIndex(1), is_spill: true };
        assert_eq!(pick(&[4, 0, 0], &[1, 1, 1], 1.0), next);
        assert_eq!(pick(&[4, 0, 0], &[2, 1, 1], 1.0), owner, "twice the weight, twice the part");
        assert_eq!(pick(&[40, 40, 0], &[1, 1, 1], 1.25).member, MemberIndex(2));
        assert_eq!(pick(&[33, 33, 33], &[1, 1, 1], 1.25), owner);
        let none = bounded(std::iter::empty(), &candidates(&[]), 1.25, |_| 0);
        assert_eq!(none, None);
    }

    #[test]
    fn a_small_load_is_taken_without_asking_the_others() {
        let all = candidates(&[1, 1]);
        let owner = |member: MemberIndex| {
            assert_eq!(member, MemberIndex(0), "only the owner's is needed");
            NEVER_FULL - 1
        };
        let picked = bounded(order(all.as_slice()), &all, 1.0, owner).unwrap();
        assert_eq!(picked.member, MemberIndex(0));
        // And that is never more than the bound allows.
        for (weight, weights) in [(1, 1_000), (1, 1), (5, 6)] {
            assert!(load_bound(1.0, NEVER_FULL - 1, weight, weights) >= NEVER_FULL);
        }
    }

    #[test]
    fn where_all_are_full_the_least_loaded_for_its_weight_is_taken() {
        // Those with room are admitted but were tried before.
        let all = candidates(&[1, 1, 4, 1]);
        let loads = [50, 49, 160, 0];
        let some = order(&all.as_slice()[..3]);
        let picked = bounded(some, &all, 1.0, |member| loads[member.0 as usize]).unwrap();
        assert_eq!(picked, Bounded { member: MemberIndex(2), is_spill: true });
    }

    proptest! {
        #[test]
        fn no_member_exceeds_its_bound_while_another_is_below(
            members in proptest::collection::vec((1..5_u32, 0..40_u64), 1..12),
            factor in 1.0..3.0_f64,
            turn in 0..12_usize,
        ) {
            let (weights, loads): (Vec<u32>, Vec<u64>) = members.into_iter().unzip();
            let all = candidates(&weights);
            let mut list = all.as_slice().to_vec();
            let turn = turn % list.len();
            list.rotate_left(turn);
            let in_flight = |member: MemberIndex| loads[member.0 as usize];
            let picked = bounded(order(&list), &all, factor, in_flight).unwrap();
            let together: u64 = loads.iter().sum();
            let has_room = |candidate: &&Candidate| {
                let bound = load_bound(factor, together, candidate.weight, all.weights());
                in_flight(candidate.member) < bound
            };
            // There always is one, and it is the first of the order.
            let first = list.iter().find(has_room).unwrap();
            prop_assert_eq!(picked.member, first.member);
            prop_assert_eq!(picked.is_spill, picked.member != list[0].member);
        }

        #[test]
        fn the_least_loaded_is_picked_for_any_roll(
            members in proptest::collection::vec((1..5_u32, 0..6_u64), 1..12),
            roll in any::<u64>(),
        ) {
            let (weights, loads): (Vec<u32>, Vec<u64>) = members.into_iter().unzip();
            let all = candidates(&weights);
            let load = |member: MemberIndex| loads[member.0 as usize];
            let picked = least_in_flight(&all, load, roll).unwrap().0 as usize;
            for (weight, load) in weights.iter().zip(&loads) {
                prop_assert!(loads[picked] * u64::from(*weight) <= load * u64::from(weights[picked]));
            }
        }
    }

    #[test]
    fn equals_are_picked_by_weight() {
        let all = candidates(&[1, 9, 3, 2]);
        // The second has more for its weight, the others are equal.
        let load = |member: MemberIndex| [2, 36, 6, 4][member.0 as usize];
        let picked = rolls(4).take(20_000).map(|roll| least_in_flight(&all, load, roll).unwrap());
        let shares = share_of(picked, 4);
        for (share, expected) in shares.iter().zip([1.0 / 6.0, 0.0, 0.5, 1.0 / 3.0]) {
            assert!((share - expected).abs() < 0.015, "{shares:?}");
        }
        assert_eq!(least_in_flight(&candidates(&[]), |_| 0, 1), None);
    }

    #[test]
    fn the_less_loaded_of_two_wins_and_weights_decide_without_load() {
        let all = candidates(&[1, 3]);
        let two = |load: [u64; 2], seed| {
            let mut rolls = rolls(seed);
            let picked = (0..20_000).map(|_| {
                let pair = [rolls.next().unwrap(), rolls.next().unwrap()];
                p2c(&all, |member| load[member.0 as usize], pair).unwrap()
            });
            share_of(picked.collect::<Vec<_>>().into_iter(), 2)
        };
        let idle = two([0, 0], 5);
        assert!((idle[1] - 0.75).abs() < 0.015, "{idle:?}");
        assert_eq!(two([2, 5], 6), [0.0, 1.0], "5 of weight 3 is less than 2 of weight 1");
        assert_eq!(two([1, 4], 7), [1.0, 0.0]);
    }

    #[test]
    fn the_cheaper_of_two_wins() {
        let all = candidates(&[1, 3]);
        let cheap = |costs: [f64; 2]| {
            let mut rolls = rolls(8);
            let picked = (0..100).map(|_| {
                let pair = [rolls.next().unwrap(), rolls.next().unwrap()];
                peak_ewma(&all, |member| costs[member.0 as usize], pair).unwrap()
            });
            share_of(picked.collect::<Vec<_>>().into_iter(), 2)
        };
        assert_eq!(cheap([100.0, 250.0]), [0.0, 1.0]);
        assert_eq!(cheap([100.0, 350.0]), [1.0, 0.0]);
        assert_eq!(peak_ewma(&candidates(&[1]), |_| f64::NAN, [0, 0]), Some(MemberIndex(0)));
    }
}
