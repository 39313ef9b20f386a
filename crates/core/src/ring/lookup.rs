//! The immutable lookup table: from a slot to its owner in one load, and on to the others.

use super::{
    Algorithm, MEMBERS_MAX, Member, MemberIndex, RingError, RingId, RingSettings, Slot, hash,
    settings::TABLE_WEIGHT_MAX,
    table::{self, Point},
};

/// An immutable ring with its lookup table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    settings: RingSettings,
    members: Vec<Member>,
    /// By slot; empty without members, and for a circle that is too large for a table.
    owners: Vec<MemberIndex>,
    walk: Walk,
}

/// How the members after a slot's owner are found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Walk {
    /// From virtual server to virtual server.
    Points(Points),
    /// From slot to slot of `owners`.
    Owners,
    /// By falling score.
    Scores,
}

/// Virtual servers in clockwise order, and where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Points {
    points: Vec<Point>,
    /// By slot >> `shift`: the index of the first point at or after the first slot of that range.
    first: Vec<u32>,
    shift: u32,
}

/// Ranges that the circle of ketama is cut into, as a power of two.
const KETAMA_RANGES: u32 = 16;

impl Ring {
    /// Derives the lookup table from given members.
    ///
    /// # Errors
    /// Settings or positions that contradict each other; see [`RingError`].
    pub fn new(settings: RingSettings, members: Vec<Member>) -> Result<Self, RingError> {
        settings.check()?;
        check(&settings, &members)?;
        let (owners, walk) = match settings.algorithm {
            Algorithm::Ring => {
                let taken = taken_slots(&settings, &members)?;
                let points = Points::dense(&taken);
                (points.owners(settings.slots), Walk::Points(points))
            }
            Algorithm::Slots => {
                let taken = taken_slots(&settings, &members)?;
                (all_owned(taken, members.is_empty())?, Walk::Owners)
            }
            Algorithm::Ketama => {
                let points = table::ketama(&members);
                (Vec::new(), Walk::Points(Points::ranges(points, KETAMA_RANGES)))
            }
            Algorithm::Maglev => (table::maglev(&members), Walk::Owners),
            Algorithm::Rendezvous => (table::rendezvous(&members), Walk::Scores),
            Algorithm::Jump => (table::jump(&members), Walk::Owners),
        };
        Ok(Self { settings, members, owners, walk })
    }

    /// The settings it was built with.
    pub fn settings(&self) -> &RingSettings {
        &self.settings
    }

    /// The members in the order they were given.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Where a member is in [`Self::members`].
    pub fn index_of(&self, id: RingId) -> Option<MemberIndex> {
        let index = self.members.iter().position(|member| member.id == id)?;
        Some(MemberIndex(index as u16))
    }

    /// The slot that a request key hashes to.
    #[inline]
    pub fn slot_of(&self, key: &[u8]) -> Slot {
        self.settings.slot_of(key)
    }

    /// The owner of a slot; `None` on an empty ring.
    #[inline]
    pub fn owner(&self, slot: Slot) -> Option<MemberIndex> {
        match (self.owners.get(slot as usize), &self.walk) {
            (Some(&owner), _) => Some(owner),
            (None, Walk::Points(points)) => Some(points.points.get(points.at(slot))?.member),
            (None, _) => None,
        }
    }

    /// The distinct members in the order in which a key of this slot tries them. Allocates nothing.
    pub fn preference(&self, slot: Slot) -> Preference<'_> {
        let (next, left) = match &self.walk {
            Walk::Points(points) => (points.at(slot), points.points.len()),
            Walk::Owners => (slot as usize, self.owners.len()),
            Walk::Scores => (slot as usize, self.members.len()),
        };
        Preference { ring: self, next, left, seen: [0; SEEN_WORDS] }
    }

    /// How many slots each member owns, by member index. The sum is the whole circle, or 0 on an
    /// empty ring.
    pub fn owned(&self) -> Vec<u64> {
        let mut owned = vec![0; self.members.len()];
        for &owner in &self.owners {
            owned[owner.0 as usize] += 1;
        }
        if let (true, Walk::Points(points)) = (self.owners.is_empty(), &self.walk) {
            for (member, arc) in points.arcs(self.settings.circle()) {
                owned[member.0 as usize] += arc;
            }
        }
        owned
    }

    /// The part of all slots that each member owns, by member index.
    pub fn shares(&self) -> Vec<f64> {
        let circle = self.settings.circle() as f64;
        self.owned().iter().map(|&owned| owned as f64 / circle).collect()
    }

    /// max(share / weight) over the mean: 1 is perfectly even. `None` on an empty ring.
    pub fn peak_to_average(&self) -> Option<f64> {
        super::explain::evenness(self).map(|evenness| evenness.peak_to_average)
    }

    /// The arcs of the virtual servers in clockwise order, with the slot that ends each and the
    /// number of slots in it; for algorithms without virtual servers each run of slots with one
    /// owner.
    pub fn arcs(&self) -> Vec<RingArc> {
        match &self.walk {
            Walk::Points(points) => {
                let lengths = points.arcs(self.settings.circle());
                let ends = points.points.iter().map(|point| point.slot);
                ends.zip(lengths)
                    .map(|(end, (owner, length))| RingArc { end, owner, length })
                    .collect()
            }
            Walk::Owners | Walk::Scores => {
                let mut arcs: Vec<RingArc> = Vec::new();
                for (slot, &owner) in self.owners.iter().enumerate() {
                    match arcs.last_mut() {
                        Some(arc) if arc.owner == owner => {
                            arc.end = slot as Slot;
                            arc.length += 1;
                        }
                        _ => arcs.push(RingArc { end: slot as Slot, owner, length: 1 }),
                    }
                }
                arcs
            }
        }
    }

    /// A digest of settings, members and positions: equal on two balancers exactly when their rings
    /// are.
    pub fn digest(&self) -> u64 {
        let mut text = self.settings.describe();
        let mut members: Vec<_> = self.members.iter().collect();
        // The order of joining says nothing, except to an algorithm that numbers its members.
        if self.settings.algorithm != Algorithm::Jump {
            members.sort_by_key(|member| member.id);
        }
        for member in members {
            let mut positions = member.positions.clone();
            positions.sort_unstable();
            text.push_str(&format!("|{}:{}:{positions:?}", member.id, member.weight));
        }
        hash::xxh3(text.as_bytes())
    }
}

/// Neighbouring slots of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingArc {
    /// The last slot, where the virtual server sits.
    pub end: Slot,
    /// Whose it is.
    pub owner: MemberIndex,
    /// Slots in it.
    pub length: u64,
}

fn check(settings: &RingSettings, members: &[Member]) -> Result<(), RingError> {
    if members.len() > MEMBERS_MAX {
        return Err(RingError::TooManyMembers);
    }
    let mut ids: Vec<RingId> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(RingError::Twice(pair[0]));
    }
    let needs_positions = settings.algorithm.has_positions();
    let is_empty =
        |member: &&Member| member.weight == 0 || (needs_positions && member.positions.is_empty());
    if let Some(member) = members.iter().find(is_empty) {
        return Err(RingError::Empty(member.id));
    }
    let weights: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    if !needs_positions && weights > u64::from(TABLE_WEIGHT_MAX) {
        return Err(RingError::BeyondTable(weights));
    }
    Ok(())
}

const NO_MEMBER: u16 = u16::MAX;

/// By slot: who sits there.
fn taken_slots(settings: &RingSettings, members: &[Member]) -> Result<Vec<u16>, RingError> {
    let mut taken = vec![NO_MEMBER; settings.slots as usize];
    for (index, member) in members.iter().enumerate() {
        for &slot in &member.positions {
            let place = taken
                .get_mut(slot as usize)
                .ok_or(RingError::PositionOutOfRange { id: member.id, slot })?;
            if *place != NO_MEMBER {
                let first = members[*place as usize].id;
                return Err(RingError::PositionTaken { first, second: member.id, slot });
            }
            *place = index as u16;
        }
    }
    Ok(taken)
}

fn all_owned(taken: Vec<u16>, is_empty: bool) -> Result<Vec<MemberIndex>, RingError> {
    if is_empty {
        return Ok(Vec::new());
    }
    match taken.iter().position(|&owner| owner == NO_MEMBER) {
        Some(slot) => Err(RingError::Unowned(slot as Slot)),
        None => Ok(taken.into_iter().map(MemberIndex).collect()),
    }
}

impl Points {
    /// From a table of who sits where.
    fn dense(taken: &[u16]) -> Self {
        let mut points = Vec::new();
        let mut first = Vec::with_capacity(taken.len());
        for (slot, &member) in taken.iter().enumerate() {
            first.push(points.len() as u32);
            if member != NO_MEMBER {
                points.push(Point { slot: slot as Slot, member: MemberIndex(member) });
            }
        }
        Self { points, first, shift: 0 }
    }

    /// From sorted points of a circle of 2³² slots.
    fn ranges(points: Vec<Point>, ranges: u32) -> Self {
        let shift = 32 - ranges;
        let mut first = Vec::with_capacity(1 << ranges);
        let mut index = 0;
        for range in 0..1u32 << ranges {
            while points.get(index).is_some_and(|point| point.slot >> shift < range) {
                index += 1;
            }
            first.push(index as u32);
        }
        Self { points, first, shift }
    }

    /// The index of the first point at or clockwise after a slot; 0 without points.
    #[inline]
    fn at(&self, slot: Slot) -> usize {
        let mut index = self.first.get((slot >> self.shift) as usize).map_or(0, |&at| at as usize);
        while self.points.get(index).is_some_and(|point| point.slot < slot) {
            index += 1;
        }
        if index >= self.points.len() { 0 } else { index }
    }

    fn owners(&self, slots: u32) -> Vec<MemberIndex> {
        let Some(first) = self.points.first() else {
            return Vec::new();
        };
        // The slots after the last point belong to the first one.
        let mut owners = vec![first.member; slots as usize];
        let mut from = 0;
        for point in &self.points {
            owners[from..=point.slot as usize].fill(point.member);
            from = point.slot as usize + 1;
        }
        owners
    }

    fn arcs(&self, circle: u64) -> impl Iterator<Item = (MemberIndex, u64)> + '_ {
        let last = self.points.last().map_or(0, |point| u64::from(point.slot));
        self.points.iter().scan(last, move |before, point| {
            let slot = u64::from(point.slot);
            // A single point owns the whole circle: its distance to itself is all, not 0.
            let arc = (slot + circle - *before - 1) % circle + 1;
            *before = slot;
            Some((point.member, arc))
        })
    }
}

const SEEN_WORDS: usize = MEMBERS_MAX / 64;

/// The distinct members in the order of a slot's preference; see [`Ring::preference`].
#[derive(Clone, Debug)]
pub struct Preference<'a> {
    ring: &'a Ring,
    /// An index into what is walked; for scores the slot.
    next: usize,
    /// Steps not taken yet: bounds the walk to one turn of the circle.
    left: usize,
    seen: [u64; SEEN_WORDS],
}

impl Preference<'_> {
    fn see(&mut self, member: MemberIndex) -> bool {
        let (word, bit) = (member.0 as usize / 64, 1u64 << (member.0 % 64));
        let is_new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_new
    }

    fn has_seen(&self, member: MemberIndex) -> bool {
        self.seen[member.0 as usize / 64] & (1u64 << (member.0 % 64)) != 0
    }

    /// One step of a walk that comes back to its beginning.
    fn step(&mut self, length: usize) -> usize {
        let at = self.next;
        self.left -= 1;
        self.next = if at + 1 == length { 0 } else { at + 1 };
        at
    }

    fn by_score(&mut self) -> Option<MemberIndex> {
        let members = &self.ring.members;
        self.left -= 1;
        let (slot, is_first) = (self.next as Slot, self.left + 1 == members.len());
        let best = if is_first {
            self.ring.owner(slot)
        } else {
            let unseen = (0..members.len() as u16).map(MemberIndex).filter(|&m| !self.has_seen(m));
            unseen.max_by_key(|&member| table::score(&members[member.0 as usize], slot))
        };
        best.inspect(|&member| {
            self.see(member);
        })
    }
}

impl Iterator for Preference<'_> {
    type Item = MemberIndex;

    fn next(&mut self) -> Option<MemberIndex> {
        while self.left > 0 {
            let member = match &self.ring.walk {
                Walk::Points(points) => {
                    let at = self.step(points.points.len());
                    points.points[at].member
                }
                Walk::Owners => {
                    let at = self.step(self.ring.owners.len());
                    self.ring.owners[at]
                }
                Walk::Scores => return self.by_score(),
            };
            if self.see(member) {
                return Some(member);
            }
        }
        None
    }
}
