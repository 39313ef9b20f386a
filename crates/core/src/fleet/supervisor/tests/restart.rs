//! What a restarted balancer makes of what it finds.

use super::world::{Kind, World, address, name, no_answer, revision, settings};
use crate::fleet::{
    desired::{Desired, Newcomer},
    ids::{Handle, ImageId, Incarnation, InstanceId, ReplicaId},
    message::{Found, FoundIdentity, FoundState},
    notes::{BootSource, Note},
};
use crate::ring::RingSettings;

fn found(handle: &str, id: (u32, u32), bearer: &str, state: FoundState) -> Found {
    Found {
        handle: Handle(handle.into()),
        identity: Some(FoundIdentity {
            instance: InstanceId { replica: ReplicaId(id.0), incarnation: Incarnation(id.1) },
            name: name(bearer),
            ordinal: id.0,
            weight: 1,
            positions: positions(id.0),
            spec: revision(&ImageId("first".into())).spec,
            image: Some(ImageId("first".into())),
        }),
        state,
    }
}

/// Nine, as the default ring wants them.
fn positions(id: u32) -> Vec<u32> {
    (0..9).map(|number| id + 50 * number).collect()
}

fn running(last: u8) -> FoundState {
    FoundState::Running(Some(address(last)))
}

const EXITED: FoundState = FoundState::Exited { exit_code: Some(1) };

fn booted(world: &World) -> Option<&Note> {
    world.notes.iter().find(|note| matches!(note, Note::Booted { .. }))
}

#[test]
fn a_restart_adopts_everything_as_it_was() {
    let mut world = World::of(3);
    world.add(1, &["S5"]);
    world.kill("server_1");
    world.wait(1_000);
    let (rep, table) = (world.rep(), world.supervisor.table());
    let mut world = world.restart(3);
    world.wait(100);
    assert_eq!(world.rep(), rep);
    assert_eq!(world.supervisor.table(), table);
    assert!(world.starts().is_empty() && world.ends() == 0);
}

#[test]
fn nothing_is_started_before_the_size_of_the_fleet_is_on_disk() {
    let mut world = World::before_boot(settings(3), None, Vec::new());
    world.hold(Kind::Persist);
    world.wait(1_000);
    // Killed now, labels of one container would make a fleet of one.
    assert!(world.starts().is_empty());
    world.release(Kind::Persist);
    world.wait(100);
    assert_eq!(world.rep(), ["server_1", "server_2", "server_3"]);
    // A disk that refuses is no reason to stop serving.
    let mut world = World::before_boot(settings(3), None, Vec::new());
    world.disk_error = Some("no space left on device");
    world.wait(100);
    assert_eq!(world.rep().len(), 3);
}

#[test]
fn replicas_of_which_nothing_is_left_come_back_under_their_names() {
    let mut world = World::of(3);
    let table = world.supervisor.table();
    world.containers.clear();
    let mut world = world.restart(3);
    world.wait(100);
    assert_eq!(world.rep(), ["server_1", "server_2", "server_3"]);
    assert_eq!(world.supervisor.table().ring, table.ring);
    let second = |id: &InstanceId| id.incarnation == Incarnation(2);
    assert!(world.supervisor.state().instances.keys().all(second));
    // One that ended while no balancer ran has failed, and gets a new name.
    let mut world = world.restart(3);
    world.containers[0].state = EXITED;
    world.wait(100);
    assert_eq!(world.rep()[1..], ["server_2", "server_3"]);
    assert_ne!(world.rep()[0], "server_1");
}

#[test]
fn names_of_others_are_left_out_of_a_first_fleet() {
    let mut world = World::before_boot(settings(3), None, Vec::new());
    world.foreign = vec![name("server_2")];
    world.wait(100);
    assert_eq!(world.rep(), ["server_1", "server_3", "server_4"]);
}

#[test]
fn of_several_incarnations_the_highest_passing_one_stays() {
    // Which of them pass, and which one is to stay.
    let cases = [(vec![2, 3, 4], "i4"), (vec![2, 3], "i3"), (vec![2], "i2")];
    for (passing, stays) in cases {
        let ids = [2, 3, 4];
        let all = ids.map(|i| found(&format!("c{i}"), (1, i), &format!("i{i}"), running(i as u8)));
        let mut world = World::before_boot(settings(1), None, all.to_vec());
        for id in ids.iter().filter(|id| !passing.contains(id)) {
            world.sicken(&format!("i{id}"), no_answer());
        }
        world.wait(10_000);
        assert_eq!(world.rep(), [stays]);
        assert_eq!(world.containers.len(), 1, "the others are removed");
        assert!(world.starts().is_empty());
    }
}

#[test]
fn labels_rebuild_a_fleet_with_its_dead() {
    let left = vec![
        found("a", (3, 1), "S3", running(3)),
        found("b", (5, 2), "S5", EXITED),
        found("c", (5, 1), "S4", EXITED),
        Found { handle: Handle("d".into()), identity: None, state: running(9) },
    ];
    let mut world = World::before_boot(settings(7), None, left);
    world.wait(100);
    let Some(Note::Booted { source, replicas, adopted, strays }) = booted(&world) else { panic!() };
    assert_eq!((*source, *replicas, *adopted, *strays), (BootSource::Labels, 2, 1, 3));
    assert_eq!(world.rep()[0], "S3");
    assert_eq!(world.rep().len(), 2);
    let ring = world.supervisor.table().ring;
    let kept: Vec<_> = ring.members().iter().map(|member| &member.positions[..]).collect();
    assert_eq!(kept, [positions(3), positions(5)]);
    assert_eq!(world.starts()[0].instance.incarnation, Incarnation(3));
    assert!(world.supervisor.state().next_id > ReplicaId(5));
    assert!(world.disk.is_some());
}

#[test]
fn labels_that_contradict_each_other_keep_the_replicas_and_place_them_anew() {
    let mut left = vec![
        found("a", (3, 1), "S3", running(3)),
        found("b", (5, 2), "S5", running(5)),
        found("c", (6, 1), "S6", running(6)),
    ];
    left[1].identity.as_mut().unwrap().positions = vec![3];
    left[2].identity.as_mut().unwrap().weight = 0;
    let mut world = World::before_boot(settings(7), None, left);
    world.wait(100);
    assert_eq!(world.rep(), ["S3", "S5", "S6"]);
    assert!(world.starts().is_empty() && world.ends() == 0);
    let ring = world.supervisor.table().ring;
    assert_eq!(ring.members()[0].positions, positions(3), "who fits stays");
}

#[test]
fn labels_of_more_than_the_configured_ring_holds_keep_all_replicas() {
    let mut left: Vec<Found> = (1..=60u8)
        .map(|id| {
            let bearer = format!("S{id}");
            found(&bearer, (id.into(), 1), &bearer, running(id))
        })
        .collect();
    left[0].identity.as_mut().unwrap().weight = 1_000;
    let mut world = World::before_boot(settings(3), None, left);
    world.wait(1_000);
    let Some(Note::Booted { source, replicas, strays, .. }) = booted(&world) else { panic!() };
    assert_eq!((*source, *replicas, *strays), (BootSource::LabelsBeyondRing, 60, 0));
    assert_eq!((world.rep().len(), world.ends()), (60, 0));
    let desired = &world.supervisor.state().desired;
    assert_eq!(desired.configured(), &RingSettings::default());
    assert_eq!(desired.ring().settings().slots, 1_059);
}

#[test]
fn what_was_not_committed_or_was_removed_is_reaped() {
    let mut world = World::of(3);
    world.sicken("S9", no_answer());
    world.add(1, &["S9"]);
    world.hold(Kind::Stop);
    world.wait(46_000);
    world.rm(1, &["server_3"]);
    let mut world = world.restart(3);
    assert_eq!(world.containers.len(), 4);
    world.wait(100);
    assert_eq!(
        (world.rep(), world.containers.len()),
        (vec!["server_1".into(), "server_2".into()], 2)
    );
}

#[test]
fn changed_ring_settings_win_and_move_everything_once() {
    let world = World::of(3);
    let (disk, left) = (world.disk.clone(), world.containers.clone());
    let mut wanted = settings(3);
    wanted.ring.slots = 1_024;
    let mut world = World::before_boot(wanted, disk.clone(), left);
    world.wait(100);
    let moved = |note: &Note| matches!(note, Note::RingChanged { change } if change.moves.moved_share > 0.0);
    assert!(world.notes.iter().any(moved));
    assert_eq!((world.rep().len(), world.starts().len()), (3, 0));
    let stored = world.disk.unwrap();
    assert_eq!(stored.ring().settings().slots, 1_024);
    assert!(stored.generation() > disk.unwrap().generation());
}

#[test]
fn the_stored_fleet_wins_over_the_configured_size() {
    let newcomer = |id| Newcomer {
        server: None,
        id: ReplicaId(id),
        weight: 1,
        name: name(&format!("S{id}")),
        incarnation: Incarnation(1),
    };
    let empty = Desired::empty(settings(0).ring).unwrap();
    let stored = empty.with(&[newcomer(1), newcomer(2)]).unwrap();
    let mut world = World::before_boot(settings(5), Some(stored), Vec::new());
    world.wait(100);
    assert_eq!(world.rep(), ["S1", "S2"]);
    assert!(world.notes.contains(&Note::ReplicasDiffer { configured: 5, stored: 2 }));
}
