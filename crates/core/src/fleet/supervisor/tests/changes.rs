//! Changes of weights and of the ring, and which replica leaves when none is named.

use std::collections::BTreeMap;

use super::world::{Kind, World, name, registration, settings};
use crate::{
    fleet::{
        command::{Done, RingChange, ScaleCommand, ScaleError},
        ids::ReplicaId,
        message::Event,
        notes::{Cause, Note},
        state::Keeper,
        supervisor::Settings,
        victim::VictimRule,
    },
    ring::{Algorithm, RingOptions},
};

fn reweigh(who: &str, weight: u32) -> ScaleCommand {
    ScaleCommand::reweigh(name(who), weight).unwrap()
}

fn set_ring(change: impl FnOnce(&mut RingOptions)) -> ScaleCommand {
    let mut options = RingOptions::default();
    change(&mut options);
    ScaleCommand::SetRing(options)
}

fn slots() -> ScaleCommand {
    set_ring(|options| options.algorithm = Some("slots".into()))
}

/// What a command did, and what its dry run had said it would do.
fn tried_and_done(world: &mut World, command: ScaleCommand) -> (RingChange, RingChange) {
    let tried = world.ask(command.clone(), true);
    let done = world.ask(command, false);
    world.wait(100);
    let Ok(Done::Preview(tried)) = world.full_answer(tried).clone() else { panic!() };
    let Ok(Done::Changed(done)) = world.full_answer(done).clone() else { panic!() };
    (*tried, *done)
}

#[test]
fn a_dry_run_of_a_change_is_exact_and_restarts_nothing() {
    let mut world = World::of(4);
    let starts = world.starts().len();
    for command in [reweigh("server_2", 3), reweigh("server_2", 1), slots(), reweigh("server_3", 2)]
    {
        let (tried, done) = tried_and_done(&mut world, command);
        assert_eq!(tried, done);
        assert!(done.moves.moved_share > 0.0);
        assert!((done.moves.moved_share - done.moves.minimum_share).abs() < 1e-9, "{done:?}");
        let desired = world.supervisor.state().desired.clone();
        assert_eq!(desired.view(), done.after);
        assert_eq!(world.disk, Some(desired));
    }
    assert_eq!((world.rep().len(), world.starts().len()), (4, starts));
    assert_eq!(world.supervisor.table().ring.settings().algorithm, Algorithm::Slots);
    let causes = world.notes.iter().filter_map(|note| match note {
        Note::Committed { cause, .. } => Some(*cause),
        _ => None,
    });
    let causes: Vec<Cause> = causes.collect();
    assert_eq!(causes, [Cause::Weight, Cause::Weight, Cause::Ring, Cause::Weight]);
}

#[test]
fn drawn_names_differ_from_each_other() {
    for seed in 0..8 {
        let mut settings = Settings { seed, ..settings(1) };
        // Nothing is placed, so that a thousand join in a moment.
        settings.ring.algorithm = Algorithm::Jump;
        let mut world = World::before_boot(settings, None, Vec::new());
        world.wait(100);
        let tried = world.ask(ScaleCommand::add(1_000, Vec::new(), 1).unwrap(), true);
        let Ok(Done::Preview(tried)) = world.full_answer(tried) else { panic!() };
        let names: std::collections::BTreeSet<_> = tried.after.names.iter().collect();
        assert_eq!(names.len(), 1_001, "seed {seed}");
    }
}

#[test]
fn a_change_that_changes_nothing_costs_no_generation() {
    let mut world = World::of(3);
    let before = world.supervisor.state().desired.clone();
    for command in [reweigh("server_1", 1), set_ring(|options| options.slots = Some(512))] {
        let (tried, done) = tried_and_done(&mut world, command);
        assert_eq!((tried.moves.moved_share, done.moves.moved_share), (0.0, 0.0));
    }
    assert_eq!(world.supervisor.state().desired, before);
}

#[test]
fn refused_changes_change_nothing() {
    let mut world = World::of(3);
    let before = world.supervisor.state().desired.clone();
    let cases = [
        (reweigh("nobody", 2), "'nobody' is not a replica"),
        (reweigh("server_1", 99), "raise `slots`"),
        (set_ring(|o| o.algorithm = Some("odd".into())), "'odd' is not one of ring, slots"),
        (set_ring(|o| o.virtual_servers = Some(300)), "raise `slots`"),
        (set_ring(|o| o.hash = Some("siphash".into())), "needs a key"),
    ];
    for (command, expected) in cases {
        for dry_run in [true, false] {
            let asked = world.ask(command.clone(), dry_run);
            let why = world.answer(asked).unwrap().unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
    }
    assert_eq!(ScaleCommand::reweigh(name("a1"), 0), Err(ScaleError::NotAWeight));
    assert_eq!(world.supervisor.state().desired, before);
}

#[test]
fn a_change_that_cannot_be_written_is_taken_back() {
    let mut world = World::of(2);
    world.disk_error = Some("no space left on device");
    let before = world.supervisor.table();
    let changed = world.ask(slots(), false);
    let next = world.ask(reweigh("server_1", 2), false);
    world.wait(3_000);
    for id in [changed, next] {
        let why = world.answer(id).unwrap().unwrap_err();
        assert!(why.contains("no space left on device"), "{why}");
    }
    assert_eq!(world.supervisor.table(), before);
}

#[test]
fn nothing_moves_before_the_disk_has_it() {
    let mut world = World::of(2);
    let before = world.supervisor.table();
    world.hold(Kind::Persist);
    let changed = world.ask(reweigh("server_1", 2), false);
    world.wait(1_000);
    assert_eq!((world.answer(changed), world.supervisor.table()), (None, before.clone()));
    world.release(Kind::Persist);
    assert!(world.answer(changed).is_some());
    assert_ne!(world.supervisor.table().ring, before.ring);
}

#[test]
fn a_ring_set_at_run_time_survives_a_restart_until_another_is_configured() {
    let mut world = World::of(3);
    world.ask(slots(), false);
    world.ask(reweigh("server_2", 2), false);
    world.wait(100);
    let kept = world.supervisor.table().ring;
    let mut world = world.restart(3);
    world.wait(100);
    assert_eq!(world.supervisor.table().ring, kept);
    let mut wanted = settings(3);
    wanted.ring.virtual_servers = 8;
    let mut world = World::before_boot(wanted.clone(), world.disk, world.containers);
    world.wait(100);
    assert_eq!(world.supervisor.table().ring.settings(), &wanted.ring);
}

#[test]
fn newcomers_may_weigh_more() {
    let mut world = World::of(2);
    world.ask(ScaleCommand::add(1, vec![name("S5")], 2).unwrap(), false);
    world.wait(100);
    let ring = world.supervisor.table().ring;
    assert_eq!(ring.members()[2].positions.len(), 18);
    assert!((ring.shares()[2] - 0.5).abs() < 0.01, "{:?}", ring.shares());
}

/// With each keeper of the instances: the weights and the ring are ours.
#[test]
fn a_static_fleet_can_be_weighed_but_not_scaled() {
    let servers = ["server_1", "server_2", "server_3"].map(|name| registration(name, name));
    let fixed = Settings { keeper: Keeper::Others, servers: servers.into(), ..settings(0) };
    let mut world = World::before_boot(fixed, None, Vec::new());
    world.wait(100);
    let (_, done) = tried_and_done(&mut world, reweigh("server_2", 2));
    assert!(done.moves.moved_share > 0.1);
    let refused = world.add(1, &[]);
    assert!(world.answer(refused).unwrap().unwrap_err().contains("starts no replicas"));
}

#[test]
fn victims_follow_the_rule_and_dry_runs_name_the_same() {
    for (rule, expected) in [
        (VictimRule::Newest, Some("server_4")),
        (VictimRule::Oldest, Some("server_1")),
        (VictimRule::LeastLoaded, Some("server_3")),
        (VictimRule::MostEvenAfter, None),
        (VictimRule::Random, None),
    ] {
        let mut world = World::before_boot(Settings { victim: rule, ..settings(4) }, None, vec![]);
        world.wait(1_000);
        let load = |(id, load)| (ReplicaId(id), load);
        let loads: BTreeMap<_, _> = [(1, 5), (2, 4), (3, 1), (4, 9)].map(load).into();
        world.tell(Event::Loaded(loads));
        let tried = world.ask(ScaleCommand::remove(1, Vec::new()).unwrap(), true);
        let Ok(Done::Preview(tried)) = world.full_answer(tried).clone() else { panic!() };
        let removed = world.rm(1, &[]);
        world.wait(1_000);
        let names = world.answer(removed).unwrap().unwrap();
        assert!(expected.is_none_or(|expected| names == [expected]), "{rule:?}: {names:?}");
        assert_eq!(tried.after, world.supervisor.state().desired.view(), "{rule:?}");
    }
}
