//! Even placement: coordinate descent on one quadratic score.
//!
//! With s(o) the slots that o owns, g(r, o) those of r that would fall to o if r left, w(o) the
//! weight of o and N the number of members, the newcomer included, the score is
//!
//! ```text
//! J = Σ_o (A·s(o)² + 2·s(o)·in(o)) / w(o) + Σ_{r≠o} g(r, o)² / w(o)
//! in(o) = Σ_r g(r, o)      A = 2N + (N - 1)
//! ```
//!
//! that is, up to constants, 2N times the evenness now and once the evenness after each possible
//! removal. Putting a virtual server x slots into an arc changes J by a quadratic in x, so
//! the best x of an arc costs a division. A greedy start and a few starts drawn from the identity
//! are each improved one virtual server at a time until nothing gets better.

mod score;

use score::{Gap, Score};

use crate::ring::{Member, RingSettings, Slot, hash::mix};

/// Rounds of improvement of one start. Most end by themselves after three.
const ROUNDS: usize = 6;
/// Bounds the work of one placement: starts × points × points.
const WORK: usize = 6_600;
const STARTS_MAX: usize = 24;

/// The best slots for `count` more virtual servers of the member at `index`, whose weight is
/// already the new one. The caller has checked that they fit.
pub(super) fn place(
    settings: &RingSettings,
    members: &[Member],
    index: usize,
    count: u32,
) -> Vec<Slot> {
    let (slots, count) = (settings.slots, count as usize);
    let others = members.iter().enumerate().filter(|(at, _)| *at != index);
    let owners = others.filter(|(_, member)| !member.positions.is_empty()).count();
    let has_points = !members[index].positions.is_empty();
    match (owners, has_points) {
        (0, false) => return (0..count).map(|j| (j * slots as usize / count) as Slot).collect(),
        (0, true) | (1, false) => return cut_longest(slots, members, index, count),
        _ => {}
    }
    let base = Score::new(slots, members, index);
    let points = base.points() + count;
    let starts = (WORK / (count * points).max(1)).clamp(1, STARTS_MAX);
    let mut best: Option<(i64, Vec<Slot>)> = None;
    for start in 0..starts {
        let mut score = base.clone();
        let mut mine = match start {
            0 => greedy(&mut score, members, index, count),
            _ => drawn(&mut score, members[index].id.0, start, count),
        };
        improve(&mut score, &mut mine);
        if best.as_ref().is_none_or(|(least, _)| score.value() < *least) {
            best = Some((score.value(), mine));
        }
    }
    best.map_or_else(Vec::new, |(_, mine)| mine)
}

/// The positions that a member keeps when it has too many: those are given up, one after the
/// other, whose loss leaves the best score. Order is kept.
pub(super) fn thin(
    settings: &RingSettings,
    members: &[Member],
    index: usize,
    keep: usize,
) -> Vec<Slot> {
    let mut positions = members[index].positions.clone();
    let mut score = Score::new(settings.slots, members, index);
    if !score.has_others() {
        positions.truncate(keep);
        return positions;
    }
    while positions.len() > keep {
        let mut loss = |slot: Slot| {
            let (back, _) = score.lift(slot);
            let without = score.value();
            score.put(slot, &back);
            without
        };
        // The last of equals: it came last.
        let least = (0..positions.len()).rev().min_by_key(|&at| loss(positions[at]));
        let Some(at) = least else { break };
        score.lift(positions.remove(at));
    }
    positions
}

/// Two members: as much from the longest arc of the other each time as is still wanted. For one
/// alone it does not matter where, so its own arcs are halved.
fn cut_longest(slots: u32, members: &[Member], index: usize, count: usize) -> Vec<Slot> {
    let mut points: Vec<(Slot, bool)> = members
        .iter()
        .enumerate()
        .flat_map(|(at, member)| member.positions.iter().map(move |&slot| (slot, at == index)))
        .collect();
    points.sort_unstable();
    let weights: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    let is_alone = points.iter().all(|&(_, is_mine)| is_mine);
    let wanted = u64::from(slots) * u64::from(members[index].weight) / weights.max(1);
    let (mut got, mut placed) = (0u64, Vec::with_capacity(count));
    for number in 0..count {
        let arcs = (0..points.len()).map(|at| {
            let before = points[(at + points.len() - 1) % points.len()].0;
            let length = (points[at].0 + slots - before - 1) % slots + 1;
            (length, before, at)
        });
        let cuttable = arcs.filter(|&(length, _, at)| length > 1 && (is_alone || !points[at].1));
        let longest = cuttable.max_by_key(|&(length, _, at)| (length, std::cmp::Reverse(at)));
        let Some((length, before, _)) = longest else { break };
        let left = (count - number) as u64;
        let share = (wanted.saturating_sub(got) * 2 + left) / (2 * left);
        let take = if is_alone { length / 2 } else { (share as u32).clamp(1, length - 1) };
        got += u64::from(take);
        let slot = (before + take) % slots;
        placed.push(slot);
        points.push((slot, true));
        points.sort_unstable();
    }
    placed
}

/// One virtual server after the other at the best place, taking no more than its part of what is
/// still wanted: without that bound the first cut would take everything.
fn greedy(score: &mut Score, members: &[Member], index: usize, count: usize) -> Vec<Slot> {
    let weights: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    let weight = u64::from(members[index].weight);
    let wanted = (u64::from(score.slots()) * weight / weights.max(1)) as i64;
    let mut mine = Vec::with_capacity(count);
    for number in 0..count {
        let left = (count - number) as i64;
        let missing = wanted - score.own_slots();
        let cap = ((missing + left - 1) / left).max(1);
        let Some((slot, gap, _)) = score.best(cap) else { break };
        score.put(slot, &gap);
        mine.push(slot);
    }
    mine
}

/// Slots drawn from the identity, the next free one where one is taken.
fn drawn(score: &mut Score, id: u32, start: usize, count: usize) -> Vec<Slot> {
    let mut mine = Vec::with_capacity(count);
    for number in 0..count {
        let draw = mix(mix(u64::from(id), start as u64), number as u64);
        let wanted = (draw % u64::from(score.slots())) as Slot;
        let Some((slot, gap)) = score.first_free(wanted) else { break };
        score.put(slot, &gap);
        mine.push(slot);
    }
    mine
}

/// Lifts one virtual server at a time and puts it where the score is lowest.
fn improve(score: &mut Score, mine: &mut [Slot]) {
    for _ in 0..ROUNDS {
        mine.sort_unstable();
        let mut changed = false;
        for slot in mine.iter_mut() {
            let (back, here): (Gap, i64) = score.lift(*slot);
            match score.best(i64::MAX) {
                Some((better, gap, there)) if there < here => {
                    score.put(better, &gap);
                    *slot = better;
                    changed = true;
                }
                _ => score.put(*slot, &back),
            }
        }
        if !changed {
            break;
        }
    }
}
