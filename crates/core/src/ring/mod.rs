//! The ring: who owns a slot, and in which order a key tries replicas. Pure.
//!
//! A key hashes to a slot, and a slot has an owner. In the default algorithm each member sits with
//! its virtual servers on *positions* of a circle, at most one on a slot, and a slot belongs to the
//! first virtual server at or clockwise after it. Positions are input, never derived from the other
//! members: what stays never moves, so an addition moves keys only to the newcomer and a removal
//! moves only the removed one's.
//!
//! Health is not known here: [`Ring::preference`] gives the whole order, and the caller walks it
//! past those that are not admitted.
//!
//! Start with [`Ring::new`], which derives the lookup table; [`membership`] says what positions
//! the members have after one joined, left or changed its weight, [`moves`] compares two rings.

pub mod explain;
pub mod hash;
mod lookup;
pub mod membership;
pub mod moves;
mod options;
mod placement;
mod settings;
mod table;

use std::fmt;

pub use hash::{HashFunction, HashKey};
pub use lookup::{Preference, Ring, RingArc};
pub use options::{OptionError, RingOptions};
pub use settings::{Algorithm, Collision, Placement, RingError, RingSettings, TABLE_SLOTS};

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

/// One member of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Never reused in a fleet.
    pub id: RingId,
    /// The smallest number from 1 that was free when it joined; the `i` of the polynomials.
    pub ordinal: u32,
    /// At least 1; a member of weight w has w·K virtual servers.
    pub weight: u32,
    /// Algorithm `ring`: the slots that its virtual servers sit on, in the order in which they
    /// were placed. `slots`: the slots that it owns. Empty for the others, whose tables follow
    /// from the members alone.
    pub positions: Vec<Slot>,
}

/// An index into [`Ring::members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberIndex(pub u16);

#[cfg(test)]
mod tests;
