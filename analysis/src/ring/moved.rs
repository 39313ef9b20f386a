//! Checks that changes of the ring move no more slots than necessary.

use anyhow::Result;
use rand::RngExt;
use rand::rngs::SmallRng;
use ringmaster_core::ring::explain::without;
use ringmaster_core::ring::moves::{self, Move};
use ringmaster_core::ring::{Algorithm, Ring, RingError, RingId, membership};

use super::{Row, chance, joined, settings};

const HISTORIES: u64 = 1_000;
const CHANGES: usize = 16;
const WEIGHT_MAX: u32 = 4;

/// Changes of one kind, and those that moved more than they had to or to the wrong one.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    changes: u64,
    wrong: u64,
}

/// By kind: additions, removals, respawns, changes of weight.
type Counts = [Count; 4];

const KINDS: [(&str, &str); 4] = [
    ("add", "only to the newcomer"),
    ("remove", "only from the removed"),
    ("respawn", "none"),
    ("weight change", "only to or from that one"),
];

pub(super) fn rows() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for algorithm in [Algorithm::Ring, Algorithm::Slots] {
        let mut counts = Counts::default();
        for seed in 0..HISTORIES {
            play(algorithm, &mut chance(seed), &mut counts)?;
        }
        for ((kind, goal), count) in KINDS.iter().zip(counts) {
            rows.push(Row {
                figure: format!("moved slots, {}, {kind}", algorithm.name()),
                goal: format!("the minimum: {goal}"),
                measured: format!(
                    "{} of {} changes moved anything else, in {HISTORIES} histories",
                    count.wrong, count.changes
                ),
                holds: count.wrong == 0 && count.changes > 0,
            });
        }
    }
    Ok(rows)
}

/// Whether a change may move this.
type Allowed = Box<dyn Fn(&Move) -> bool>;

/// One history: a few replicas with weights, then random changes.
fn play(algorithm: Algorithm, chance: &mut SmallRng, counts: &mut Counts) -> Result<()> {
    let mut ring = Ring::new(settings(algorithm), Vec::new())?;
    let mut last_id = 0;
    for step in 0..CHANGES {
        let members = ring.members().len();
        let kind = if step < 3 || members == 0 { 0 } else { chance.random_range(0..KINDS.len()) };
        let weight = chance.random_range(1..=WEIGHT_MAX);
        let any_member =
            |chance: &mut SmallRng| ring.members()[chance.random_range(0..members)].clone();
        let (after, is_allowed): (Result<Ring, RingError>, Allowed) = match kind {
            0 => {
                last_id += 1;
                let id = RingId(last_id);
                (joined(&ring, id, weight), Box::new(move |one| one.to == Some(id)))
            }
            1 => {
                let id = any_member(chance).id;
                (Ok(without(&ring, id)), Box::new(move |one| one.from == Some(id)))
            }
            // A new instance takes the place of the old one: the same members, read back.
            2 => (Ring::new(ring.settings().clone(), ring.members().to_vec()), Box::new(|_| false)),
            _ => {
                let member = any_member(chance);
                let (id, is_heavier) = (member.id, weight > member.weight);
                let fits = move |one: &Move| if is_heavier { one.to } else { one.from } == Some(id);
                (reweighed(&ring, id, weight), Box::new(fits))
            }
        };
        // A change without room is refused and not counted.
        let Ok(after) = after else { continue };
        let moved = moves::between(&ring, &after);
        let is_minimal = (moved.moved_share - moved.minimum_share).abs() < 1e-12;
        counts[kind].changes += 1;
        counts[kind].wrong += u64::from(!is_minimal || !moved.moves.iter().all(is_allowed));
        ring = after;
    }
    Ok(())
}

fn reweighed(ring: &Ring, id: RingId, weight: u32) -> Result<Ring, RingError> {
    let mut members = ring.members().to_vec();
    membership::reweigh(ring.settings(), &mut members, id, weight)?;
    Ring::new(ring.settings().clone(), members)
}
