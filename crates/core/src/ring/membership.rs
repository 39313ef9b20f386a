//! What positions the members have after one joined, left or changed its weight. Pure: a function
//! of the settings, the members and the identity of the one that changes.
//!
//! Nothing that stays moves: a newcomer gets keys, a leaver gives them, and the others keep theirs.

use super::{Algorithm, MEMBERS_MAX, Member, Ring, RingError, RingId, RingSettings, placement};
use placement::slots;

/// Puts a newcomer behind the members, with its ordinal and its positions.
///
/// # Errors
/// No room; the members are then as they were.
pub fn join(
    settings: &RingSettings,
    members: &mut Vec<Member>,
    id: RingId,
    weight: u32,
) -> Result<(), RingError> {
    if weight == 0 {
        return Err(RingError::Empty(id));
    }
    if members.iter().any(|member| member.id == id) {
        return Err(RingError::Twice(id));
    }
    if members.len() >= MEMBERS_MAX {
        return Err(RingError::TooManyMembers);
    }
    let newcomer =
        Member { id, ordinal: smallest_free_ordinal(members), weight, positions: Vec::new() };
    members.push(newcomer);
    let joined = match settings.algorithm {
        Algorithm::Ring => placement::grow(settings, members, id, 0),
        Algorithm::Slots => slots::level(settings, members, id),
        _ => Ok(()),
    };
    joined.inspect_err(|_| {
        members.pop();
    })
}

/// Takes some members out. What they owned goes to the others.
pub fn leave(settings: &RingSettings, members: &mut Vec<Member>, ids: &[RingId]) {
    members.retain(|member| !ids.contains(&member.id));
    if settings.algorithm == Algorithm::Slots {
        slots::deal_unowned(settings, members, None);
    }
}

/// Gives a member another weight. It gets keys when it becomes heavier and gives some when it
/// becomes lighter; the others trade nothing.
///
/// # Errors
/// No room, or no such member; the members are then as they were.
pub fn reweigh(
    settings: &RingSettings,
    members: &mut [Member],
    id: RingId,
    weight: u32,
) -> Result<(), RingError> {
    if weight == 0 {
        return Err(RingError::Empty(id));
    }
    let index = members.iter().position(|m| m.id == id).ok_or(RingError::Unknown(id))?;
    let before = std::mem::replace(&mut members[index].weight, weight);
    let changed = match settings.algorithm {
        Algorithm::Ring if weight > before => placement::grow(settings, members, id, before),
        Algorithm::Ring => {
            placement::shrink(settings, members, id);
            Ok(())
        }
        Algorithm::Slots => slots::level(settings, members, id),
        _ => Ok(()),
    };
    changed.inspect_err(|_| members[index].weight = before)
}

/// The same members on a ring of other settings, with as few keys moved as these allow: positions
/// stay where the new settings would not place them otherwise, and a table of owners begins with
/// the owners that there are. Everything else is placed anew, in the order of the members.
///
/// # Errors
/// No room.
pub fn transfer(ring: &Ring, settings: &RingSettings) -> Result<Vec<Member>, RingError> {
    let (old, members) = (ring.settings(), ring.members());
    settings.check()?;
    if placement::keeps_positions(old, settings) {
        return Ok(members.to_vec());
    }
    let refines = settings.circle().is_multiple_of(old.circle());
    if settings.algorithm == Algorithm::Slots && refines && old.hash == settings.hash {
        return slots::level_all(settings, ring);
    }
    let mut placed = Vec::with_capacity(members.len());
    for member in members {
        join(settings, &mut placed, member.id, member.weight)?;
    }
    Ok(placed)
}

/// Makes positions agree that were written down at different times: those that the members had
/// when they joined. Of two owners of a slot the younger took it from the older, in a table; on a
/// circle those that do not fit any more are placed anew.
///
/// # Errors
/// No room.
pub fn settle(settings: &RingSettings, members: &mut [Member]) -> Result<(), RingError> {
    match settings.algorithm {
        Algorithm::Slots => slots::settle(settings, members),
        Algorithm::Ring => return placement::settle(settings, members),
        _ => members.iter_mut().for_each(|member| member.positions.clear()),
    }
    Ok(())
}

fn smallest_free_ordinal(members: &[Member]) -> u32 {
    let mut ordinals: Vec<u32> = members.iter().map(|member| member.ordinal).collect();
    ordinals.sort_unstable();
    ordinals.iter().fold(1, |free, &taken| if taken == free { free + 1 } else { free })
}
