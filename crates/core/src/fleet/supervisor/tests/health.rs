//! What is done about instances that are not well.

use super::world::{Kind, World, address, no_answer};
use crate::fleet::{
    ids::{Handle, ImageId, Moment, SpecDigest},
    message::{Action, Event, FailureKind, FoundState, ProbeOutcome, StartError},
    notes::Note,
};

fn bad_answer() -> ProbeOutcome {
    ProbeOutcome::BadAnswer("500".into())
}

#[test]
fn a_dead_one_is_replaced_at_once_on_its_slots_under_a_new_name() {
    let mut world = World::of(3);
    let before = world.supervisor.table();
    world.kill("server_2");
    world.wait(10);
    let rep = world.rep();
    assert_eq!((rep[0].as_str(), rep[2].as_str(), rep.len()), ("server_1", "server_3", 3));
    assert!(rep[1].starts_with("server_") && rep[1].len() == "server_123456".len(), "{rep:?}");
    assert_eq!(world.starts()[0].positions, before.ring.members()[1].positions);
    assert_eq!(world.supervisor.table().ring, before.ring);
    assert_eq!(world.supervisor.table().generation, before.generation);
    assert_eq!(world.disk.as_ref(), Some(&world.supervisor.state().desired));
    assert_eq!(world.containers.len(), 3, "what is left of the dead one is removed");
}

/// What one instance of three meets, and when it is out of the table and replaced, in
/// milliseconds from the first heartbeat that could tell.
#[test]
fn two_misses_eject_and_five_seconds_replace() {
    for outcome in [no_answer(), bad_answer()] {
        let mut world = World::of(3);
        world.sicken("server_1", outcome);
        world.wait(390);
        assert_eq!(world.rep().len(), 3, "one miss is nothing");
        world.wait(420);
        assert_eq!(world.rep(), ["server_2", "server_3"]);
        world.wait(4_000);
        assert!(world.starts().is_empty(), "a living one is left for replace_after");
        world.wait(1_500);
        assert_eq!((world.starts().len(), world.rep().len()), (1, 3));
        assert_eq!(world.containers.len(), 3);
    }
}

#[test]
fn one_that_recovers_in_time_is_not_replaced() {
    let mut world = World::of(3);
    world.sicken("server_1", no_answer());
    world.wait(2_000);
    assert_eq!(world.rep(), ["server_2", "server_3"]);
    world.heal("server_1");
    world.wait(10_000);
    assert_eq!(world.rep(), ["server_1", "server_2", "server_3"]);
    assert!(world.starts().is_empty() && world.ends() == 0);
}

#[test]
fn a_suspect_needs_only_one_miss_and_one_that_passes_is_no_suspect_any_more() {
    for kind in [FailureKind::Reset, FailureKind::Errors] {
        let fails = |world: &mut World| {
            let instance = world.instance_of("server_1");
            world.tell(Event::RequestFailed { instance, kind });
        };
        let mut world = World::of(3);
        for _ in 0..20 {
            fails(&mut world);
            world.wait(100);
            assert_eq!(world.rep().len(), 3, "it passed");
        }
        world.sicken("server_1", no_answer());
        fails(&mut world);
        world.wait(100);
        assert_eq!(world.rep(), ["server_2", "server_3"]);
        // Whatever is said of the last one, it stays.
        world.sicken("server_2", no_answer());
        world.sicken("server_3", no_answer());
        world.start_error = Some(StartError::Refused("no such image".into()));
        world.wait(10_000);
        fails(&mut world);
        world.wait(100);
        assert_eq!(world.rep().len(), 1);
    }
}

#[test]
fn the_last_living_stays_until_it_dies() {
    let mut world = World::of(2);
    world.sicken("server_1", no_answer());
    world.sicken("server_2", no_answer());
    world.start_error = Some(StartError::Refused("no such image".into()));
    world.wait(60_000);
    let rep = world.rep();
    assert_eq!(rep.len(), 1);
    world.kill(&rep[0]);
    world.wait(10);
    assert_ne!(world.rep(), rep, "the other one is better than none");
    assert_eq!(world.rep().len(), 1);
    world.heal("server_1");
    world.heal("server_2");
    world.start_error = None;
    world.wait(61_000);
    assert_eq!(world.rep().len(), 2);
}

/// A heartbeat that was on its way when the engine froze the instance says nothing.
#[test]
fn a_late_heartbeat_does_not_speak_for_a_paused_one() {
    for outcome in [ProbeOutcome::Passed, no_answer()] {
        let mut world = World::of(2);
        world.hold(Kind::Probe);
        world.wait(400);
        world.pause("server_1");
        let instance = world.instance_of("server_1");
        world.tell(Event::Probed { instance, outcome });
        assert_eq!(world.rep(), ["server_2"]);
        // Not even as the last one: it cannot answer.
        world.kill("server_2");
        assert_eq!(world.rep(), Vec::<String>::new());
    }
}

#[test]
fn one_that_is_thawed_in_time_comes_back() {
    let mut world = World::of(2);
    world.pause("server_1");
    world.wait(3_000);
    assert_eq!(world.rep(), ["server_2"]);
    world.unpause("server_1");
    world.wait(10);
    assert_eq!(world.rep(), ["server_1", "server_2"]);
    assert!(world.starts().is_empty());
}

/// Another process may have its address by now, and would answer its heartbeats.
#[test]
fn one_that_lost_its_network_is_not_asked_at_its_old_address() {
    let mut world = World::of(2);
    world.hold(Kind::List);
    world.disconnect("server_1");
    world.wait(1_000);
    assert_eq!(world.rep(), ["server_2"]);
    world.release(Kind::List);
    world.wait(6_000);
    assert_eq!((world.rep().len(), world.starts().len()), (2, 1));
}

#[test]
fn one_that_moved_must_pass_where_it_is_now() {
    let mut world = World::of(2);
    world.containers[0].state = FoundState::Running(Some(address(200)));
    world.wait(4_800);
    world.hold(Kind::Probe);
    world.wait(200);
    assert_eq!(world.rep(), ["server_2"]);
    world.release(Kind::Probe);
    world.wait(500);
    assert_eq!(world.rep(), ["server_1", "server_2"]);
    assert_eq!(world.supervisor.table().targets[0].as_ref().unwrap().address, address(200));
    assert!(world.starts().is_empty());
}

/// The snapshot is older than the start of the one that has the address now.
#[test]
fn a_stale_list_does_not_take_an_address_from_its_new_holder() {
    let mut world = World::of(2);
    world.hold(Kind::List);
    world.wait(5_000);
    let stale = world.list();
    let Some(Action::List { requested_at }) = world.held_back(Kind::List).pop() else {
        panic!("no list was asked for")
    };
    // Died without a word; its address goes to a newcomer.
    let reused = world.address_of("server_1");
    world.containers.remove(0);
    world.hold(Kind::Start);
    let added = world.add(1, &["S5"]);
    let Some(Action::Start(request)) = world.held_back(Kind::Start).pop() else { panic!() };
    let mut started = world.create(&request);
    started.address = reused;
    world.containers.last_mut().unwrap().state = FoundState::Running(Some(reused));
    world.hold(Kind::Probe);
    world.tell(Event::Started { instance: request.instance, result: Ok(started) });
    world.tell(Event::Listed { requested_at, result: stale });
    world.release(Kind::Probe);
    world.release(Kind::Start);
    world.release(Kind::List);
    world.wait(10_000);
    assert_eq!(world.answer(added), Some(Ok(vec!["S5".to_owned()])));
    assert_eq!(world.rep().len(), 3);
}

#[test]
fn an_answer_to_a_list_that_was_taken_as_lost_is_not_taken_for_a_fresh_one() {
    let mut world = World::of(2);
    world.hold(Kind::List);
    world.wait(5_000);
    let stale = world.list();
    let Some(Action::List { requested_at }) = world.held_back(Kind::List).pop() else { panic!() };
    world.kill("server_1");
    world.wait(16_000);
    let rep = world.rep();
    assert_eq!(rep.len(), 2);
    world.tell(Event::Listed { requested_at, result: stale });
    assert_eq!(world.rep(), rep, "the replacement is not in a list from before its start");
    world.release(Kind::List);
    world.wait(10_000);
    assert_eq!(world.rep(), rep);
}

/// A replacement that cannot start is tried less and less often, and so is its neighbour's not.
#[test]
fn starts_that_fail_beside_a_failing_one_back_off() {
    let mut world = World::of(2);
    world.wait(20_000);
    world.start_error = Some(StartError::Refused("no such image".into()));
    world.sicken("server_1", no_answer());
    world.forget();
    world.wait(65_000);
    let starts = world.starts().len();
    assert!((5..=15).contains(&starts), "{starts} starts in a minute");
    assert_eq!(world.rep(), ["server_2"]);
}

#[test]
fn a_crash_loop_slows_itself_down_and_no_other() {
    let mut world = World::of(3);
    let mut deaths = 0;
    let victim = world.supervisor.state().desired.replicas()[0].id();
    for _ in 0..600 {
        let state = world.supervisor.state();
        let serving = state.admitted(victim).map(|instance| instance.name.to_string());
        if let Some(bearer) = serving {
            world.kill(&bearer);
            deaths += 1;
        }
        world.wait(100);
    }
    assert!((8..=14).contains(&deaths), "{deaths} deaths in a minute");
    world.kill("server_3");
    world.wait(10);
    assert_eq!(world.rep().len(), 2, "the neighbour is replaced at once");
}

#[test]
fn one_that_never_passes_is_given_up_after_the_deadline() {
    let mut world = World::of(2);
    world.hold(Kind::Probe);
    world.kill("server_1");
    world.wait(31_000);
    let gave_up = |note: &&Note| matches!(note, Note::StartFailed { .. });
    assert_eq!(world.notes.iter().filter(gave_up).count(), 1);
    assert_eq!(world.starts().len(), 2);
}

#[test]
fn heartbeats_of_one_that_drains_change_nothing() {
    for outcome in [ProbeOutcome::Passed, no_answer()] {
        let mut world = World::of(2);
        world.hold(Kind::Drain);
        world.hold(Kind::Probe);
        world.wait(400);
        let instance = world.instance_of("server_2");
        let removal = world.rm(1, &["server_2"]);
        world.tell(Event::Probed { instance, outcome });
        assert_eq!((world.rep(), world.answer(removal)), (vec!["server_1".to_owned()], None));
        assert_eq!(world.supervisor.table().finishing, [instance]);
        world.release(Kind::Drain);
        assert_eq!(world.answer(removal), Some(Ok(vec!["server_2".to_owned()])));
    }
}

#[test]
fn outdated_ones_are_replaced_one_by_one_once_all_are_well() {
    let mut world = World::of(3);
    let old = world.rep();
    world.sicken("server_3", bad_answer());
    world.wait(1_000);
    world.image = ImageId("second".into());
    world.wait(3_000);
    assert!(world.starts().is_empty(), "not while one is failing");
    world.heal("server_3");
    world.hold(Kind::Start);
    world.wait(6_000);
    assert_eq!(world.starts().len(), 1, "one by one");
    assert_eq!(world.rep(), old, "the new one is admitted before the old one goes");
    world.release(Kind::Start);
    world.wait(9_000);
    assert_eq!(world.starts().len(), 1, "it is watched for a while before the next");
    world.wait(21_000);
    assert!(world.rep().iter().all(|name| !old.contains(name)), "{:?}", world.rep());
    assert_eq!((world.rep().len(), world.containers.len()), (3, 3));
}

/// A duplicate of the same identity is a stray; what it was made from says nothing of ours.
#[test]
fn a_stray_does_not_make_ours_outdated() {
    let mut world = World::of(1);
    let mut stray = world.containers[0].clone();
    stray.handle = Handle("stray".into());
    stray.identity.as_mut().unwrap().spec = SpecDigest("old".into());
    stray.state = FoundState::Exited { exit_code: None };
    world.containers.push(stray);
    world.wait(20_000);
    assert_eq!((world.rep(), world.starts().len()), (vec!["server_1".to_owned()], 0));
    assert_eq!(world.containers.len(), 1, "it is reaped");
}

#[test]
fn nothing_is_started_or_stopped_while_the_engine_is_away_and_traffic_goes_on() {
    let mut world = World::of(3);
    world.engine_error = Some("no answer");
    world.wait(6_000);
    world.forget();
    world.kill("server_1");
    world.wait(30_000);
    assert_eq!((world.rep().len(), world.acts.len()), (2, 0));
    world.engine_error = None;
    world.wait(1_000);
    assert_eq!((world.rep().len(), world.containers.len()), (3, 3));
}

#[test]
fn a_result_for_an_instance_that_is_gone_is_dropped() {
    let mut world = World::of(2);
    let instance = world.instance_of("server_1");
    world.remove("server_1");
    world.wait(10);
    let rep = world.rep();
    for event in [
        Event::Probed { instance, outcome: ProbeOutcome::Passed },
        Event::Stopped { instance, last_words: None, result: Ok(()) },
        Event::Drained { instance },
        Event::RequestFailed { instance, kind: FailureKind::Refused },
    ] {
        world.tell(event);
    }
    assert_eq!(world.rep(), rep);
    assert!(world.now > Moment(0));
}
