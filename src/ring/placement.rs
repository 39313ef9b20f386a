//! Where a newcomer's virtual servers go. Pure: a function of the ring and the newcomer's identity.

use super::{MEMBERS_MAX, Member, Ring, RingError, RingId, Slot, hash};

/// How positions are chosen. Both wanted slots that are taken already and those taken by an
/// earlier virtual server of the same newcomer are resolved by linear probing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// A good hash of (ring identity, number of the virtual server).
    Hash,
    /// The course's polynomial Φ, for comparison; keys go through H. Famously uneven.
    Polynomial,
}

impl Placement {
    /// All of them, in the order of the documentation.
    pub const ALL: [Placement; 2] = [Placement::Hash, Placement::Polynomial];

    /// The name of the function that keys are hashed with.
    pub fn key_hash_name(self) -> &'static str {
        match self {
            Placement::Hash => "xxh3",
            Placement::Polynomial => "polynomial",
        }
    }

    /// The one that bears a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|placement| placement.name() == name)
    }

    /// The name in configuration and API.
    pub fn name(self) -> &'static str {
        match self {
            Placement::Hash => "hash",
            Placement::Polynomial => "polynomial",
        }
    }
}

/// The member that a newcomer would be: its ordinal, and the positions of its weight · K virtual
/// servers. Writes only free slots, so nothing that stays moves.
///
/// # Errors
/// [`RingError::Full`] when they do not fit, [`RingError::TooManyMembers`] beyond the limit.
pub fn place(ring: &Ring, id: RingId, weight: u32) -> Result<Member, RingError> {
    let settings = ring.settings();
    if weight == 0 {
        return Err(RingError::Empty(id));
    }
    if ring.members().len() >= MEMBERS_MAX {
        return Err(RingError::TooManyMembers);
    }
    let taken: usize = ring.members().iter().map(|member| member.positions.len()).sum();
    let needed = settings.virtual_servers.saturating_mul(weight);
    if taken as u64 + u64::from(needed) > u64::from(settings.slots) {
        return Err(RingError::Full { slots: settings.slots, taken: taken as u32, needed });
    }

    let ordinal = smallest_free_ordinal(ring.members());
    let mut occupied = vec![false; settings.slots as usize];
    for &slot in ring.members().iter().flat_map(|member| &member.positions) {
        occupied[slot as usize] = true;
    }
    let positions = (0..needed)
        .map(|number| {
            let wanted = wanted_slot(settings.placement, id, ordinal, number, settings.slots);
            let slot = first_free(&occupied, wanted);
            occupied[slot as usize] = true;
            slot
        })
        .collect();
    Ok(Member { id, ordinal, weight, positions })
}

/// The slot where a virtual server sits when nothing is in its way.
pub fn wanted_slot(
    placement: Placement,
    id: RingId,
    ordinal: u32,
    number: u32,
    slots: u32,
) -> Slot {
    match placement {
        Placement::Hash => {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&id.0.to_le_bytes());
            bytes[4..].copy_from_slice(&number.to_le_bytes());
            (hash::xxh3(&bytes) % u64::from(slots)) as Slot
        }
        Placement::Polynomial => hash::polynomial_placement(ordinal, number, slots),
    }
}

fn smallest_free_ordinal(members: &[Member]) -> u32 {
    let mut ordinals: Vec<u32> = members.iter().map(|member| member.ordinal).collect();
    ordinals.sort_unstable();
    ordinals.iter().fold(1, |free, &taken| if taken == free { free + 1 } else { free })
}

/// Linear probing. The caller has checked that a free slot exists.
fn first_free(occupied: &[bool], wanted: Slot) -> Slot {
    let slots = occupied.len();
    let free = (0..slots).map(|step| (wanted as usize + step) % slots).find(|&at| !occupied[at]);
    debug_assert!(free.is_some(), "place() counts free slots before it asks for one");
    free.unwrap_or(wanted as usize) as Slot
}
