//! Those who may be given a request, drawn from by weight.

use crate::ring::MemberIndex;

/// One who may be given a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Whose instance it is.
    pub member: MemberIndex,
    /// At least 1: its part of the requests.
    pub weight: u32,
    /// The weights of all up to here, its own included.
    until: u64,
}

/// Admitted members in the order of the ring's list, with their weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates(Vec<Candidate>);

impl FromIterator<(MemberIndex, u32)> for Candidates {
    fn from_iter<I: IntoIterator<Item = (MemberIndex, u32)>>(members: I) -> Self {
        let weighed = members.into_iter().scan(0_u64, |sum, (member, weight)| {
            let weight = weight.max(1);
            *sum += u64::from(weight);
            Some(Candidate { member, weight, until: *sum })
        });
        Self(weighed.collect())
    }
}

impl Candidates {
    /// All of them.
    pub fn as_slice(&self) -> &[Candidate] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sum of their weights.
    pub fn weights(&self) -> u64 {
        self.0.last().map_or(0, |last| last.until)
    }

    /// Those that a test passes.
    pub fn only(&self, passes: impl Fn(MemberIndex) -> bool) -> Self {
        let those = self.0.iter().filter(|candidate| passes(candidate.member));
        those.map(|candidate| (candidate.member, candidate.weight)).collect()
    }

    /// One of them, each by its weight.
    pub fn draw(&self, roll: u64) -> Option<Candidate> {
        self.at(scaled(roll, self.weights()))
    }

    /// Two different ones, each by its weight among those that are left; one if there is only one.
    pub fn draw_two(&self, rolls: [u64; 2]) -> Option<(Candidate, Option<Candidate>)> {
        let first = self.draw(rolls[0])?;
        let own = u64::from(first.weight);
        let place = scaled(rolls[1], self.weights() - own);
        // The others, as if the first were cut out.
        let place = if place < first.until - own { place } else { place + own };
        Some((first, self.at(place)))
    }

    fn at(&self, place: u64) -> Option<Candidate> {
        self.0.get(self.0.partition_point(|candidate| candidate.until <= place)).copied()
    }
}

/// A roll as a number below a limit; 0 if the limit is 0.
pub(super) fn scaled(roll: u64, limit: u64) -> u64 {
    ((u128::from(roll) * u128::from(limit)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::testing::{candidates, rolls, share_of};

    #[test]
    fn each_is_drawn_by_its_weight() {
        let all = candidates(&[1, 2, 5, 2]);
        let drawn = rolls(1).take(20_000).map(|roll| all.draw(roll).unwrap().member);
        let shares = share_of(drawn, 4);
        for (share, expected) in shares.iter().zip([0.1, 0.2, 0.5, 0.2]) {
            assert!((share - expected).abs() < 0.015, "{shares:?}");
        }
        assert_eq!(all.draw(0).unwrap().member, MemberIndex(0));
        assert_eq!(all.draw(u64::MAX).unwrap().member, MemberIndex(3));
    }

    #[test]
    fn two_draws_are_always_two() {
        for weights in [&[1, 1][..], &[7, 1], &[1, 2, 3, 4]] {
            let all = candidates(weights);
            let mut rolls = rolls(2);
            let mut second = vec![0; weights.len()];
            for _ in 0..10_000 {
                let pair = [rolls.next().unwrap(), rolls.next().unwrap()];
                let (first, other) = all.draw_two(pair).unwrap();
                let other = other.unwrap();
                assert_ne!(first.member, other.member);
                second[other.member.0 as usize] += 1;
            }
            assert!(second.iter().all(|count| *count > 0), "{second:?}");
        }
        let alone = candidates(&[3]);
        assert_eq!(alone.draw_two([u64::MAX; 2]).unwrap().1, None);
        assert_eq!(candidates(&[]).draw_two([1, 2]), None);
        assert_eq!(candidates(&[]).draw(1), None);
    }

    #[test]
    fn who_is_left_out_is_never_drawn() {
        let some = candidates(&[5, 1, 1]).only(|member| member != MemberIndex(0));
        assert_eq!(some.weights(), 2);
        assert!(rolls(3).take(1_000).all(|roll| some.draw(roll).unwrap().member.0 > 0));
    }
}
