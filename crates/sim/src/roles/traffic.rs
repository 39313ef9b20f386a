//! The cost of a change of the table: messages and estimated bytes, for fleets of any size.

use std::sync::Arc;

use ringmaster_core::{
    fleet::{
        desired::{Desired, Newcomer},
        ids::{Incarnation, InstanceId, ReplicaId, ReplicaName},
        table::{RoutingTable, Target},
    },
    ring::{RingError, RingSettings},
    roles::{
        ids::{Fence, Version},
        publication::{Followed, Follower, Publication, delta},
    },
};

/// The cost of one change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes written to the store: the whole table, for balancers that start later.
    pub written_bytes: usize,
    /// Messages to balancers, and their reads of the table.
    pub messages: usize,
    /// Bytes sent to balancers.
    pub sent_bytes: usize,
}

/// A fleet with its balancers, all up to date.
pub struct Fleet {
    desired: Desired,
    published: Publication,
    followers: Vec<Follower>,
}

fn newcomer(id: ReplicaId) -> Newcomer {
    let name = ReplicaName::numbered(id.0);
    Newcomer { id, weight: 1, name, incarnation: Incarnation::FIRST, server: None }
}

fn target(instance: InstanceId, name: &ReplicaName) -> Target {
    let [_, _, high, low] = instance.replica.0.to_be_bytes();
    Target { instance, name: name.clone(), address: ([10, 1, high, low], 5000).into() }
}

fn table(desired: &Desired) -> RoutingTable {
    let replicas = desired.replicas().iter();
    RoutingTable {
        generation: desired.generation(),
        ring: Arc::clone(desired.ring()),
        targets: replicas.map(|r| Some(target(r.instance(), &r.name))).collect(),
        finishing: Vec::new(),
    }
}

impl Fleet {
    /// A fleet with this many replicas and balancers.
    ///
    /// # Errors
    /// The ring has no room for the replicas.
    pub fn new(settings: RingSettings, replicas: u32, balancers: usize) -> Result<Self, RingError> {
        let newcomers: Vec<Newcomer> = (1..=replicas).map(|id| newcomer(ReplicaId(id))).collect();
        let desired = Desired::empty(settings)?.with(&newcomers)?;
        let version = Version { fence: Fence(1), number: 1 };
        let published = publication(version, table(&desired));
        let followers = vec![Follower::new(Some(published.clone())); balancers];
        Ok(Self { desired, published, followers })
    }

    /// Takes instances out of the table, all at once.
    pub fn eject(&mut self, instances: usize) -> Traffic {
        let mut table = self.published.table().clone();
        for place in table.targets.iter_mut().filter(|place| place.is_some()).take(instances) {
            table.finishing.extend(place.take().map(|target| target.instance));
        }
        self.publish(table)
    }

    /// Adds one replica.
    ///
    /// # Errors
    /// The ring has no room for it.
    pub fn add(&mut self) -> Result<Traffic, RingError> {
        self.desired = self.desired.with(&[newcomer(self.desired.next_id())])?;
        Ok(self.publish(table(&self.desired)))
    }

    /// Publishes a table and has all balancers follow it.
    fn publish(&mut self, table: RoutingTable) -> Traffic {
        let last = self.published.version();
        let next = publication(Version { number: last.number + 1, ..last }, table);
        let change = delta(&self.published, &next);
        let mut traffic = Traffic { written_bytes: next.size(), ..Traffic::default() };
        for follower in &mut self.followers {
            traffic.messages += 1;
            let followed = match &change {
                Some(change) => {
                    traffic.sent_bytes += change.size();
                    follower.take_delta(change)
                }
                None => Followed::ReadWhole,
            };
            if followed == Followed::ReadWhole {
                traffic.messages += 2;
                traffic.sent_bytes += next.size();
                follower.take_whole(next.clone());
            }
        }
        self.published = next;
        traffic
    }

    /// Whether all balancers have the newest table.
    pub fn agrees(&self) -> bool {
        self.followers.iter().all(|follower| follower.held() == Some(&self.published))
    }
}

fn publication(version: Version, table: RoutingTable) -> Publication {
    match Publication::new(version, table) {
        Ok(publication) => publication,
        Err(error) => unreachable!("each replica has an address of its own: {error}"),
    }
}
