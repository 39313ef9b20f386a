//! Failures of many at once, and what bounds the answer to them.

use super::world::{Kind, World, no_answer, settings};
use crate::fleet::{
    limits::{Limits, OnUnhealthy, ReplaceMax},
    message::{Action, Event, FailureKind, ProbeOutcome},
    notes::Note,
    supervisor::Settings,
};

fn bad_answer() -> ProbeOutcome {
    ProbeOutcome::BadAnswer("503".into())
}

fn silent() -> ProbeOutcome {
    ProbeOutcome::Silent("no answer within 400ms".into())
}

fn world_with(replicas: usize, change: impl FnOnce(&mut Limits)) -> World {
    let mut settings = settings(replicas);
    change(&mut settings.limits);
    let mut world = World::before_boot(Settings { ..settings }, None, Vec::new());
    world.wait(1_000);
    assert_eq!(world.rep().len(), replicas);
    world.forget();
    world
}

fn sicken_all(world: &mut World, outcome: &ProbeOutcome) {
    for name in world.rep() {
        world.sicken(&name, outcome.clone());
    }
}

fn heal_all(world: &mut World) {
    world.ill.clear();
}

#[test]
fn all_unhealthy_at_once_are_kept_and_serve() {
    for outcome in [bad_answer(), silent()] {
        let mut world = World::of(4);
        let before = world.rep();
        sicken_all(&mut world, &outcome);
        world.wait(60_000);
        assert_eq!(world.rep(), before, "all that accept connections stay in the table");
        assert!(world.starts().is_empty() && world.ends() == 0, "{:?}", world.acts);
        let panics = world.notes.iter().filter(|note| matches!(note, Note::PanicBegan { .. }));
        assert_eq!(panics.count(), 1);
        heal_all(&mut world);
        world.wait(8_000);
        assert_eq!(world.rep(), before);
        assert!(world.starts().is_empty());
        assert!(world.notes.contains(&Note::PanicEnded));
    }
}

#[test]
fn after_the_hold_living_ones_are_replaced_one_at_a_time() {
    let mut world = World::of(8);
    sicken_all(&mut world, &bad_answer());
    world.hold(Kind::Start);
    world.wait(119_000);
    assert!(world.starts().is_empty());
    world.wait(10_000);
    assert_eq!(world.starts().len(), 1);
    world.release(Kind::Start);
    world.wait(60_000);
    // Newcomers pass; the last ones are replaced by the ordinary rule.
    assert_eq!((world.starts().len(), world.rep().len(), world.containers.len()), (8, 8, 8));
}

/// Of four that live three fail, and one is unreachable: only that one is out while others pass.
#[test]
fn those_that_pass_get_the_traffic_and_unreachable_ones_never_do_beside_others() {
    let mut world = World::of(4);
    world.sicken("server_1", no_answer());
    for name in ["server_2", "server_3"] {
        world.sicken(name, bad_answer());
    }
    world.wait(3_000);
    assert_eq!(world.rep(), ["server_4"]);
    world.sicken("server_4", bad_answer());
    world.wait(30_000);
    assert_eq!(world.rep(), ["server_2", "server_3", "server_4"]);
    assert!(world.starts().is_empty());
    // Dead ones are replaced always, and the first that passes gets all.
    world.kill("server_2");
    world.wait(100);
    assert_eq!((world.starts().len(), world.rep().len()), (1, 1));
}

#[test]
fn a_quarter_of_the_living_is_replaced_at_a_time() {
    for (replace_max, expected) in [
        (ReplaceMax::Percent(25), 2),
        (ReplaceMax::Count(1), 1),
        (ReplaceMax::Count(3), 3),
        (ReplaceMax::Percent(100), 4),
    ] {
        let mut world = world_with(8, |limits| limits.replace_max = replace_max);
        world.hold(Kind::Start);
        for number in 1..=4 {
            world.sicken(&format!("server_{number}"), bad_answer());
        }
        world.wait(20_000);
        assert_eq!(world.starts().len(), expected, "{replace_max}");
        world.release(Kind::Start);
        world.wait(20_000);
        assert_eq!((world.starts().len(), world.rep().len()), (4, 8), "all in the end");
    }
}

#[test]
fn failing_ones_are_ejected_or_left_alone_as_configured() {
    for (rule, in_service) in [(OnUnhealthy::Eject, 2), (OnUnhealthy::Ignore, 3)] {
        let mut world = world_with(3, |limits| limits.on_unhealthy = rule);
        world.sicken("server_1", bad_answer());
        world.wait(60_000);
        assert_eq!((world.rep().len(), world.starts().len()), (in_service, 0), "{rule:?}");
        // What the engine says counts nevertheless.
        world.kill("server_2");
        world.wait(1_000);
        assert_eq!((world.rep().len(), world.starts().len()), (in_service, 1), "{rule:?}");
        heal_all(&mut world);
        world.wait(1_000);
        assert_eq!(world.rep().len(), 3);
    }
}

#[test]
fn starts_are_a_few_at_a_time_and_an_addition_gets_them_all() {
    let mut world = World::of(1);
    world.hold(Kind::Start);
    let added = world.add(20, &[]);
    world.wait(1_000);
    assert_eq!(world.starts().len(), 8);
    world.release(Kind::Start);
    world.wait(1_000);
    assert_eq!((world.starts().len(), world.rep().len()), (20, 21));
    assert_eq!(world.answer(added).unwrap().unwrap().len(), 20);
    // Their places are those of the committed ring.
    let desired = &world.supervisor.state().desired;
    for start in world.starts() {
        let replica = desired.replica(start.instance.replica).unwrap();
        assert_eq!(replica.member.positions, start.positions);
    }
}

#[test]
fn slow_stops_keep_nothing_from_starting() {
    let mut world = World::of(30);
    world.hold(Kind::Stop);
    let removed = world.rm(20, &[]);
    world.wait(1_000);
    assert_eq!(world.ends(), 16, "so many stops at a time");
    world.forget();
    world.kill("server_1");
    world.wait(50);
    assert_eq!((world.starts().len(), world.rep().len()), (1, 10));
    world.release(Kind::Stop);
    world.wait(1_000);
    assert_eq!(world.answer(removed).unwrap().unwrap().len(), 20);
}

#[test]
fn a_trickle_of_failed_requests_is_probed_and_noted_at_a_minimum_interval() {
    let mut world = World::of(2);
    let instance = world.instance_of("server_1");
    let mut probes = 0;
    for _ in 0..2_000 {
        let event = Event::RequestFailed { instance, kind: FailureKind::Reset };
        let turn = world.supervisor.handle(event, world.now);
        let (mut at_once, mut notes) = (turn.actions, turn.notes);
        world.notes.append(&mut notes);
        for action in at_once.drain(..) {
            if let Action::Probe { instance, .. } = action {
                probes += 1;
                world.tell(Event::Probed { instance, outcome: ProbeOutcome::Passed });
            }
        }
        world.wait(5);
    }
    assert!((40..=60).contains(&probes), "{probes} heartbeats in ten seconds");
    let event = Event::RequestFailed { instance, kind: FailureKind::Reset };
    world.tell(event);
    let noted: Vec<u32> = world
        .notes
        .iter()
        .filter_map(|note| match note {
            Note::Suspected { unnoted, kind: FailureKind::Reset, .. } => Some(*unnoted),
            _ => None,
        })
        .collect();
    assert_eq!(noted, [0, 1_999]);
    // Another kind of failure is news.
    world.tell(Event::RequestFailed { instance, kind: FailureKind::Refused });
    let refused = |note: &&Note| matches!(note, Note::Suspected { kind: FailureKind::Refused, .. });
    assert_eq!(world.notes.iter().filter(refused).count(), 1);
}

/// At rest only heartbeats are planned: whatever else is to be done is found at once nevertheless.
#[test]
fn nothing_is_missed_between_heartbeats() {
    let mut world = World::of(3);
    world.wait(4_000);
    let quiet = world.supervisor.handle(Event::Tick, world.now);
    assert!(quiet.is_quiet && quiet.notes.is_empty());
    let lists = |world: &World| world.supervisor.state().listing.last;
    let before = lists(&world);
    world.wait(6_000);
    assert_ne!(lists(&world), before, "the list is asked for in its time");
    world.sicken("server_2", bad_answer());
    world.wait(810);
    assert_eq!(world.rep().len(), 2);
}

/// One that comes and goes neither ends a panic nor keeps it from being ended.
#[test]
fn a_panic_ends_when_most_have_passed_for_a_while() {
    let mut world = World::of(4);
    for name in ["server_1", "server_2", "server_3"] {
        world.sicken(name, bad_answer());
    }
    world.wait(3_000);
    for _ in 0..10 {
        world.heal("server_3");
        world.wait(2_000);
        world.sicken("server_3", bad_answer());
        world.wait(2_000);
    }
    assert!(world.starts().is_empty());
    let count = |world: &World, wanted: fn(&Note) -> bool| {
        world.notes.iter().filter(|note| wanted(note)).count()
    };
    assert_eq!(count(&world, |note| matches!(note, Note::PanicBegan { .. })), 1);
    assert_eq!(count(&world, |note| matches!(note, Note::PanicEnded)), 0);
    // After the hold it goes on one at a time, although one still comes and goes.
    world.wait(90_000);
    assert_eq!(world.rep().len(), 4, "{:?}", world.rep());
}

/// A death makes fewer of them live, and that is no reason to replace the others.
#[test]
fn a_death_does_not_end_a_panic() {
    let mut world = World::of(4);
    sicken_all(&mut world, &bad_answer());
    world.wait(10_000);
    world.start_error = Some(crate::fleet::message::StartError::Refused("no room".into()));
    world.hold(Kind::Start);
    world.kill("server_2");
    world.wait(30_000);
    assert_eq!(world.starts().len(), 1, "only the dead one");
}

/// Another build is no way around the hold: living ones are left alone by a roll as well.
#[test]
fn a_panic_holds_back_a_roll_too() {
    let mut world = World::of(4);
    for _ in 0..2 {
        for name in world.rep() {
            world.kill(&name);
        }
        world.wait(1_000);
        assert_eq!(world.rep().len(), 4);
    }
    sicken_all(&mut world, &bad_answer());
    world.wait(3_000);
    world.forget();
    world.image = crate::fleet::ids::ImageId("second".into());
    world.wait(60_000);
    assert!(world.starts().is_empty(), "{:?}", world.starts());
}
