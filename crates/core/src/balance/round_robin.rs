//! One after the other: whose turn it is.

use std::collections::BTreeMap;

use super::candidates::Candidates;
use crate::ring::{MemberIndex, RingId};

/// Plain round robin: remembers who was last.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    last: Option<MemberIndex>,
}

impl RoundRobin {
    /// Begins behind a member, so that several do not all begin with the same one.
    pub fn after(member: MemberIndex) -> Self {
        Self { last: Some(member) }
    }

    /// The next in the order of the list. Who is not a candidate loses its turn.
    pub fn next(&mut self, candidates: &Candidates) -> Option<MemberIndex> {
        let list = candidates.as_slice();
        let last = self.last;
        let after = list.partition_point(|candidate| Some(candidate.member) <= last);
        let next = list.get(after).or(list.first())?.member;
        self.last = Some(next);
        Some(next)
    }
}

/// Smooth weighted round robin: each turn everybody gains its weight, who has most is picked and
/// pays for all. So one of weight 5 among two of weight 1 is not picked five times in a row.
#[derive(Clone, Debug, Default)]
pub struct SmoothRoundRobin {
    /// By member index: whose it is, and what it has gained.
    gains: Vec<(RingId, i64)>,
}

impl SmoothRoundRobin {
    /// Takes over a new list of members; who stays keeps what it has gained. What leavers take along
    /// does not add up: a member that leaves at its turn leaves with more, the more all have.
    pub fn follow(&mut self, members: impl Iterator<Item = RingId>) {
        let old: BTreeMap<RingId, i64> = self.gains.drain(..).collect();
        self.gains = members.map(|id| (id, old.get(&id).copied().unwrap_or(0))).collect();
    }

    /// Whose turn it is. Who is not a candidate keeps what it has gained.
    pub fn next(&mut self, candidates: &Candidates) -> Option<MemberIndex> {
        let mut best: Option<(MemberIndex, i64)> = None;
        for candidate in candidates.as_slice() {
            let Some((_, gain)) = self.gains.get_mut(candidate.member.0 as usize) else { continue };
            *gain += i64::from(candidate.weight);
            if best.is_none_or(|(_, most)| *gain > most) {
                best = Some((candidate.member, *gain));
            }
        }
        let (member, _) = best?;
        let all = i64::try_from(candidates.weights()).unwrap_or(i64::MAX);
        if let Some((_, gain)) = self.gains.get_mut(member.0 as usize) {
            *gain -= all;
        }
        Some(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::testing::candidates;
    use proptest::prelude::*;

    fn smooth(weights: &[u32]) -> (SmoothRoundRobin, Candidates) {
        let mut turns = SmoothRoundRobin::default();
        turns.follow((0..weights.len() as u32).map(RingId));
        (turns, candidates(weights))
    }

    fn letters(turns: impl Iterator<Item = MemberIndex>) -> String {
        turns.map(|member| char::from(b'a' + member.0 as u8)).collect()
    }

    #[test]
    fn turns_go_round_and_past_those_who_are_not_there() {
        let all = candidates(&[1, 5, 1]);
        let mut turns = RoundRobin::default();
        assert_eq!(letters((0..7).map(|_| turns.next(&all).unwrap())), "abcabca");
        let some = all.only(|member| member != MemberIndex(1));
        assert_eq!(letters((0..4).map(|_| turns.next(&some).unwrap())), "caca");
        assert_eq!(turns.next(&all), Some(MemberIndex(1)), "it is back, and after the last");
        assert_eq!(turns.next(&candidates(&[])), None);
        assert_eq!(RoundRobin::after(MemberIndex(1)).next(&all), Some(MemberIndex(2)));
        assert_eq!(RoundRobin::after(MemberIndex(9)).next(&all), Some(MemberIndex(0)));
    }

    #[test]
    fn weights_are_spread_evenly() {
        let (mut turns, all) = smooth(&[5, 1, 1]);
        // The sequence of nginx for these weights.
        assert_eq!(letters((0..14).map(|_| turns.next(&all).unwrap())), "aabacaaaabacaa");
        assert_eq!(turns.next(&candidates(&[])), None);
    }

    #[test]
    fn who_stays_keeps_its_gain_when_the_list_changes() {
        let (mut turns, all) = smooth(&[1, 1, 1]);
        assert_eq!(letters((0..2).map(|_| turns.next(&all).unwrap())), "ab");
        // The first leaves; the third is still next although it has another index.
        turns.follow([RingId(1), RingId(2)].into_iter());
        let two = candidates(&[1, 1]);
        assert_eq!(turns.next(&two), Some(MemberIndex(1)));
        let unknown = candidates(&[1, 1, 100]);
        assert_ne!(turns.next(&unknown), Some(MemberIndex(2)), "one it never heard of");
    }

    #[test]
    fn what_leavers_take_along_does_not_add_up() {
        let weights = [1, 4, 1, 2, 1, 1, 3, 1];
        let (mut turns, all) = smooth(&weights);
        let mut ids: Vec<u32> = (0..8).collect();
        for newcomer in 8..10_000 {
            // The member that had its turn leaves, with the debt of it.
            let picked = turns.next(&all).unwrap();
            ids[picked.0 as usize] = newcomer;
            turns.follow(ids.iter().copied().map(RingId));
            let most = 2 * all.weights() as i64;
            assert!(turns.gains.iter().all(|(_, gain)| gain.abs() <= most), "{:?}", turns.gains);
        }
        // The last newcomer waits hardly longer than for an ordinary turn.
        let last = ids.iter().position(|id| *id == 9_999).unwrap();
        let wait = (0..100).position(|_| usize::from(turns.next(&all).unwrap().0) == last);
        assert!(wait.is_some_and(|wait| wait < 3 * all.weights() as usize), "{wait:?}");
    }

    proptest! {
        #[test]
        fn one_round_gives_each_its_weight_and_gaps_stay_even(
            weights in proptest::collection::vec(1..9_u32, 1..9),
        ) {
            let (mut turns, all) = smooth(&weights);
            let round = all.weights() as usize;
            let order: Vec<usize> =
                (0..round).map(|_| turns.next(&all).unwrap().0 as usize).collect();
            for (member, &weight) in weights.iter().enumerate() {
                let at: Vec<usize> = (0..round).filter(|turn| order[*turn] == member).collect();
                prop_assert_eq!(at.len(), weight as usize);
                // At no moment anybody is a whole turn of each other member ahead of its part.
                for (count, turn) in at.iter().enumerate() {
                    let due = (turn + 1) as f64 * f64::from(weight) / round as f64;
                    let ahead = (count + 1) as f64 - due;
                    prop_assert!(ahead.abs() < weights.len() as f64, "{:?}", order);
                }
            }
            prop_assert!(turns.gains.iter().all(|(_, gain)| *gain == 0));
        }

        #[test]
        fn who_is_left_out_gets_no_turn(
            weights in proptest::collection::vec(1..9_u32, 2..9),
            out in 0..9_u16,
        ) {
            let (mut turns, all) = smooth(&weights);
            let out = MemberIndex(out % weights.len() as u16);
            let some = all.only(|member| member != out);
            let mut plain = RoundRobin::default();
            for turn in 0..200 {
                // Between others in which it takes part.
                if turn % 3 == 0 {
                    turns.next(&all);
                    plain.next(&all);
                }
                prop_assert_ne!(turns.next(&some), Some(out));
                prop_assert_ne!(plain.next(&some), Some(out));
            }
        }
    }
}
