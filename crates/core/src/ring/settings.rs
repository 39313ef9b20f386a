//! What a ring is made of, apart from its members, and why one cannot be.

use super::{HashFunction, MEMBERS_MAX, RingId, SLOTS_MAX, Slot};

/// Entries of the derived tables; a prime, as Maglev wants it.
pub const TABLE_SLOTS: u32 = 65_537;
/// The circle of ketama: every 32-bit value is a slot.
pub(super) const KETAMA_SLOTS: u64 = 1 << 32;
/// Sum of all weights that the derived tables are made for.
pub(super) const TABLE_WEIGHT_MAX: u32 = 4_096;
/// Replicas that even placement serves; beyond, `slots` is the better algorithm.
pub(super) const EVEN_MEMBERS_MAX: usize = 64;
/// Virtual servers that even placement serves.
pub(super) const EVEN_POINTS_MAX: u32 = 1_024;

/// How a slot finds its owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Virtual servers on a circle of M slots, at most one on a slot.
    #[default]
    Ring,
    /// A table that says for each of M slots who owns it; a change hands over whole slots.
    Slots,
    /// 160 points per unit of weight on a circle of 2³² slots, placed as nginx and
    /// `Cache::Memcached::Fast` do.
    Ketama,
    /// Google's table of permutations (Eisenbud et al.: Maglev, NSDI 2016), 65,537 slots.
    Maglev,
    /// Highest random weight (Thaler, Ravishankar 1996), for each of 65,537 slots.
    Rendezvous,
    /// Jump consistent hash (Lamping, Veach 2014), for each of 65,537 slots. Moves least only when
    /// the newest leaves.
    Jump,
}

impl Algorithm {
    /// All of them, in the order of the documentation.
    pub const ALL: [Algorithm; 6] =
        [Self::Ring, Self::Slots, Self::Ketama, Self::Maglev, Self::Rendezvous, Self::Jump];

    /// The name in configuration and API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Slots => "slots",
            Self::Ketama => "ketama",
            Self::Maglev => "maglev",
            Self::Rendezvous => "rendezvous",
            Self::Jump => "jump",
        }
    }

    /// The one that bears a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Whether members keep positions. The tables of the others follow from the members alone.
    pub fn has_positions(self) -> bool {
        matches!(self, Self::Ring | Self::Slots)
    }
}

/// How positions of virtual servers are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Where they leave the shares most even, now and after the next removal.
    #[default]
    Even,
    /// The hash function of (ring identity, number of the virtual server).
    Hash,
    /// The course's polynomial Φ, for comparison. Famously uneven.
    Polynomial,
}

impl Placement {
    /// All of them, in the order of the documentation.
    pub const ALL: [Placement; 3] = [Self::Even, Self::Hash, Self::Polynomial];

    /// The name in configuration and API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Hash => "hash",
            Self::Polynomial => "polynomial",
        }
    }

    /// The one that bears a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|placement| placement.name() == name)
    }
}

/// Where a virtual server goes whose slot is taken: the first free of a sequence of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collision {
    /// The wanted slot + 1, + 2, + 3, …
    #[default]
    Linear,
    /// The wanted slot + 1, + 4, + 9, …; linear after M fruitless steps, since squares do not
    /// reach every slot.
    Quadratic,
}

impl Collision {
    /// All of them, in the order of the documentation.
    pub const ALL: [Collision; 2] = [Self::Linear, Self::Quadratic];

    /// The name in configuration and API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Quadratic => "quadratic",
        }
    }

    /// The one that bears a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// What a ring is made of, apart from its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingSettings {
    /// How a slot finds its owner.
    pub algorithm: Algorithm,
    /// M: the number of slots of `ring` and `slots`.
    pub slots: u32,
    /// K: virtual servers per unit of weight of `ring`.
    pub virtual_servers: u32,
    /// How `ring` chooses positions of newcomers.
    pub placement: Placement,
    /// What `ring` does with a taken slot, where the placement wants a certain one.
    pub collision: Collision,
    /// What keys are hashed with.
    pub hash: HashFunction,
}

impl Default for RingSettings {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Ring,
            slots: 512,
            virtual_servers: 9,
            placement: Placement::Even,
            collision: Collision::Linear,
            hash: HashFunction::Xxh3,
        }
    }
}

impl RingSettings {
    /// Refuses settings on which no ring can be built.
    ///
    /// # Errors
    /// The first number that is out of range.
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
        if self.is_even() && self.virtual_servers > EVEN_POINTS_MAX {
            return Err(RingError::EvenFull { points: self.virtual_servers });
        }
        Ok(())
    }

    /// The slots of the circle or table that the algorithm really has.
    pub fn circle(&self) -> u64 {
        match self.algorithm {
            Algorithm::Ring | Algorithm::Slots => u64::from(self.slots),
            Algorithm::Ketama => KETAMA_SLOTS,
            Algorithm::Maglev | Algorithm::Rendezvous | Algorithm::Jump => u64::from(TABLE_SLOTS),
        }
    }

    /// Whether virtual servers are placed evenly.
    pub fn is_even(&self) -> bool {
        self.algorithm == Algorithm::Ring && self.placement == Placement::Even
    }

    /// The most replicas of weight 1 that find room, never more than [`MEMBERS_MAX`].
    pub fn replicas_max(&self) -> usize {
        let room = usize::try_from(self.weights_max()).unwrap_or(usize::MAX);
        room.min(if self.is_even() { EVEN_MEMBERS_MAX } else { MEMBERS_MAX })
    }

    /// The greatest sum of all weights that finds room.
    pub fn weights_max(&self) -> u64 {
        match self.algorithm {
            Algorithm::Ring => {
                let points = if self.is_even() { EVEN_POINTS_MAX } else { self.slots };
                u64::from(self.slots.min(points) / self.virtual_servers.max(1))
            }
            Algorithm::Slots => u64::from(self.slots),
            _ => u64::from(TABLE_WEIGHT_MAX),
        }
    }

    /// What has to change for more replicas than [`Self::replicas_max`].
    pub fn advice(&self) -> &'static str {
        let roomier = Self { slots: SLOTS_MAX, ..self.clone() };
        match self.algorithm {
            _ if self.replicas_max() == MEMBERS_MAX => "no ring holds more",
            Algorithm::Ring if self.replicas_max() < roomier.replicas_max() => {
                "raise `slots`, or lower `virtual_servers`"
            }
            Algorithm::Ring if self.is_even() => "choose `algorithm` slots, or another `placement`",
            Algorithm::Ring => "lower `virtual_servers`",
            _ => "raise `slots`",
        }
    }

    /// The slot that a request key hashes to.
    #[inline]
    pub fn slot_of(&self, key: &[u8]) -> Slot {
        self.hash.index(key, self.circle()) as Slot
    }

    /// Whether a key has the same slot under other settings.
    pub fn maps_like(&self, other: &Self) -> bool {
        self.circle() == other.circle() && self.hash == other.hash
    }

    /// All that tells two settings apart, in one line; a secret shows as its fingerprint.
    pub fn describe(&self) -> String {
        let mut text = self.algorithm.name().to_owned();
        match self.algorithm {
            Algorithm::Ring => text.push_str(&format!(
                ", {} slots, {} virtual servers, placement {}, collision {}",
                self.slots,
                self.virtual_servers,
                self.placement.name(),
                self.collision.name()
            )),
            Algorithm::Slots => text.push_str(&format!(", {} slots", self.slots)),
            _ => {}
        }
        text.push_str(&format!(", hash {}", self.hash.name()));
        if let HashFunction::Siphash(key) = self.hash {
            text.push_str(&format!(" {:08x}", key.fingerprint()));
        }
        text
    }
}

/// Why a ring cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// `slots` out of range.
    #[error("`slots` must be 1 to {SLOTS_MAX}, not {0}")]
    Slots(u32),
    /// More virtual servers than slots, or none.
    #[error(
        "`virtual_servers` must be 1 to the number of slots ({slots}), not {virtual_servers}; raise `slots` for more"
    )]
    VirtualServers {
        /// The refused value.
        virtual_servers: u32,
        /// M of the same settings.
        slots: u32,
    },
    /// More virtual servers than even placement is made for.
    #[error(
        "placement `even` serves {EVEN_MEMBERS_MAX} replicas and {EVEN_POINTS_MAX} virtual servers, not {points}; choose `algorithm` slots, or another `placement`"
    )]
    EvenFull {
        /// Virtual servers that there would be, or replicas.
        points: u32,
    },
    /// A newcomer finds no room.
    #[error(
        "the ring of {slots} slots is full: {needed} virtual servers do not fit beside {taken}; raise `slots`, or lower `virtual_servers` or the weight"
    )]
    Full {
        /// M.
        slots: u32,
        /// Virtual servers already placed.
        taken: u32,
        /// Virtual servers of the newcomer, or that another weight wants more.
        needed: u64,
    },
    /// The weights together are more than there are slots to own.
    #[error(
        "weights of {weights} in all are more than the {most} that fit; raise `slots` or lower the weights"
    )]
    TooHeavy {
        /// The sum.
        weights: u64,
        /// The most.
        most: u32,
    },
    /// More than a table of another algorithm is made for.
    #[error(
        "weights of {0} in all are more than the {TABLE_WEIGHT_MAX} that this algorithm is made for; lower the weights"
    )]
    BeyondTable(u64),
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
    /// A slot of the algorithm `slots` without an owner.
    #[error("nobody owns slot {0}")]
    Unowned(Slot),
    /// A member with a weight of 0, or without positions.
    #[error("replica {0} has no weight or no virtual server")]
    Empty(RingId),
    /// An identity used twice.
    #[error("replica {0} is on the ring twice")]
    Twice(RingId),
    /// A change of a member that is not there.
    #[error("replica {0} is not on the ring")]
    Unknown(RingId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for one in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(one.name()), Some(one));
        }
        for one in Placement::ALL {
            assert_eq!(Placement::from_name(one.name()), Some(one));
        }
        for one in Collision::ALL {
            assert_eq!(Collision::from_name(one.name()), Some(one));
        }
        assert_eq!(Algorithm::from_name("hrw"), None);
    }

    #[test]
    fn what_fits_depends_on_the_algorithm() {
        let with = |algorithm, placement, slots| RingSettings {
            algorithm,
            placement,
            slots,
            ..RingSettings::default()
        };
        assert_eq!(RingSettings::default().replicas_max(), 56);
        assert_eq!(with(Algorithm::Ring, Placement::Even, 4_096).replicas_max(), 64);
        assert_eq!(with(Algorithm::Ring, Placement::Hash, 4_096).replicas_max(), 455);
        assert_eq!(with(Algorithm::Ring, Placement::Hash, 65_536).replicas_max(), MEMBERS_MAX);
        assert_eq!(with(Algorithm::Slots, Placement::Even, 512).replicas_max(), 512);
        assert_eq!(with(Algorithm::Maglev, Placement::Even, 512).replicas_max(), MEMBERS_MAX);
    }

    #[test]
    fn advice_names_what_makes_room() {
        let advice = |algorithm, placement, slots| {
            RingSettings { algorithm, placement, slots, ..RingSettings::default() }.advice()
        };
        let to_raise = "raise `slots`, or lower `virtual_servers`";
        assert_eq!(advice(Algorithm::Ring, Placement::Even, 512), to_raise);
        assert_eq!(advice(Algorithm::Ring, Placement::Hash, 4_096), to_raise);
        let full = advice(Algorithm::Ring, Placement::Even, 4_096);
        assert_eq!(full, "choose `algorithm` slots, or another `placement`");
        assert_eq!(advice(Algorithm::Slots, Placement::Even, 512), "raise `slots`");
        assert_eq!(advice(Algorithm::Jump, Placement::Even, 512), "no ring holds more");
    }

    #[test]
    fn a_secret_shows_as_its_fingerprint() {
        let key = crate::ring::HashKey::from_hex(&"ab".repeat(16)).unwrap();
        let settings = RingSettings { hash: HashFunction::Siphash(key), ..RingSettings::default() };
        assert!(!settings.describe().contains("abab"), "{}", settings.describe());
        assert_ne!(settings.describe(), RingSettings::default().describe());
    }
}
