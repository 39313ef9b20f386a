//! Registered servers: who joins, leaves and moves, who is drained, and what a restart keeps.

use super::world::{Kind, World, address, name, no_answer, registration, settings};
use crate::fleet::{
    command::{CommandId, Done, ScaleCommand},
    ids::{InstanceId, ReplicaId},
    message::{Action, Event, FailureKind},
    notes::Note,
    server::ServerChange,
    state::Keeper,
    supervisor::Settings,
    view::{FleetView, Health, ReplicaView},
};

fn fixed(servers: &[(&str, &str)]) -> Settings {
    let servers = servers.iter().map(|(name, host)| registration(name, host)).collect();
    Settings { keeper: Keeper::Others, servers, ..settings(0) }
}

/// A fleet of `S1` and `S2` that others keep.
fn two() -> World {
    let mut world = World::before_boot(fixed(&[("S1", "10.0.0.1"), ("S2", "two")]), None, vec![]);
    world.hosts.insert("two".into(), address(2));
    world.wait(100);
    assert_eq!(world.rep(), ["S1", "S2"]);
    world.forget();
    world
}

fn register(world: &mut World, bearer: &str, host: &str) -> CommandId {
    world.ask(ScaleCommand::Register(vec![registration(bearer, host)]), false)
}

fn drain(world: &mut World, bearer: &str, is_drained: bool) {
    let id = world.ask(ScaleCommand::SetDrained { name: name(bearer), is_drained }, false);
    assert_eq!(world.answer(id), Some(Ok(Vec::new())));
}

fn mark(world: &mut World, bearer: &str, is_healthy: bool) {
    let id = world.ask(ScaleCommand::SetHealth { name: name(bearer), is_healthy }, false);
    assert_eq!(world.full_answer(id), &Ok(Done::Marked));
}

fn view(world: &World) -> FleetView {
    FleetView::of(world.supervisor.state())
}

fn seen(world: &World, bearer: &str) -> ReplicaView {
    view(world).replicas.into_iter().find(|replica| replica.name.as_str() == bearer).unwrap()
}

fn reason(world: &World, bearer: &str) -> Option<&'static str> {
    seen(world, bearer).instances.last().and_then(|instance| Some(instance.reason?.name()))
}

/// The latest instance of a replica.
fn current(world: &World, bearer: &str) -> InstanceId {
    seen(world, bearer).instances.last().unwrap().id
}

/// Positions by name.
fn places(world: &World) -> Vec<(String, Vec<u32>)> {
    let replicas = world.supervisor.state().desired.replicas().iter();
    replicas.map(|replica| (replica.name.to_string(), replica.member.positions.clone())).collect()
}

fn touches_an_engine(action: &Action) -> bool {
    matches!(action, Action::Start(_) | Action::Stop { .. } | Action::Reap { .. })
}

#[test]
fn one_joins_when_it_was_checked_and_is_admitted_in_the_same_step() {
    let mut world = two();
    let before = places(&world);
    world.hold(Kind::Probe);
    let id = register(&mut world, "S3", "10.0.0.3");
    world.wait(100);
    assert_eq!((world.answer(id), world.desired().len()), (None, 2));
    world.release(Kind::Probe);
    assert_eq!(world.answer(id), Some(Ok(vec!["S3".to_owned()])));
    assert_eq!(world.rep(), ["S1", "S2", "S3"]);
    assert!(places(&world).starts_with(&before), "only the newcomer gets keys");
    assert_eq!(world.disk.as_ref().unwrap().replicas().len(), 3);
    assert!(!world.acts.iter().any(touches_an_engine));
}

#[test]
fn one_that_does_not_answer_joins_and_is_said_to_be_ill() {
    let mut world = two();
    world.sicken("S3", no_answer());
    let refused = register(&mut world, "S3", "10.0.0.3");
    assert_eq!(world.answer(refused), Some(Ok(vec!["S3".to_owned()])));
    assert_eq!((world.desired().len(), world.rep().len()), (3, 2));
    assert_eq!(seen(&world, "S3").instances[0].last_probe.as_deref(), Some("timeout"));
    assert_eq!(view(&world).health(), Health::Degraded);
    let nameless = register(&mut world, "S4", "nowhere");
    assert_eq!(world.answer(nameless), Some(Ok(vec!["S4".to_owned()])));
    assert_eq!(reason(&world, "S4"), Some("unresolved"));
    // A check that hangs is not waited for.
    world.hold(Kind::Probe);
    let slow = register(&mut world, "S5", "10.0.0.5");
    world.wait(999);
    assert_eq!(world.answer(slow), None);
    world.wait(2);
    assert_eq!(world.answer(slow), Some(Ok(vec!["S5".to_owned()])));
    world.release(Kind::Probe);
    world.heal("S3");
    world.hosts.insert("nowhere".into(), address(4));
    world.wait(6_000);
    assert_eq!(world.rep(), ["S1", "S2", "S3", "S4", "S5"]);
}

#[test]
fn what_cannot_be_registered_changes_nothing() {
    let mut world = two();
    let before = world.supervisor.state().desired.clone();
    for (bearer, host, why) in [
        ("S1", "10.0.0.9", "replica 'S1' already exists"),
        ("s1", "10.0.0.9", "is the same hostname"),
        ("S3", "10.0.0.1", "'10.0.0.1:5000' is the address of 'S1' already"),
        ("S3", "TWO.", "is the address of 'S2' already"),
    ] {
        let id = register(&mut world, bearer, host);
        let said = world.answer(id).unwrap().unwrap_err();
        assert!(said.contains(why), "{bearer} {host}: {said}");
    }
    let both = vec![registration("S3", "10.0.0.3"), registration("S4", "10.0.0.3")];
    let id = world.ask(ScaleCommand::Register(both), false);
    assert!(world.answer(id).unwrap().unwrap_err().contains("is the address of 'S3' already"));
    let many = (0..60).map(|n| registration(&format!("M{n}"), &format!("h{n}"))).collect();
    let id = world.ask(ScaleCommand::Register(many), false);
    assert!(world.answer(id).unwrap().unwrap_err().contains("at most 56 fit"));
    assert_eq!(world.supervisor.state().desired, before);
}

#[test]
fn a_dry_run_shows_what_registering_moves() {
    let mut world = two();
    let id = world.ask(ScaleCommand::Register(vec![registration("S3", "10.0.0.3")]), true);
    let Ok(Done::Preview(tried)) = world.full_answer(id).clone() else { panic!() };
    assert_eq!(world.desired().len(), 2);
    register(&mut world, "S3", "10.0.0.3");
    assert_eq!(tried.after.ring.digest(), view(&world).ring.ring.digest());
}

#[test]
fn one_leaves_when_it_is_named_and_drains_first() {
    let mut world = two();
    let unnamed = world.rm(1, &[]);
    assert!(world.answer(unnamed).unwrap().unwrap_err().contains("starts no replicas"));
    world.hold(Kind::Drain);
    let id = world.rm(1, &["S2"]);
    assert_eq!((world.rep().len(), world.answer(id)), (1, None));
    world.release(Kind::Drain);
    assert_eq!(world.answer(id), Some(Ok(vec!["S2".to_owned()])));
    assert_eq!(world.supervisor.state().instances.len(), 1);
    assert!(!world.acts.iter().any(touches_an_engine));
}

#[test]
fn a_restart_keeps_what_was_registered_changed_and_drained() {
    let mut world = two();
    register(&mut world, "S3", "10.0.0.3");
    drain(&mut world, "S1", true);
    let id = world.rm(1, &["S2"]);
    world.wait(100);
    assert!(world.answer(id).unwrap().is_ok());
    let before = places(&world);
    // The configuration says what it said.
    let mut world = world.restart_as(fixed(&[("S1", "10.0.0.1"), ("S2", "two")]));
    world.wait(100);
    assert_eq!((places(&world), world.rep()), (before.clone(), vec!["S3".to_owned()]));
    assert!(seen(&world, "S1").is_drained);
    // It says something new: only that takes effect.
    let mut world = world.restart_as(fixed(&[("S1", "10.0.0.1"), ("S4", "10.0.0.4")]));
    world.wait(100);
    assert_eq!(world.desired(), ["S1", "S3", "S4"]);
    assert_eq!(places(&world)[..2], before);
    let changed = world.notes.iter().find_map(|note| match note {
        Note::ServersChanged { added, changed, removed, refused } => {
            Some((added.len(), changed.len(), removed.len(), refused.len()))
        }
        _ => None,
    });
    assert_eq!(changed, Some((1, 0, 0, 0)), "S2 had been removed before");
    let mut world = world.restart_as(fixed(&[("S1", "10.0.0.8"), ("S4", "10.0.0.3")]));
    world.wait(100);
    assert_eq!(seen(&world, "S1").server.unwrap().place(), "10.0.0.8:5000");
    let refused = world.notes.iter().any(|note| {
        matches!(note, Note::ServersChanged { refused, .. } if refused[0].contains("address of 'S3'"))
    });
    assert!(refused, "{:?}", world.notes);
    assert_eq!(seen(&world, "S4").server.unwrap().place(), "10.0.0.4:5000");
}

/// What a configuration refused at a start, in words.
fn refused(world: &World) -> Vec<String> {
    let changed = world.notes.iter().filter_map(|note| match note {
        Note::ServersChanged { refused, .. } => Some(refused),
        _ => None,
    });
    changed.flatten().map(ToString::to_string).collect()
}

#[test]
fn a_configuration_may_shift_and_swap_places() {
    let all = |places: [&str; 3]| {
        let servers = ["S1", "S2", "S3"].into_iter().zip(places).collect::<Vec<_>>();
        fixed(&servers)
    };
    let mut world = World::before_boot(all(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), None, vec![]);
    world.wait(100);
    let before = places(&world);
    let mut world = world.restart_as(all(["10.0.0.2", "10.0.0.1", "10.0.0.4"]));
    world.wait(100);
    assert_eq!((refused(&world), world.rep().len()), (Vec::new(), 3));
    assert_eq!(places(&world), before);
    let hosts = ["S1", "S2", "S3"].map(|one| seen(&world, one).server.unwrap().host.to_string());
    assert_eq!(hosts, ["10.0.0.2", "10.0.0.1", "10.0.0.4"]);
}

#[test]
fn what_was_refused_is_said_and_tried_at_each_start() {
    let mut world = two();
    register(&mut world, "S3", "10.0.0.3");
    let more = || fixed(&[("S1", "10.0.0.1"), ("S2", "two"), ("S4", "10.0.0.3")]);
    for _ in 0..2 {
        world = world.restart_as(more());
        world.wait(100);
        assert!(refused(&world)[0].contains("is the address of 'S3' already"));
        assert_eq!(world.desired(), ["S1", "S2", "S3"]);
    }
    world.rm(1, &["S3"]);
    world.wait(1_000);
    let mut world = world.restart_as(more());
    world.wait(100);
    assert_eq!((refused(&world), world.desired().len()), (Vec::new(), 3));
}

/// An engine knows who has an address; a name that still stands for it is out of date.
#[test]
fn a_container_keeps_its_address_from_a_server() {
    let mut world = World::before_boot(settings(0), None, vec![]);
    world.wait(100);
    world.hosts.insert("old".into(), address(51));
    register(&mut world, "S1", "old");
    world.add(1, &["S2"]);
    world.wait(100);
    assert_eq!(world.address_of("S2"), address(51));
    world.forget();
    world.wait(60_000);
    assert_eq!((world.rep(), reason(&world, "S1")), (vec!["S2".to_owned()], Some("address_taken")));
    assert!(!world.acts.iter().any(touches_an_engine));
}

#[test]
fn one_that_is_elsewhere_is_another_instance_on_the_same_slots() {
    let mut world = two();
    let before = places(&world);
    let old = current(&world, "S1");
    let change = ServerChange { port: Some(5_001), ..ServerChange::default() };
    let id = world.ask(ScaleCommand::ChangeServer { name: name("S1"), change }, false);
    assert_eq!(world.answer(id), Some(Ok(Vec::new())));
    world.wait(100);
    let new = current(&world, "S1");
    assert_eq!((new.replica, new.incarnation), (old.replica, old.incarnation.next()));
    assert_eq!((world.rep().len(), places(&world)), (2, before));
    let target = world.supervisor.table().targets[0].clone().unwrap();
    assert_eq!((target.address.port(), target.instance), (5_001, new));
    let disk = world.disk.as_ref().unwrap().replica(ReplicaId(1)).unwrap();
    assert_eq!(disk.server.as_ref().unwrap().port, 5_001);
    for (change, why) in [
        (ServerChange { host: Some("a b".into()), ..ServerChange::default() }, "not a hostname"),
        (ServerChange { port: Some(0), ..ServerChange::default() }, "the port"),
        (ServerChange { weight: Some(0), ..ServerChange::default() }, "'weight'"),
        (ServerChange { host: Some("two".into()), port: Some(5_000), weight: None }, "of 'S2'"),
    ] {
        let id = world.ask(ScaleCommand::ChangeServer { name: name("S1"), change }, false);
        assert!(world.answer(id).unwrap().unwrap_err().contains(why), "{why}");
    }
}

#[test]
fn a_name_may_come_to_mean_another_address_and_a_lost_name_ejects_none() {
    let mut world = two();
    world.hosts.insert("two".into(), address(77));
    world.wait(6_000);
    let target = |world: &World| world.supervisor.table().targets[1].clone();
    assert_eq!(target(&world).map(|target| target.address), Some(address(77)));
    world.hosts.clear();
    world.wait(60_000);
    assert_eq!(target(&world).map(|target| target.address), Some(address(77)));
    // A lookup that is lost is begun again.
    world.hold(Kind::Resolve);
    world.wait(20_000);
    world.hosts.insert("two".into(), address(78));
    let lost = world.held_back(Kind::Resolve);
    assert!(lost.len() >= 2, "{lost:?}");
    world.release(Kind::Resolve);
    world.wait(12_000);
    assert_eq!(target(&world).map(|target| target.address), Some(address(78)));
}

/// How often it was said that an address is taken, and of whom.
fn said_taken(world: &World) -> Vec<String> {
    let taken = world.notes.iter().filter_map(|note| match note {
        Note::AddressTaken { name, by, .. } => Some(format!("{name} by {by}")),
        _ => None,
    });
    taken.collect()
}

#[test]
fn of_two_names_for_one_address_the_first_serves_and_they_never_take_turns() {
    let at = |world: &mut World, one: u8, other: u8| {
        world.hosts.insert("one".into(), address(one));
        world.hosts.insert("other".into(), address(other));
    };
    // At the start, and whichever comes to the other's address later.
    for (before, after) in [((5, 5), (5, 5)), ((5, 6), (5, 5)), ((5, 6), (6, 6))] {
        let servers = fixed(&[("S1", "one"), ("S2", "other")]);
        let mut world = World::before_boot(servers, None, Vec::new());
        at(&mut world, before.0, before.1);
        world.wait(100);
        at(&mut world, after.0, after.1);
        world.wait(60_000);
        assert_eq!(world.rep(), ["S1"], "{before:?} {after:?}");
        assert_eq!(said_taken(&world), ["S2 by S1"], "{before:?} {after:?}");
        let target = |world: &World, at: usize| {
            world.supervisor.table().targets[at].as_ref().map(|target| target.address)
        };
        assert_eq!((target(&world, 0), target(&world, 1)), (Some(address(after.0)), None));
        assert_eq!(reason(&world, "S2"), Some("address_taken"));
        // The first may fail: both names mean the server that fails.
        world.sicken("S1", no_answer());
        world.wait(20_000);
        assert_eq!(world.rep(), ["S1"], "kept as the last");
        world.heal("S1");
        // An address of its own ends it.
        world.forget();
        at(&mut world, 5, 77);
        world.wait(12_000);
        assert_eq!(world.rep(), ["S1", "S2"]);
        assert!(said_taken(&world).is_empty());
    }
}

#[test]
fn a_server_comes_back_when_the_first_at_its_address_leaves() {
    let mut world = two();
    world.hosts.insert("also".into(), address(1));
    register(&mut world, "S3", "also");
    assert_eq!((world.rep().len(), reason(&world, "S3")), (2, Some("address_taken")));
    world.rm(1, &["S1"]);
    world.wait(6_000);
    assert_eq!(world.rep(), ["S2", "S3"]);
}

#[test]
fn what_is_drained_gets_no_requests_keeps_its_slots_and_comes_back_at_once() {
    let mut world = two();
    let before = places(&world);
    drain(&mut world, "S1", true);
    assert_eq!((world.rep(), places(&world)), (vec!["S2".to_owned()], before));
    let instance = current(&world, "S1");
    assert!(world.supervisor.table().finishing.contains(&instance), "open requests go on");
    assert_eq!(view(&world).health(), Health::Ok);
    world.wait(60_000);
    assert_eq!((world.rep().len(), reason(&world, "S1")), (1, Some("drained")));
    drain(&mut world, "S1", false);
    assert_eq!(world.rep(), ["S1", "S2"], "its checks went on: it comes back at once");
    // One that fails meanwhile does not, and is not taken for one that has failed all the time.
    drain(&mut world, "S1", true);
    world.sicken("S1", no_answer());
    world.wait(2_000);
    drain(&mut world, "S1", false);
    world.wait(1_000);
    assert_eq!(world.rep(), ["S2"]);
    world.heal("S1");
    world.wait(1_000);
    assert_eq!(world.rep(), ["S1", "S2"]);
    // All of them: that was asked for, and none is readmitted as the last.
    drain(&mut world, "S1", true);
    drain(&mut world, "S2", true);
    world.wait(10_000);
    assert!(world.rep().is_empty());
    assert_eq!(view(&world).health(), Health::Down);
}

/// What we start is left alone while it is drained: not replaced, rolled or counted as failing.
#[test]
fn a_replica_of_ours_may_be_drained() {
    let mut world = World::of(3);
    drain(&mut world, "server_2", true);
    world.image = crate::fleet::ids::ImageId("second".into());
    world.wait(120_000);
    assert_eq!(world.rep().len(), 2);
    assert_eq!(world.starts().len(), 2, "only the others are rolled");
    drain(&mut world, "server_2", false);
    world.wait(60_000);
    assert_eq!((world.rep().len(), world.starts().len()), (3, 3));
}

#[test]
fn a_verdict_holds_until_the_next_check() {
    let mut world = two();
    mark(&mut world, "S1", false);
    assert_eq!(world.rep(), ["S2"]);
    assert_eq!(
        seen(&world, "S1").instances[0].last_probe.as_deref(),
        Some("it was marked unhealthy")
    );
    world.wait(399);
    assert_eq!(world.rep(), ["S2"]);
    world.wait(2);
    assert_eq!(world.rep(), ["S1", "S2"]);
    world.sicken("S1", no_answer());
    world.wait(2_000);
    assert_eq!(world.rep(), ["S2"]);
    mark(&mut world, "S1", true);
    assert_eq!(world.rep(), ["S1", "S2"]);
    world.wait(2_000);
    assert_eq!(world.rep(), ["S2"]);
    let id = world.ask(ScaleCommand::SetHealth { name: name("no"), is_healthy: true }, false);
    assert!(world.answer(id).unwrap().is_err());
}

#[test]
fn servers_stand_beside_replicas_and_an_engine_that_is_away_is_not_asked_for_them() {
    let mut world = World::of(2);
    world.engine_error = Some("no such socket");
    world.wait(6_000);
    let id = register(&mut world, "S9", "10.0.0.9");
    assert_eq!(world.answer(id), Some(Ok(vec!["S9".to_owned()])));
    assert_eq!(world.rep(), ["server_1", "server_2", "S9"]);
    let refused = world.rm(1, &["server_1"]);
    assert!(world.answer(refused).unwrap().is_err());
    let removed = world.rm(1, &["S9"]);
    assert_eq!(world.answer(removed), Some(Ok(vec!["S9".to_owned()])));
    world.engine_error = None;
    world.wait(6_000);
    register(&mut world, "S9", "10.0.0.9");
    // Of those that are not named only ours leave.
    let id = world.rm(2, &[]);
    world.wait(1_000);
    assert!(world.answer(id).unwrap().is_ok());
    assert_eq!(world.rep(), ["S9"]);
    // What others keep is never replaced, however long it fails.
    world.sicken("S9", no_answer());
    world.forget();
    world.wait(600_000);
    assert!(!world.acts.iter().any(touches_an_engine));
    world.tell(Event::RequestFailed {
        instance: InstanceId { replica: ReplicaId(4), ..current(&world, "S9") },
        kind: FailureKind::Refused,
    });
    assert_eq!(world.desired(), ["S9"]);
}
