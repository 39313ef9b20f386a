//! The algorithm `slots`: a table of owners. An addition takes evenly from all, a removal deals out
//! evenly to all, and so the fullest member of equal weights never has more than ⌈M/N⌉ slots.

use crate::ring::{Member, MemberIndex, Ring, RingError, RingId, RingSettings, Slot, hash::mix};

const NO_MEMBER: usize = usize::MAX;

/// Brings one member to its part of the slots: takes from the fullest, or deals out to the
/// emptiest. The others trade nothing with each other.
pub(in crate::ring) fn level(
    settings: &RingSettings,
    members: &mut [Member],
    id: RingId,
) -> Result<(), RingError> {
    let Some(index) = members.iter().position(|member| member.id == id) else {
        return Err(RingError::Unknown(id));
    };
    let weights: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    let slots = u64::from(settings.slots);
    if weights > slots {
        return Err(RingError::TooHeavy { weights, most: settings.slots });
    }
    if members.len() == 1 {
        members[index].positions = (0..settings.slots).collect();
        return Ok(());
    }
    let part = (slots * u64::from(members[index].weight) / weights).max(1) as usize;
    let has = members[index].positions.len();
    if part < has {
        let mut kept = std::mem::take(&mut members[index].positions);
        cut(&mut kept, part, id, 0x6769_7665);
        kept.sort_unstable();
        members[index].positions = kept;
        deal_unowned(settings, members, Some(id));
    } else {
        take(members, index, part - has);
    }
    Ok(())
}

/// Gives slots without owner to those who have the least for their weight.
pub(in crate::ring) fn deal_unowned(
    settings: &RingSettings,
    members: &mut [Member],
    not_to: Option<RingId>,
) {
    let owners = owners(settings, members);
    for slot in 0..settings.slots {
        if owners[slot as usize] != NO_MEMBER {
            continue;
        }
        let after = |member: &Member| member.positions.len() as u64 + 1;
        let candidates = members.iter_mut().filter(|member| Some(member.id) != not_to);
        let emptiest = candidates.min_by(|a, b| {
            let (left, right) = (after(a) * u64::from(b.weight), after(b) * u64::from(a.weight));
            let chance = |member: &Member| mix(slot.into(), member.id.0.into());
            left.cmp(&right).then_with(|| chance(a).cmp(&chance(b)))
        });
        let Some(emptiest) = emptiest else { return };
        emptiest.positions.push(slot);
    }
    members.iter_mut().for_each(|member| member.positions.sort_unstable());
}

/// The members of another ring with the slots that they own there, less what they have too much of:
/// that goes to those who have too little, and nothing else moves. The circle of `settings` is a
/// multiple of the ring's, so that a key's slot says its slot on the ring.
pub(in crate::ring) fn level_all(
    settings: &RingSettings,
    ring: &Ring,
) -> Result<Vec<Member>, RingError> {
    let mut members = ring.members().to_vec();
    let weights: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    if weights > u64::from(settings.slots) {
        return Err(RingError::TooHeavy { weights, most: settings.slots });
    }
    members.iter_mut().for_each(|member| member.positions.clear());
    for slot in 0..settings.slots {
        let before = (u64::from(slot) % ring.settings().circle()) as Slot;
        if let Some(MemberIndex(owner)) = ring.owner(before) {
            members[owner as usize].positions.push(slot);
        }
    }
    let parts = parts(settings, &members, weights);
    for (member, part) in members.iter_mut().zip(parts) {
        if member.positions.len() > part {
            cut(&mut member.positions, part, member.id, 0x6c65_7665);
        }
    }
    deal_unowned(settings, &mut members, None);
    Ok(members)
}

/// How many slots each member is to have at most: its part by weight, and one of the slots that are
/// left over for those that have the most of them now.
fn parts(settings: &RingSettings, members: &[Member], weights: u64) -> Vec<usize> {
    let part = |member: &Member| u64::from(settings.slots) * u64::from(member.weight) / weights;
    let mut parts: Vec<usize> = members.iter().map(|member| part(member) as usize).collect();
    let left = (settings.slots as usize).saturating_sub(parts.iter().sum());
    let mut fullest: Vec<usize> = (0..members.len()).collect();
    let excess = |index: usize| members[index].positions.len() as i64 - parts[index] as i64;
    fullest.sort_by_key(|&index| (std::cmp::Reverse(excess(index)), members[index].id));
    for &index in fullest.iter().take(left) {
        parts[index] += 1;
    }
    parts
}

/// See [`crate::ring::membership::settle`].
pub(in crate::ring) fn settle(settings: &RingSettings, members: &mut [Member]) {
    let mut by_age: Vec<usize> = (0..members.len()).collect();
    by_age.sort_unstable_by_key(|&index| members[index].id);
    let mut owners = vec![NO_MEMBER; settings.slots as usize];
    for &index in &by_age {
        for &slot in &members[index].positions {
            if let Some(owner) = owners.get_mut(slot as usize) {
                *owner = index;
            }
        }
    }
    members.iter_mut().for_each(|member| member.positions.clear());
    for (slot, &owner) in owners.iter().enumerate() {
        if let Some(member) = members.get_mut(owner) {
            member.positions.push(slot as Slot);
        }
    }
    deal_unowned(settings, members, None);
}

/// Moves slots to one member, each from the one that has most for its weight at that moment.
fn take(members: &mut [Member], taker: usize, count: usize) {
    let id = members[taker].id;
    let mut left: Vec<u64> = members.iter().map(|member| member.positions.len() as u64).collect();
    let chances: Vec<u64> =
        members.iter().map(|giver| mix(id.0.into(), giver.id.0.into())).collect();
    for _ in 0..count {
        let givers = (0..members.len()).filter(|&giver| giver != taker && left[giver] > 1);
        let fullest = givers.max_by(|&a, &b| {
            let (weight_a, weight_b) = (u64::from(members[a].weight), u64::from(members[b].weight));
            (left[a] * weight_b).cmp(&(left[b] * weight_a)).then(chances[a].cmp(&chances[b]))
        });
        let Some(fullest) = fullest else { break };
        left[fullest] -= 1;
    }
    let mut taken = Vec::with_capacity(count);
    for (giver, &keeps) in left.iter().enumerate() {
        let positions = &mut members[giver].positions;
        if positions.len() as u64 > keeps {
            taken.extend(cut(positions, keeps as usize, id, 0x7461_6b65));
            positions.sort_unstable();
        }
    }
    members[taker].positions.extend(taken);
    members[taker].positions.sort_unstable();
}

/// Cuts positions down to fewer than there are; those given up are the last in an order that
/// differs from member to member, so that they do not lie side by side.
fn cut(positions: &mut Vec<Slot>, keep: usize, id: RingId, salt: u64) -> Vec<Slot> {
    let seed = mix(salt, id.0.into());
    // Who is on which side is all that counts: no need to sort them.
    positions.select_nth_unstable_by_key(keep, |&slot| mix(seed, slot.into()));
    positions.split_off(keep)
}

fn owners(settings: &RingSettings, members: &[Member]) -> Vec<usize> {
    let mut owners = vec![NO_MEMBER; settings.slots as usize];
    for (index, member) in members.iter().enumerate() {
        for &slot in &member.positions {
            if let Some(owner) = owners.get_mut(slot as usize) {
                *owner = index;
            }
        }
    }
    owners
}
