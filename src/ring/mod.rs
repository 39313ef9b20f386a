//! The ring: who owns a slot, and in which order a key tries replicas. Pure.
//!
//! A ring has M slots. Each member sits with its virtual servers on *positions* of it, at most one
//! on a slot; a key hashes to a slot and belongs to the first virtual server at or clockwise after
//! it. Positions are input, never derived from the other members: what stays never moves, so an
//! addition moves keys only to the newcomer and a removal moves only the removed one's.
//!
//! Health is not known here: [`Ring::preference`] gives the whole order, and the caller walks it
//! past those that are not admitted.
//!
//! Start with [`Ring::new`]; [`placement`] chooses positions for a newcomer, [`moves`] compares
//! two rings.

pub mod hash;
pub mod moves;
pub mod placement;

use std::fmt;

pub use placement::Placement;

/// The largest ring that can be configured.
pub const SLOTS_MAX: u32 = 65_536;
/// The most members that a ring can have; bounds the bit set of a preference list.
pub const MEMBERS_MAX: usize = 1_024;

/// An index on the ring, 0 to M-1.
pub type Slot = u32;

/// The ring identity of a member: a rising number, never reused in a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingId(pub u32);

impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a ring is made of, apart from its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingSettings {
    /// M: the number of slots.
    pub slots: u32,
    /// K: virtual servers per unit of weight.
    pub virtual_servers: u32,
    /// How positions of newcomers are chosen, and with it how keys are hashed.
    pub placement: Placement,
}

impl Default for RingSettings {
    fn default() -> Self {
        Self { slots: 512, virtual_servers: 9, placement: Placement::Hash }
    }
}

impl RingSettings {
    /// Refuses settings on which no ring can be built.
    pub fn check(&self) -> Result<(), RingError> {
        if self.slots == 0 || self.slots > SLOTS_MAX {
            return Err(RingError::Slots(self.slots));
        }
        if self.virtual_servers == 0 || self.virtual_servers > self.slots {
            return Err(RingError::VirtualServers {
                virtual_servers: self.virtual_servers,
                slots: self.slots,
            });
        }
        Ok(())
    }

    /// The most replicas of weight 1 that find room, never more than [`MEMBERS_MAX`].
    pub fn replicas_max(&self) -> usize {
        ((self.slots / self.virtual_servers.max(1)) as usize).min(MEMBERS_MAX)
    }

    /// The slot that a request key hashes to.
    pub fn slot_of(&self, key: &[u8]) -> Slot {
        match self.placement {
            Placement::Hash => (hash::xxh3(key) % u64::from(self.slots)) as Slot,
            Placement::Polynomial => hash::polynomial_request(key, self.slots),
        }
    }
}

/// One member of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Never reused in a fleet.
    pub id: RingId,
    /// The smallest number from 1 that was free when it joined; the `i` of the polynomials.
    pub ordinal: u32,
    /// At least 1; a member of weight w has w·K virtual servers.
    pub weight: u32,
    /// The slots that its virtual servers sit on.
    pub positions: Vec<Slot>,
}

/// Why a ring cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// `slots` out of range.
    #[error("`slots` must be 1 to {SLOTS_MAX}, not {0}")]
    Slots(u32),
    /// More virtual servers than slots, or none.
    #[error("`virtual_servers` must be 1 to the number of slots ({slots}), not {virtual_servers}")]
    VirtualServers {
        /// The refused value.
        virtual_servers: u32,
        /// M of the same settings.
        slots: u32,
    },
    /// A newcomer finds no room.
    #[error(
        "the ring of {slots} slots is full: {needed} virtual servers do not fit beside {taken}; raise `slots` or lower `virtual_servers`"
    )]
    Full {
        /// M.
        slots: u32,
        /// Virtual servers already placed.
        taken: u32,
        /// Virtual servers of the newcomer.
        needed: u32,
    },
    /// More than [`MEMBERS_MAX`] members.
    #[error("a ring holds at most {MEMBERS_MAX} replicas")]
    TooManyMembers,
    /// A position beyond the last slot.
    #[error("replica {id} has a virtual server on slot {slot}, which the ring does not have")]
    PositionOutOfRange {
        /// Whose position.
        id: RingId,
        /// The position.
        slot: Slot,
    },
    /// Two virtual servers on one slot.
    #[error("replicas {first} and {second} both have a virtual server on slot {slot}")]
    PositionTaken {
        /// Who sat there first.
        first: RingId,
        /// Who wants to sit there too.
        second: RingId,
        /// The slot.
        slot: Slot,
    },
    /// A member with a weight of 0, or without positions.
    #[error("replica {0} has no weight or no virtual server")]
    Empty(RingId),
    /// An identity used twice.
    #[error("replica {0} is on the ring twice")]
    Twice(RingId),
}

/// An index into [`Ring::members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberIndex(pub u16);

/// An immutable ring with its lookup table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    settings: RingSettings,
    members: Vec<Member>,
    /// Virtual servers in clockwise order.
    points: Vec<Point>,
    /// For each slot, the index into `points` of the first virtual server at or after it.
    successors: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    slot: Slot,
    member: MemberIndex,
}

impl Ring {
    /// Derives the lookup table from given positions.
    ///
    /// # Errors
    /// Settings or positions that contradict each other; see [`RingError`].
    pub fn new(settings: RingSettings, members: Vec<Member>) -> Result<Self, RingError> {
        settings.check()?;
        if members.len() > MEMBERS_MAX {
            return Err(RingError::TooManyMembers);
        }
        let points = points_of(&settings, &members)?;
        let successors = successors_of(settings.slots, &points);
        Ok(Self { settings, members, points, successors })
    }

    /// The settings it was built with.
    pub fn settings(&self) -> &RingSettings {
        &self.settings
    }

    /// The members in the order they were given.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The slot that a request key hashes to.
    pub fn slot_of(&self, key: &[u8]) -> Slot {
        self.settings.slot_of(key)
    }

    /// The owner of a slot; `None` on an empty ring.
    pub fn owner(&self, slot: Slot) -> Option<MemberIndex> {
        self.preference(slot).next()
    }

    /// The distinct members in the order in which a key of this slot tries them. Allocates nothing.
    pub fn preference(&self, slot: Slot) -> Preference<'_> {
        let start = self.successors.get(slot as usize).map_or(0, |&point| point as usize);
        Preference { ring: self, next: start, left: self.points.len(), seen: [0; SEEN_WORDS] }
    }

    /// How many slots each member owns, by member index. The sum is M, or 0 on an empty ring.
    pub fn owned(&self) -> Vec<u32> {
        let mut owned = vec![0; self.members.len()];
        for (index, point) in self.points.iter().enumerate() {
            let before = match index {
                0 => self.points[self.points.len() - 1].slot,
                _ => self.points[index - 1].slot,
            };
            // A single point owns the whole circle: its distance to itself is M, not 0.
            let arc = (point.slot + self.settings.slots - before - 1) % self.settings.slots + 1;
            owned[point.member.0 as usize] += arc;
        }
        owned
    }

    /// The part of all slots that each member owns, by member index.
    pub fn shares(&self) -> Vec<f64> {
        let slots = f64::from(self.settings.slots);
        self.owned().iter().map(|&owned| f64::from(owned) / slots).collect()
    }

    /// max(share / weight) over the mean: 1 is perfectly even. `None` on an empty ring.
    pub fn peak_to_average(&self) -> Option<f64> {
        let weights: u32 = self.members.iter().map(|member| member.weight).sum();
        self.shares()
            .iter()
            .zip(&self.members)
            .map(|(share, member)| share * f64::from(weights) / f64::from(member.weight))
            .reduce(f64::max)
    }

    /// A digest of settings and positions: equal on two balancers exactly when their rings are.
    pub fn digest(&self) -> u64 {
        let mut text = format!("{:?}", self.settings);
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort_by_key(|member| member.id);
        for member in members {
            let mut positions = member.positions.clone();
            positions.sort_unstable();
            text.push_str(&format!("|{}:{}:{positions:?}", member.id, member.weight));
        }
        hash::xxh3(text.as_bytes())
    }
}

fn points_of(settings: &RingSettings, members: &[Member]) -> Result<Vec<Point>, RingError> {
    let mut taken: Vec<Option<MemberIndex>> = vec![None; settings.slots as usize];
    let mut ids: Vec<RingId> = Vec::with_capacity(members.len());
    for (index, member) in members.iter().enumerate() {
        if member.weight == 0 || member.positions.is_empty() {
            return Err(RingError::Empty(member.id));
        }
        if ids.contains(&member.id) {
            return Err(RingError::Twice(member.id));
        }
        ids.push(member.id);
        for &slot in &member.positions {
            let place = taken
                .get_mut(slot as usize)
                .ok_or(RingError::PositionOutOfRange { id: member.id, slot })?;
            if let Some(first) = *place {
                let first = members[first.0 as usize].id;
                return Err(RingError::PositionTaken { first, second: member.id, slot });
            }
            *place = Some(MemberIndex(index as u16));
        }
    }
    let points = taken
        .into_iter()
        .enumerate()
        .filter_map(|(slot, member)| member.map(|member| Point { slot: slot as Slot, member }));
    Ok(points.collect())
}

fn successors_of(slots: u32, points: &[Point]) -> Vec<u32> {
    if points.is_empty() {
        return Vec::new();
    }
    let mut successors = vec![0; slots as usize];
    let mut from = 0;
    for (index, point) in points.iter().enumerate() {
        successors[from..=point.slot as usize].fill(index as u32);
        from = point.slot as usize + 1;
    }
    // The slots after the last point belong to the first one: `successors` already says 0.
    successors
}

const SEEN_WORDS: usize = MEMBERS_MAX / 64;

/// The distinct members clockwise from a slot; see [`Ring::preference`].
#[derive(Clone, Debug)]
pub struct Preference<'a> {
    ring: &'a Ring,
    next: usize,
    /// Points not looked at yet: bounds the walk to one turn of the circle.
    left: usize,
    seen: [u64; SEEN_WORDS],
}

impl Iterator for Preference<'_> {
    type Item = MemberIndex;

    fn next(&mut self) -> Option<MemberIndex> {
        while self.left > 0 {
            let member = self.ring.points[self.next].member;
            self.left -= 1;
            self.next += 1;
            if self.next == self.ring.points.len() {
                self.next = 0;
            }
            let (word, bit) = (member.0 as usize / 64, 1u64 << (member.0 % 64));
            if self.seen[word] & bit == 0 {
                self.seen[word] |= bit;
                return Some(member);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
