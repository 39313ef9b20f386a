//! What a supervisor publishes and a balancer follows: routing tables with a version, whole and as what
//! has changed, so that one change of health costs what has changed and not the whole fleet.
//!
//! A follower takes a change only on exactly the version that it was made from, and asks for the whole
//! table otherwise. So it holds one published table or another, and never a mixture, whatever is
//! lost, late, doubled or out of order on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::ids::Version;
use crate::{
    fleet::{
        ids::{Generation, InstanceId, ReplicaId},
        table::{RoutingTable, Target},
    },
    ring::{Member, Ring, RingError},
};

/// A whole routing table, as it was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    version: Version,
    table: RoutingTable,
}

/// A table that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// As many targets as members are needed.
    #[error("{targets} targets for {members} members")]
    Lengths {
        /// How many came.
        targets: usize,
        /// How many are needed.
        members: usize,
    },
    /// A target in the place of another replica's.
    #[error("instance {0} is the target of another replica")]
    Misplaced(InstanceId),
    /// Two targets on one address.
    #[error("two targets are at {0}")]
    SameAddress(std::net::SocketAddr),
}

impl Publication {
    /// A table with its version, as a supervisor gives it out or as it was read.
    ///
    /// # Errors
    /// Targets that do not fit the ring; see [`TableError`].
    pub fn new(version: Version, table: RoutingTable) -> Result<Self, TableError> {
        let members = table.ring.members();
        if table.targets.len() != members.len() {
            return Err(TableError::Lengths {
                targets: table.targets.len(),
                members: members.len(),
            });
        }
        let mut addresses = BTreeSet::new();
        for (member, target) in members.iter().zip(&table.targets) {
            let Some(target) = target else { continue };
            if target.instance.replica != member.id {
                return Err(TableError::Misplaced(target.instance));
            }
            if !addresses.insert(target.address) {
                return Err(TableError::SameAddress(target.address));
            }
        }
        Ok(Self { version, table })
    }

    /// Which one it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What to route by.
    pub fn table(&self) -> &RoutingTable {
        &self.table
    }

    /// Bytes as text, estimated.
    pub fn size(&self) -> usize {
        let members: usize = self.table.ring.members().iter().map(size_of_member).sum();
        let targets = self.table.targets.iter();
        let targets: usize = targets.map(|target| size_of_target(target.as_ref())).sum();
        SIZE_OF_HEAD + members + targets + self.table.finishing.len() * SIZE_OF_INSTANCE
    }
}

/// What turns one published table into the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// The version that it is made from, and is of use for.
    pub base: Version,
    /// The version that it leads to.
    pub version: Version,
    /// Of the new table.
    pub generation: Generation,
    /// What is different on the ring, if anything is.
    pub ring: Option<RingDelta>,
    /// Replicas whose target is another one, or none any more; ordered.
    pub targets: Vec<(ReplicaId, Option<Target>)>,
    /// Instances that may finish from now on; ordered.
    pub finishing: Vec<InstanceId>,
    /// Instances that are finishing no more; ordered.
    pub finished: Vec<InstanceId>,
}

/// Other members on a ring of the same settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingDelta {
    /// Members that have left.
    pub removed: Vec<ReplicaId>,
    /// Members with another weight or other positions, then new ones, in this order.
    pub changed: Vec<Member>,
    /// [`Ring::digest`] of the new ring.
    pub digest: u64,
}

impl Delta {
    /// Bytes as text, estimated.
    pub fn size(&self) -> usize {
        let ring = self.ring.as_ref().map_or(0, |ring| {
            let changed: usize = ring.changed.iter().map(size_of_member).sum();
            changed + ring.removed.len() * SIZE_OF_NUMBER + SIZE_OF_DIGEST
        });
        let targets: usize = self.targets.iter().map(|(_, to)| size_of_target(to.as_ref())).sum();
        let finishing = self.finishing.len() + self.finished.len();
        2 * SIZE_OF_HEAD + ring + targets + finishing * SIZE_OF_INSTANCE
    }
}

/// Versions, generation, names of the parts.
const SIZE_OF_HEAD: usize = 160;
const SIZE_OF_NUMBER: usize = 6;
const SIZE_OF_DIGEST: usize = 30;
/// `{"replica":1000,"incarnation":10}`
const SIZE_OF_INSTANCE: usize = 36;
/// An address with its name.
const SIZE_OF_ADDRESS: usize = 40;

fn size_of_member(member: &Member) -> usize {
    // `{"id":1000,"ordinal":1000,"weight":1,"positions":[]}` and a number for each position.
    56 + member.positions.len() * SIZE_OF_NUMBER
}

fn size_of_target(target: Option<&Target>) -> usize {
    target.map_or(4, |target| SIZE_OF_INSTANCE + SIZE_OF_ADDRESS + target.name.as_str().len())
}

/// What turns a table into a later one; `None` when only the whole new table says it: other settings
/// of the ring, another order of its members, or so much that the whole is no longer.
pub fn delta(old: &Publication, new: &Publication) -> Option<Delta> {
    let (before, after) = (&old.table, &new.table);
    if new.version <= old.version {
        return None;
    }
    let ring = match Arc::ptr_eq(&before.ring, &after.ring) || before.ring == after.ring {
        true => None,
        false => Some(ring_delta(&before.ring, &after.ring)?),
    };
    let (was, is) = (ordered(&before.finishing)?, ordered(&after.finishing)?);
    let delta = Delta {
        base: old.version,
        version: new.version,
        generation: after.generation,
        ring,
        targets: changed_targets(before, after),
        finishing: is.difference(&was).copied().collect(),
        finished: was.difference(&is).copied().collect(),
    };
    (delta.size() < new.size()).then_some(delta)
}

/// Why a change could not be made; the whole table is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is made from another version.
    #[error("the change is from another version")]
    OtherBase,
    /// The ring that it leads to cannot be.
    #[error("the changed ring cannot be: {0}")]
    Ring(RingError),
    /// It leads to another ring than the published one.
    #[error("the changed ring is not the published one")]
    OtherRing,
    /// The table that it leads to cannot be.
    #[error("the changed table cannot be: {0}")]
    Table(TableError),
}

/// The table that a change leads to.
///
/// # Errors
/// [`Unfit`]: it was made from another version, or leads to what cannot be.
pub fn apply(held: &Publication, delta: &Delta) -> Result<Publication, Unfit> {
    if delta.base != held.version || delta.version <= held.version {
        return Err(Unfit::OtherBase);
    }
    let before = &held.table;
    let mut targets: BTreeMap<ReplicaId, &Target> = targets_of(before).collect();
    for (replica, target) in &delta.targets {
        match target {
            Some(target) => targets.insert(*replica, target),
            None => targets.remove(replica),
        };
    }
    let ring = match &delta.ring {
        Some(change) => Arc::new(changed_ring(&before.ring, change)?),
        None => Arc::clone(&before.ring),
    };
    let of_member = |member: &Member| targets.get(&member.id).copied().cloned();
    let targets = ring.members().iter().map(of_member).collect();
    let mut finishing: BTreeSet<InstanceId> = before.finishing.iter().copied().collect();
    finishing.extend(&delta.finishing);
    finishing.retain(|instance| delta.finished.binary_search(instance).is_err());
    let finishing = finishing.into_iter().collect();
    let table = RoutingTable { generation: delta.generation, ring, targets, finishing };
    Publication::new(delta.version, table).map_err(Unfit::Table)
}

fn targets_of(table: &RoutingTable) -> impl Iterator<Item = (ReplicaId, &Target)> {
    table.targets.iter().flatten().map(|target| (target.instance.replica, target))
}

fn changed_targets(
    before: &RoutingTable,
    after: &RoutingTable,
) -> Vec<(ReplicaId, Option<Target>)> {
    let was: BTreeMap<ReplicaId, &Target> = targets_of(before).collect();
    let is: BTreeMap<ReplicaId, &Target> = targets_of(after).collect();
    let gone = was.keys().filter(|replica| !is.contains_key(replica));
    let mut changed: Vec<_> = gone.map(|&replica| (replica, None)).collect();
    let other = is.iter().filter(|(replica, target)| was.get(replica) != Some(target));
    changed.extend(other.map(|(&replica, &target)| (replica, Some(target.clone()))));
    changed.sort_unstable_by_key(|(replica, _)| *replica);
    changed
}

/// As a set, if it is ordered already: it could not be made again otherwise.
fn ordered(instances: &[InstanceId]) -> Option<BTreeSet<InstanceId>> {
    let is_ordered = instances.windows(2).all(|pair| pair[0] < pair[1]);
    is_ordered.then(|| instances.iter().copied().collect())
}

fn ring_delta(before: &Ring, after: &Ring) -> Option<RingDelta> {
    if before.settings() != after.settings() {
        return None;
    }
    let was: BTreeMap<ReplicaId, &Member> = before.members().iter().map(|m| (m.id, m)).collect();
    let is: BTreeSet<ReplicaId> = after.members().iter().map(|member| member.id).collect();
    let removed: Vec<_> = was.keys().filter(|id| !is.contains(id)).copied().collect();
    let is_other = |member: &&Member| was.get(&member.id) != Some(member);
    let changed: Vec<Member> = after.members().iter().filter(is_other).cloned().collect();
    let delta = RingDelta { removed, changed, digest: after.digest() };
    // Another order of the members that stay is beyond it.
    (changed_members(before, &delta) == after.members()).then_some(delta)
}

fn changed_members(before: &Ring, delta: &RingDelta) -> Vec<Member> {
    let mut changed: BTreeMap<ReplicaId, &Member> =
        delta.changed.iter().map(|member| (member.id, member)).collect();
    let removed: BTreeSet<ReplicaId> = delta.removed.iter().copied().collect();
    let stay = before.members().iter().filter(|member| !removed.contains(&member.id));
    let stay = stay.map(|member| changed.remove(&member.id).unwrap_or(member).clone());
    let mut members: Vec<Member> = stay.collect();
    let newcomers = delta.changed.iter().filter(|member| changed.contains_key(&member.id));
    members.extend(newcomers.cloned());
    members
}

fn changed_ring(before: &Ring, delta: &RingDelta) -> Result<Ring, Unfit> {
    let members = changed_members(before, delta);
    let ring = Ring::new(before.settings().clone(), members).map_err(Unfit::Ring)?;
    match ring.digest() == delta.digest {
        true => Ok(ring),
        false => Err(Unfit::OtherRing),
    }
}

/// What a balancer holds of what is published.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    held: Option<Publication>,
    /// The newest version that it has heard of.
    heard: Version,
}

/// What became of something that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// It is routed by from now on.
    Taken,
    /// It is not newer than what is held.
    Old,
    /// It is newer and of no use by itself: the whole table is to be read.
    ReadWhole,
}

impl Follower {
    /// A balancer that goes on from what it held before, if it did.
    pub fn new(held: Option<Publication>) -> Self {
        let heard = held.as_ref().map(Publication::version).unwrap_or_default();
        Self { held, heard }
    }

    /// The table to route by, if one has come.
    pub fn held(&self) -> Option<&Publication> {
        self.held.as_ref()
    }

    /// Whether a newer table is known of than the one held.
    pub fn lags(&self) -> bool {
        self.held.as_ref().map(Publication::version).unwrap_or_default() < self.heard
    }

    /// A whole table was read.
    pub fn take_whole(&mut self, publication: Publication) -> Followed {
        if self.is_old(publication.version) {
            return Followed::Old;
        }
        self.heard = self.heard.max(publication.version);
        self.held = Some(publication);
        Followed::Taken
    }

    /// A change was announced.
    pub fn take_delta(&mut self, delta: &Delta) -> Followed {
        if self.is_old(delta.version) {
            return Followed::Old;
        }
        self.heard = self.heard.max(delta.version);
        match self.held.as_ref().map(|held| apply(held, delta)) {
            Some(Ok(publication)) => {
                self.held = Some(publication);
                Followed::Taken
            }
            Some(Err(_)) | None => Followed::ReadWhole,
        }
    }

    fn is_old(&self, version: Version) -> bool {
        self.held.as_ref().is_some_and(|held| version <= held.version)
    }
}

#[cfg(test)]
mod tests;
