//! Tables that follow from the members alone: ketama, Maglev, rendezvous and jump.

use super::{Member, MemberIndex, Slot, hash::mix, settings::TABLE_SLOTS};

/// A virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) slot: Slot,
    pub(super) member: MemberIndex,
}

/// Points of ketama per unit of weight.
const KETAMA_POINTS: u32 = 160;

/// The sorted points of a circle of 2³² slots. A member's text is that of its stable network alias,
/// `replica-<id>`, without a port; each point is the CRC-32 of that text and the previous point.
pub(super) fn ketama(members: &[Member]) -> Vec<Point> {
    let mut points = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let mut base = crc32fast::Hasher::new();
        // nginx puts a zero byte between host and port.
        base.update(format!("replica-{}\0", member.id).as_bytes());
        let mut previous = 0u32;
        for _ in 0..member.weight.saturating_mul(KETAMA_POINTS) {
            let mut hasher = base.clone();
            hasher.update(&previous.to_le_bytes());
            previous = hasher.finalize();
            points.push((previous, member.id, MemberIndex(index as u16)));
        }
    }
    // The identity decides between two on one slot, so that the order of joining does not.
    points.sort_unstable_by_key(|&(slot, id, _)| (slot, id));
    points.dedup_by_key(|&mut (slot, ..)| slot);
    points.into_iter().map(|(slot, _, member)| Point { slot, member }).collect()
}

/// Maglev's table: the members take turns, each at the next free slot of its own permutation; a
/// weight is that many turns.
pub(super) fn maglev(members: &[Member]) -> Vec<MemberIndex> {
    if members.is_empty() {
        return Vec::new();
    }
    let slots = u64::from(TABLE_SLOTS);
    // By identity, so that the order of joining does not matter.
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_unstable_by_key(|&index| members[index].id);
    let mut next: Vec<(u64, u64)> = members
        .iter()
        .map(|member| {
            let id = u64::from(member.id.0);
            (mix(0x6d61_676c, id) % slots, mix(0x6576_5f73, id) % (slots - 1) + 1)
        })
        .collect();
    let mut table = vec![None; TABLE_SLOTS as usize];
    let mut free = table.len();
    while free > 0 {
        for &index in &order {
            for _ in 0..members[index].weight {
                if free == 0 {
                    break;
                }
                let (at, skip) = &mut next[index];
                // 65,537 is prime, so every permutation reaches every slot.
                while table[*at as usize].is_some() {
                    *at = (*at + *skip) % slots;
                }
                table[*at as usize] = Some(MemberIndex(index as u16));
                free -= 1;
            }
        }
    }
    table.into_iter().flatten().collect()
}

/// How much a slot prefers a member: the highest of as many draws as the member has weight, so
/// that weights hold exactly and without floating point. The identity breaks ties.
#[inline]
pub(super) fn score(member: &Member, slot: Slot) -> (u64, u32) {
    let id = u64::from(member.id.0);
    let draws = 0..u64::from(member.weight);
    let best = draws.map(|draw| mix(mix(draw, id), u64::from(slot))).max();
    (best.unwrap_or(0), member.id.0)
}

pub(super) fn rendezvous(members: &[Member]) -> Vec<MemberIndex> {
    if members.is_empty() {
        return Vec::new();
    }
    // The draws' seeds once, not once for each of the slots.
    let seeds: Vec<(u64, usize)> = members
        .iter()
        .enumerate()
        .flat_map(|(index, member)| {
            let id = u64::from(member.id.0);
            (0..u64::from(member.weight)).map(move |draw| (mix(draw, id), index))
        })
        .collect();
    let best = |slot: u32| {
        let scores = seeds.iter().map(|&(seed, index)| (mix(seed, u64::from(slot)), index));
        scores.max_by_key(|&(score, index)| (score, members[index].id)).map_or(0, |(_, i)| i)
    };
    (0..TABLE_SLOTS).map(|slot| MemberIndex(best(slot) as u16)).collect()
}

/// Jump consistent hash of each slot's number over the members in the order of joining, each as
/// often as its weight.
pub(super) fn jump(members: &[Member]) -> Vec<MemberIndex> {
    let places: Vec<MemberIndex> = members
        .iter()
        .enumerate()
        .flat_map(|(index, member)| {
            std::iter::repeat_n(MemberIndex(index as u16), member.weight as usize)
        })
        .collect();
    if places.is_empty() {
        return Vec::new();
    }
    let place = |slot: u32| jump_hash(mix(0x6a75_6d70, u64::from(slot)), places.len() as u32);
    (0..TABLE_SLOTS).map(|slot| places[place(slot) as usize]).collect()
}

/// Lamping and Veach: A fast, minimal memory, consistent hash algorithm (2014).
fn jump_hash(mut key: u64, places: u32) -> u32 {
    let (mut at, mut next) = (0i64, 0i64);
    while next < i64::from(places) {
        at = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let scale = (1u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((at + 1) as f64 * scale) as i64;
    }
    at as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::RingId;
    use proptest::prelude::*;

    fn members(weights: &[u32]) -> Vec<Member> {
        let each = weights.iter().enumerate().map(|(index, &weight)| Member {
            id: RingId(index as u32 + 1),
            ordinal: index as u32 + 1,
            weight,
            positions: Vec::new(),
        });
        each.collect()
    }

    fn counts(table: &[MemberIndex], members: usize) -> Vec<u32> {
        let mut counts = vec![0; members];
        for owner in table {
            counts[owner.0 as usize] += 1;
        }
        counts
    }

    /// CRC-32 by its definition, one bit at a time: the points must not depend on our crate's idea
    /// of chaining.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 }
            })
        })
    }

    #[test]
    fn ketama_points_are_those_of_nginx() {
        let points = ketama(&members(&[1, 2]));
        assert_eq!(points.len(), 3 * KETAMA_POINTS as usize);
        let mut expected = Vec::new();
        for (index, count) in [(0u16, 160), (1, 320)] {
            let mut previous = 0u32;
            for _ in 0..count {
                let mut text = format!("replica-{}", index + 1).into_bytes();
                text.push(0);
                text.extend(previous.to_le_bytes());
                previous = crc32(&text);
                expected.push((previous, index));
            }
        }
        expected.sort_unstable();
        let points: Vec<_> = points.iter().map(|point| (point.slot, point.member.0)).collect();
        assert_eq!(points, expected);
    }

    #[test]
    fn maglev_gives_turns_by_weight() {
        let table = maglev(&members(&[1; 10]));
        let counts_equal = counts(&table, 10);
        let (least, most) =
            (counts_equal.iter().min().unwrap(), counts_equal.iter().max().unwrap());
        assert!(most - least <= 1, "{counts_equal:?}");
        let weighted = counts(&maglev(&members(&[1, 3])), 2);
        assert!(weighted[1].abs_diff(3 * weighted[0]) <= 3, "{weighted:?}");
        assert!(maglev(&[]).is_empty());
    }

    #[test]
    fn rendezvous_shares_are_weights() {
        let counts = counts(&rendezvous(&members(&[1, 2, 5])), 3);
        for (count, weight) in counts.iter().zip([1.0, 2.0, 5.0]) {
            let expected = f64::from(TABLE_SLOTS) * weight / 8.0;
            // Five standard deviations of a binomial draw.
            let slack = 5.0 * (expected * (1.0 - weight / 8.0)).sqrt();
            assert!((f64::from(*count) - expected).abs() < slack, "{counts:?}");
        }
    }

    #[test]
    fn the_rendezvous_table_holds_the_highest_scores() {
        let members = members(&[1, 3, 2, 1]);
        let table = rendezvous(&members);
        for slot in (0..TABLE_SLOTS).step_by(97) {
            let best = members.iter().max_by_key(|member| score(member, slot)).unwrap();
            assert_eq!(members[table[slot as usize].0 as usize].id, best.id);
        }
    }

    proptest! {
        #[test]
        fn jump_agrees_with_its_crate(key in any::<u64>(), places in 1u32..2_000) {
            prop_assert_eq!(jump_hash(key, places), jump_consistent_hash::hash(key, places as usize) as u32);
        }
    }
}
