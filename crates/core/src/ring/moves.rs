//! What a change of the ring moves: who gives which part of all keys to whom.

use std::collections::BTreeMap;

use super::{MemberIndex, Ring, RingId, hash::mix};

/// Keys that are compared where a slot does not say it.
const SAMPLE: u32 = 1 << 16;

/// A part of all keys that changes hands.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// Who gives; `None` when the ring was empty.
    pub from: Option<RingId>,
    /// Who gets; `None` when the ring becomes empty.
    pub to: Option<RingId>,
    /// Part of all keys, 0 to 1.
    pub share: f64,
}

/// Everything that moves between two rings.
#[derive(Clone, Debug, PartialEq)]
pub struct Moves {
    /// By giver, then taker.
    pub moves: Vec<Move>,
    /// The sum of `moves`.
    pub moved_share: f64,
    /// What any algorithm must move at least to get from the first shares to the second: the sum
    /// of all gains.
    pub minimum_share: f64,
    /// Keys that were looked up on both rings, where a key's slot changes too, so that slots do
    /// not tell. `None`: counted slot by slot, exact.
    pub sampled_keys: Option<u32>,
}

/// Compares two rings.
pub fn between(before: &Ring, after: &Ring) -> Moves {
    let mut tally = Tally::default();
    let is_exact = before.settings().maps_like(after.settings());
    let owner = |ring: &Ring, index: Option<MemberIndex>| {
        index.map(|index| ring.members()[index.0 as usize].id)
    };
    if is_exact {
        for (length, slot) in common_arcs(before, after) {
            let from = owner(before, before.owner(slot));
            tally.add(from, owner(after, after.owner(slot)), length);
        }
    } else {
        for number in 0..SAMPLE {
            // Six digits, as the keys that are drawn for requests without one.
            let key = (100_000 + mix(0x6b65_7973, u64::from(number)) % 900_000).to_string();
            let from = owner(before, before.owner(before.slot_of(key.as_bytes())));
            let to = owner(after, after.owner(after.slot_of(key.as_bytes())));
            tally.add(from, to, 1);
        }
    }
    tally.finish((!is_exact).then_some(SAMPLE))
}

#[derive(Default)]
struct Tally {
    counts: BTreeMap<(Option<RingId>, Option<RingId>), u64>,
    balance: BTreeMap<Option<RingId>, i64>,
    all: u64,
}

impl Tally {
    fn add(&mut self, from: Option<RingId>, to: Option<RingId>, count: u64) {
        self.all += count;
        if from != to {
            *self.balance.entry(from).or_default() -= count as i64;
            *self.balance.entry(to).or_default() += count as i64;
            *self.counts.entry((from, to)).or_default() += count;
        }
    }

    fn finish(self, sampled_keys: Option<u32>) -> Moves {
        let share = |count: f64| if self.all == 0 { 0.0 } else { count / self.all as f64 };
        let moved: u64 = self.counts.values().sum();
        let gains: i64 = self.balance.values().filter(|&&gain| gain > 0).sum();
        Moves {
            moved_share: share(moved as f64),
            minimum_share: share(gains as f64),
            moves: self
                .counts
                .iter()
                .map(|(&(from, to), &count)| Move { from, to, share: share(count as f64) })
                .collect(),
            sampled_keys,
        }
    }
}

/// Parts of the circle within which neither ring changes its owner: length and last slot.
fn common_arcs(before: &Ring, after: &Ring) -> Vec<(u64, u32)> {
    let circle = before.settings().circle();
    let last = (circle - 1) as u32;
    let ends = |ring: &Ring| ring.arcs().into_iter().map(|arc| arc.end).collect::<Vec<_>>();
    let mut all = ends(before);
    all.extend(ends(after));
    // What lies after the last virtual server belongs to the first one's arc.
    all.push(last);
    all.sort_unstable();
    all.dedup();
    let mut from = 0u64;
    all.into_iter()
        .map(|end| {
            let length = u64::from(end) + 1 - from;
            from = u64::from(end) + 1;
            (length, end)
        })
        .collect()
}
