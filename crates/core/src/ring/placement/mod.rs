//! Where virtual servers go.

mod even;
pub(super) mod slots;

use super::{
    Algorithm, Collision, Member, Placement, RingError, RingId, RingSettings, Slot, hash,
    settings::{EVEN_MEMBERS_MAX, EVEN_POINTS_MAX},
};

/// Gives a member the virtual servers that its weight lacks; `before` is the weight that its
/// positions are for. Writes only free slots.
pub(super) fn grow(
    settings: &RingSettings,
    members: &mut [Member],
    id: RingId,
    before: u32,
) -> Result<(), RingError> {
    let Some(index) = members.iter().position(|member| member.id == id) else {
        return Err(RingError::Unknown(id));
    };
    let weight = members[index].weight;
    let needed = u64::from(settings.virtual_servers) * u64::from(weight - before);
    let taken: u64 = members.iter().map(|member| member.positions.len() as u64).sum();
    let points = taken + needed;
    if points > u64::from(settings.slots) {
        return Err(RingError::Full { slots: settings.slots, taken: taken as u32, needed });
    }
    // At most the number of slots.
    let needed = needed as u32;
    if settings.is_even() {
        if points > u64::from(EVEN_POINTS_MAX) {
            return Err(RingError::EvenFull { points: points as u32 });
        }
        if members.len() > EVEN_MEMBERS_MAX {
            return Err(RingError::EvenFull { points: members.len() as u32 });
        }
        let positions = even::place(settings, members, index, needed);
        members[index].positions.extend(positions);
        return Ok(());
    }
    let mut occupied = vec![false; settings.slots as usize];
    for &slot in members.iter().flat_map(|member| &member.positions) {
        if let Some(place) = occupied.get_mut(slot as usize) {
            *place = true;
        }
    }
    let member = &mut members[index];
    let first = member.positions.len() as u32;
    for number in first..first.saturating_add(needed) {
        let wanted = wanted_slot(settings, member.id, member.ordinal, number);
        let slot = first_free(&occupied, wanted, settings.collision);
        occupied[slot as usize] = true;
        member.positions.push(slot);
    }
    Ok(())
}

/// Takes the virtual servers that a member has beyond its weight.
pub(super) fn shrink(settings: &RingSettings, members: &mut [Member], id: RingId) {
    let Some(index) = members.iter().position(|member| member.id == id) else {
        return;
    };
    let keep = settings.virtual_servers.saturating_mul(members[index].weight) as usize;
    if settings.is_even() {
        members[index].positions = even::thin(settings, members, index, keep);
    } else {
        // The last come, the first to go: the exact undo of growing.
        members[index].positions.truncate(keep);
    }
}

/// Virtual servers of a member that do not sit where their placement wants them, because the slot
/// was taken. Even placement wants no slot in particular, so nothing is displaced.
pub(super) fn displaced(settings: &RingSettings, member: &Member) -> usize {
    if settings.is_even() {
        return 0;
    }
    let wanted = |number| wanted_slot(settings, member.id, member.ordinal, number);
    let positions = member.positions.iter().zip(0u32..);
    positions.filter(|&(&slot, number)| slot != wanted(number)).count()
}

/// See [`super::membership::settle`].
pub(super) fn settle(settings: &RingSettings, members: &mut [Member]) -> Result<(), RingError> {
    let mut by_age: Vec<usize> = (0..members.len()).collect();
    by_age.sort_unstable_by_key(|&index| members[index].id);
    let mut occupied = vec![false; settings.slots as usize];
    let mut homeless = Vec::new();
    for &index in &by_age {
        let member = &mut members[index];
        let wanted = u64::from(settings.virtual_servers) * u64::from(member.weight);
        let is_free = |slot: &Slot| occupied.get(*slot as usize) == Some(&false);
        if member.positions.len() as u64 == wanted && member.positions.iter().all(is_free) {
            member.positions.iter().for_each(|&slot| occupied[slot as usize] = true);
        } else {
            member.positions.clear();
            homeless.push(member.id);
        }
    }
    homeless.into_iter().try_for_each(|id| grow(settings, members, id, 0))
}

/// Whether positions chosen under some settings are what others would choose, too.
pub(super) fn keeps_positions(old: &RingSettings, new: &RingSettings) -> bool {
    if old.algorithm != new.algorithm {
        return false;
    }
    match new.algorithm {
        Algorithm::Ring => {
            let is_hashed = new.placement == Placement::Hash;
            let is_free = new.placement == Placement::Even;
            (old.slots, old.virtual_servers, old.placement)
                == (new.slots, new.virtual_servers, new.placement)
                && (old.hash == new.hash || !is_hashed)
                && (old.collision == new.collision || is_free)
        }
        Algorithm::Slots => old.slots == new.slots,
        // There are none.
        _ => true,
    }
}

/// The slot where a virtual server sits when nothing is in its way.
fn wanted_slot(settings: &RingSettings, id: RingId, ordinal: u32, number: u32) -> Slot {
    if settings.placement == Placement::Polynomial {
        return hash::polynomial_placement(ordinal, number, settings.slots);
    }
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&id.0.to_le_bytes());
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    settings.hash.index(&bytes, settings.slots.into()) as Slot
}

/// The first free slot of the rule's sequence. The caller has checked that one is free.
fn first_free(occupied: &[bool], wanted: Slot, rule: Collision) -> Slot {
    let slots = occupied.len() as u64;
    let step = |step: u64| match rule {
        Collision::Linear => step,
        Collision::Quadratic => step * step,
    };
    let rule_wants = (0..slots).map(step);
    // Squares do not reach every slot; counting on does.
    let sequence = rule_wants.chain(1..slots).map(|step| (u64::from(wanted) + step) % slots);
    let free = sequence.into_iter().find(|&at| !occupied[at as usize]);
    debug_assert!(free.is_some(), "grow() counts free slots before it asks for one");
    free.unwrap_or(wanted.into()) as Slot
}
