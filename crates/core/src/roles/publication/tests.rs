use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{super::ids::Fence, *};
use crate::{
    fleet::{
        desired::{Desired, Newcomer},
        ids::{Incarnation, ReplicaName},
    },
    ring::{Algorithm, Placement, RingSettings},
};

fn settings(slots: u32) -> RingSettings {
    RingSettings {
        slots,
        virtual_servers: 2,
        placement: Placement::Hash,
        ..RingSettings::default()
    }
}

fn newcomer(id: ReplicaId, weight: u32) -> Newcomer {
    let name = ReplicaName::numbered(id.0);
    Newcomer { id, weight, name, incarnation: Incarnation::FIRST, server: None }
}

/// A fleet in which anything may change from one table to the next.
struct Fleet {
    rng: StdRng,
    desired: Desired,
    version: Version,
}

impl Fleet {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let algorithm = [Algorithm::Ring, Algorithm::Slots][rng.random_range(0..2)];
        let settings = RingSettings { algorithm, ..settings(64) };
        let newcomers: Vec<_> = (1..=8).map(|id| newcomer(ReplicaId(id), 1)).collect();
        let desired = Desired::empty(settings).unwrap().with(&newcomers).unwrap();
        Self { rng, desired, version: Version::default() }
    }

    fn next(&mut self) -> Publication {
        let replicas = self.desired.replicas();
        let some = replicas.get(self.rng.random_range(0..replicas.len().max(1)));
        let some = some.map(|replica| replica.id());
        let next = match (self.rng.random_range(0..8), some) {
            (0, _) | (_, None) if replicas.len() < 12 => {
                let weight = self.rng.random_range(1..3);
                self.desired.with(&[newcomer(self.desired.next_id(), weight)])
            }
            (1, Some(id)) => Ok(self.desired.without(&[id])),
            (2, Some(id)) => self.desired.reweighed(id, self.rng.random_range(1..3)),
            (3, Some(_)) => self.desired.on_ring(settings([64, 128][self.rng.random_range(0..2)])),
            // Only health.
            _ => Ok(self.desired.clone()),
        };
        self.desired = next.unwrap_or_else(|_| self.desired.clone());
        self.version.number += 1;
        if self.rng.random_bool(0.1) {
            self.version = Version { fence: Fence(self.version.fence.0 + 1), number: 1 };
        }
        Publication::new(self.version, self.table()).unwrap()
    }

    fn table(&mut self) -> RoutingTable {
        let (desired, rng) = (&self.desired, &mut self.rng);
        let any = |rng: &mut StdRng, replica: ReplicaId| InstanceId {
            replica,
            incarnation: Incarnation(rng.random_range(1..4)),
        };
        let targets = desired.replicas().iter().map(|replica| {
            // Most are what they were.
            let instance = match rng.random_bool(0.2) {
                true => any(rng, replica.id()),
                false => replica.instance(),
            };
            let address = ([10, 0, 0, replica.id().0 as u8], 5000).into();
            rng.random_bool(0.9).then(|| Target { instance, name: replica.name.clone(), address })
        });
        let targets = targets.collect();
        let finishing: BTreeSet<_> =
            (0..rng.random_range(0..4)).map(|n| any(rng, ReplicaId(n))).collect();
        RoutingTable {
            generation: desired.generation(),
            ring: Arc::clone(desired.ring()),
            targets,
            finishing: finishing.into_iter().collect(),
        }
    }
}

#[derive(Clone)]
enum Told {
    Whole(Publication),
    Delta(Delta),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn each_change_leads_from_one_table_to_the_next(seed: u64) {
        let mut fleet = Fleet::new(seed);
        let mut follower = Follower::default();
        let mut before = fleet.next();
        prop_assert_eq!(follower.take_whole(before.clone()), Followed::Taken);
        let mut deltas = 0;
        for _ in 0..30 {
            let after = fleet.next();
            let taken = match delta(&before, &after).inspect(|_| deltas += 1) {
                Some(delta) => follower.take_delta(&delta),
                None => follower.take_whole(after.clone()),
            };
            prop_assert_eq!(taken, Followed::Taken);
            prop_assert_eq!(follower.held(), Some(&after));
            before = after;
        }
        prop_assert!(deltas >= 10, "only {} of 30 went as a change", deltas);
    }

    #[test]
    fn what_is_lost_late_or_doubled_never_mixes(seed: u64) {
        let mut fleet = Fleet::new(seed);
        let all: Vec<Publication> = (0..20).map(|_| fleet.next()).collect();
        let by_version: BTreeMap<Version, &Publication> =
            all.iter().map(|one| (one.version(), one)).collect();
        let mut told: Vec<Told> = Vec::new();
        let mut rng = StdRng::seed_from_u64(seed ^ 1);
        for pair in all.windows(2) {
            if let Some(delta) = delta(&pair[0], &pair[1]) {
                told.extend(vec![Told::Delta(delta); rng.random_range(0..3)]);
            }
            if rng.random_bool(0.3) {
                told.push(Told::Whole(pair[1].clone()));
            }
        }
        // Nearly in order, or not at all.
        for _ in 0..rng.random_range(0..3) {
            for part in told.chunks_mut(4) {
                part.shuffle(&mut rng);
            }
            let by = 1.min(told.len());
            told.rotate_left(by);
        }
        let mut follower = Follower::default();
        let mut last = Version::default();
        for one in told {
            match one {
                Told::Whole(whole) => follower.take_whole(whole),
                Told::Delta(delta) => follower.take_delta(&delta),
            };
            if let Some(held) = follower.held() {
                prop_assert_eq!(Some(&held), by_version.get(&held.version()));
                prop_assert!(held.version() >= last, "it went back");
                last = held.version();
            }
        }
        let newest = all.last().unwrap();
        follower.take_whole(newest.clone());
        prop_assert_eq!(follower.held(), Some(newest));
        prop_assert!(!follower.lags());
    }
}

fn two_tables() -> (Publication, Publication) {
    let mut fleet = Fleet::new(7);
    let before = (0..6).map(|_| fleet.next()).last().unwrap();
    fleet.version.number += 1;
    let after = Publication::new(fleet.version, fleet.table()).unwrap();
    (before, after)
}

#[test]
fn a_follower_asks_for_the_whole_when_it_missed_something() {
    let (before, after) = two_tables();
    let mut delta = delta(&before, &after).unwrap();
    assert_eq!(Follower::default().take_delta(&delta), Followed::ReadWhole);
    let mut follower = Follower::new(Some(before.clone()));
    delta.base.number += 1;
    assert_eq!(follower.take_delta(&delta), Followed::ReadWhole);
    assert!(follower.lags());
    assert_eq!(follower.held(), Some(&before));
    assert_eq!(follower.take_whole(after.clone()), Followed::Taken);
    assert!(!follower.lags());
    assert_eq!(follower.take_whole(before), Followed::Old);
    assert_eq!(follower.take_delta(&delta), Followed::Old);
    assert_eq!(follower.held(), Some(&after));
}

#[test]
fn a_later_term_is_newer_whatever_its_number() {
    let of = |fence, number| Version { fence: Fence(fence), number };
    assert!(of(2, 1) > of(1, 900));
    let (before, after) = two_tables();
    let later = Publication::new(of(9, 1), before.table().clone()).unwrap();
    let mut follower = Follower::new(Some(later.clone()));
    assert_eq!(follower.take_whole(after), Followed::Old);
    assert_eq!(follower.held(), Some(&later));
}

#[test]
fn a_change_to_another_ring_than_the_published_is_not_taken() {
    let mut fleet = Fleet::new(3);
    let tables: Vec<_> = (0..40).map(|_| fleet.next()).collect();
    let changes = tables.windows(2).filter_map(|pair| Some((&pair[0], delta(&pair[0], &pair[1])?)));
    let (base, change) =
        changes.into_iter().find(|(_, change)| change.ring.is_some()).expect("a ring changed");
    let mut wrong = change.clone();
    wrong.ring.as_mut().unwrap().digest ^= 1;
    assert_eq!(apply(base, &wrong), Err(Unfit::OtherRing));
    assert!(apply(base, &change).is_ok());
}

#[test]
fn tables_that_cannot_be_are_refused_with_a_sentence() {
    let (_, good) = two_tables();
    let refused = |change: fn(&mut RoutingTable)| {
        let mut table = good.table().clone();
        change(&mut table);
        Publication::new(good.version(), table).unwrap_err().to_string()
    };
    let members = good.table().ring.members().len();
    assert!(members >= 2, "{members}");
    assert_eq!(
        refused(|table| drop(table.targets.pop())),
        format!("{} targets for {members} members", members - 1)
    );
    let target = |replica, last| {
        let instance = InstanceId { replica, incarnation: Incarnation::FIRST };
        let name = ReplicaName::numbered(1);
        Some(Target { instance, name, address: ([10, 0, 0, last], 1).into() })
    };
    assert!(
        Publication::new(good.version(), {
            let mut table = good.table().clone();
            table.targets[0] = target(ReplicaId(9_999), 1);
            table
        })
        .is_err()
    );
    let mut table = good.table().clone();
    for (at, member) in good.table().ring.members().iter().enumerate() {
        table.targets[at] = target(member.id, 1);
    }
    let error = Publication::new(good.version(), table).unwrap_err();
    assert_eq!(error.to_string(), "two targets are at 10.0.0.1:1");
}
