//! What a change of the ring moves: who gives which part of all slots to whom.

use std::collections::BTreeMap;

use super::{Ring, RingId};

/// A part of all slots that changes hands.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// Who gives; `None` when the ring was empty.
    pub from: Option<RingId>,
    /// Who gets; `None` when the ring becomes empty.
    pub to: Option<RingId>,
    /// Part of all slots, 0 to 1.
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
}

/// Compares two rings of the same number of slots, slot by slot; of different numbers, on the
/// finer of the two circles, by rounding down.
pub fn between(before: &Ring, after: &Ring) -> Moves {
    let slots = before.settings().slots.max(after.settings().slots);
    let (owners_before, owners_after) = (owners(before, slots), owners(after, slots));
    let mut counts: BTreeMap<(Option<RingId>, Option<RingId>), u32> = BTreeMap::new();
    let mut balance: BTreeMap<Option<RingId>, i64> = BTreeMap::new();
    for (&from, &to) in owners_before.iter().zip(&owners_after) {
        *balance.entry(from).or_default() -= 1;
        *balance.entry(to).or_default() += 1;
        if from != to {
            *counts.entry((from, to)).or_default() += 1;
        }
    }
    let share = |count: f64| count / f64::from(slots);
    let moves: Vec<Move> = counts
        .into_iter()
        .map(|((from, to), count)| Move { from, to, share: share(f64::from(count)) })
        .collect();
    let gains: i64 = balance.values().filter(|&&gain| gain > 0).sum();
    Moves {
        moved_share: moves.iter().map(|entry| entry.share).sum(),
        minimum_share: share(gains as f64),
        moves,
    }
}

fn owners(ring: &Ring, slots: u32) -> Vec<Option<RingId>> {
    let own = u64::from(ring.settings().slots);
    (0..u64::from(slots))
        .map(|slot| {
            let slot = (slot * own / u64::from(slots)) as u32;
            ring.owner(slot).map(|index| ring.members()[index.0 as usize].id)
        })
        .collect()
}
