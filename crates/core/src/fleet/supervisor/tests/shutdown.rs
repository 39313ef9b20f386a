//! The end of the balancer's run, with and without its replicas.

use super::world::{Kind, World, registration, settings};
use crate::fleet::{
    message::{Action, Event, StartError},
    state::{Finish, Keeper},
    supervisor::Settings,
};

fn shut_down(world: &mut World, stop_replicas: bool) {
    world.tell(Event::ShutDown { stop_replicas });
}

#[test]
fn it_leaves_the_replicas_where_they_are() {
    let mut world = World::of(3);
    assert_eq!(world.supervisor.finish(), None);
    shut_down(&mut world, false);
    assert_eq!(world.supervisor.finish(), Some(Finish::Done));
    world.wait(60_000);
    assert_eq!((world.rep().len(), world.ends(), world.acts.len()), (3, 0, 0));
}

#[test]
fn it_starts_nothing_any_more() {
    let mut world = World::of(3);
    shut_down(&mut world, false);
    world.kill("server_2");
    world.wait(60_000);
    assert_eq!((world.starts().len(), world.rep().len()), (0, 2));
    let late = world.add(1, &[]);
    let why = world.answer(late).unwrap().unwrap_err();
    assert_eq!(why, "the balancer is shutting down");
}

#[test]
fn commands_that_wait_and_an_addition_that_warms_are_refused() {
    let mut world = World::of(2);
    world.hold(Kind::Start);
    let (running, waiting) = (world.add(2, &["S5"]), world.rm(1, &[]));
    shut_down(&mut world, false);
    assert!(world.answer(waiting).unwrap().unwrap_err().contains("shutting down"));
    assert_eq!(world.answer(running), None, "what it started is removed first");
    assert_eq!(world.supervisor.finish(), None);
    world.release(Kind::Start);
    world.wait(1_000);
    assert!(world.answer(running).unwrap().unwrap_err().contains("shutting down"));
    assert_eq!(world.supervisor.finish(), Some(Finish::Done));
    assert_eq!((world.containers.len(), world.desired().len()), (2, 2));
}

#[test]
fn what_is_being_written_is_waited_for() {
    let mut world = World::of(2);
    world.hold(Kind::Persist);
    let removed = world.rm(1, &[]);
    shut_down(&mut world, false);
    assert_eq!((world.answer(removed), world.supervisor.finish()), (None, None));
    world.release(Kind::Persist);
    assert_eq!(world.answer(removed), Some(Ok(vec!["server_2".to_owned()])));
    assert_eq!(world.supervisor.finish(), Some(Finish::Done));
    // Accepted, and not yet being written: it never was.
    let mut world = World::of(2);
    world.hold(Kind::Persist);
    world.kill("server_1");
    world.wait(1_000);
    let refused = world.rm(1, &[]);
    assert_eq!(world.answer(refused), None);
    shut_down(&mut world, false);
    assert!(world.answer(refused).unwrap().unwrap_err().contains("shutting down"));
    world.release(Kind::Persist);
    assert_eq!((world.desired().len(), world.supervisor.finish()), (2, Some(Finish::Done)));
}

#[test]
fn it_drains_and_stops_all_replicas_and_keeps_them_desired() {
    let mut world = World::of(3);
    let before = world.disk.clone();
    world.hold(Kind::Drain);
    shut_down(&mut world, true);
    assert_eq!((world.rep().len(), world.ends()), (0, 0), "out of the table, and not stopped");
    assert!(world.supervisor.table().targets.iter().all(Option::is_none));
    world.release(Kind::Drain);
    assert_eq!((world.ends(), world.supervisor.finish()), (3, None), "not looked yet");
    world.wait(1_000);
    assert_eq!(world.supervisor.finish(), Some(Finish::Done));
    assert!(world.containers.is_empty());
    world.wait(60_000);
    assert_eq!((world.starts().len(), world.desired().len()), (0, 3));
    assert_eq!(world.disk, before);
}

#[test]
fn starts_under_way_are_waited_for_and_stopped() {
    let mut world = World::of(2);
    world.hold(Kind::Start);
    world.kill("server_1");
    let adding = world.add(2, &[]);
    world.wait(200);
    shut_down(&mut world, true);
    world.wait(1_000);
    assert_eq!(world.supervisor.finish(), None, "three starts are under way");
    world.release(Kind::Start);
    world.wait(1_000);
    assert_eq!(world.supervisor.finish(), Some(Finish::Done));
    assert!(world.containers.is_empty(), "{:?}", world.containers);
    assert!(world.answer(adding).unwrap().is_err());
}

#[test]
fn what_only_a_list_shows_is_removed_too() {
    let mut world = World::of(1);
    world.hold(Kind::Start);
    world.add(1, &["S5"]);
    shut_down(&mut world, true);
    // The engine says that it failed, and it runs nevertheless.
    for start in world.held_back(Kind::Start) {
        let Action::Start(request) = start else { continue };
        world.create(&request);
        let instance = request.instance;
        let result = Err(StartError::Unclear("timed out".into()));
        world.tell(Event::Started { instance, result });
    }
    assert_eq!((world.containers.len(), world.supervisor.finish()), (1, None));
    world.wait(5_000);
    assert!(world.containers.is_empty());
    assert_eq!(world.supervisor.finish(), Some(Finish::Done));
}

#[test]
fn a_start_that_is_never_answered_is_waited_for_within_its_bound() {
    let mut world = World::of(1);
    world.hold(Kind::Start);
    world.add(1, &[]);
    shut_down(&mut world, true);
    let bound = world.supervisor.state().limits.start_lost();
    world.wait(bound.as_millis() as u64 + 1_000);
    assert_eq!(world.supervisor.finish(), Some(Finish::Done));
}

#[test]
fn an_engine_that_is_away_is_not_waited_for_long() {
    let mut world = World::of(2);
    world.engine_error = Some("connection refused");
    world.tell(Event::StreamChanged);
    world.wait(1_000);
    shut_down(&mut world, true);
    world.wait(4_000);
    assert_eq!(world.supervisor.finish(), None);
    world.wait(2_000);
    assert_eq!(world.supervisor.finish(), Some(Finish::EngineAway));
}

#[test]
fn the_replicas_of_others_are_not_stopped() {
    let servers = vec![registration("S1", "10.0.0.1"), registration("S2", "10.0.0.2")];
    let settings = Settings { keeper: Keeper::Others, servers, ..settings(2) };
    let mut world = World::before_boot(settings, None, Vec::new());
    world.wait(1_000);
    world.forget();
    shut_down(&mut world, true);
    assert_eq!(world.supervisor.finish(), Some(Finish::Done));
    assert_eq!((world.rep().len(), world.ends()), (2, 0));
}

#[test]
fn requests_may_come_when_one_that_ran_before_passes_or_none_ran() {
    let may_listen = |world: &World| world.supervisor.state().may_listen();
    // Nothing ran: at once, though the first start is under way.
    let mut fresh = World::before_boot(settings(2), None, Vec::new());
    fresh.hold(Kind::Start);
    assert!(!may_listen(&fresh), "what runs is not known yet");
    fresh.wait(100);
    assert!(fresh.rep().is_empty() && may_listen(&fresh));
    // Two ran: when the first passes.
    let mut world = World::of(2).restart(2);
    world.hold(Kind::Probe);
    world.wait(100);
    assert!(!may_listen(&world));
    world.release(Kind::Probe);
    assert!(!world.rep().is_empty() && may_listen(&world));
    // Two ran and both end: when that is known.
    let mut world = World::of(2).restart(2);
    world.hold(Kind::Probe);
    world.hold(Kind::Start);
    world.wait(100);
    world.kill("server_1");
    assert!(!may_listen(&world));
    world.kill("server_2");
    assert!(may_listen(&world));
}
