//! What is kept of failures, and which container an engine's word is about.

use std::sync::Arc;

use super::world::{Kind, World, address, name, no_answer, registration, settings};
use crate::fleet::{
    endings::LastWords,
    ids::ReplicaId,
    message::{Action, Event, ProbeOutcome, Sighting, StartError, StopManner},
    notes::Note,
    observed::EjectReason,
    state::Keeper,
    supervisor::Settings,
    view::FleetView,
};

fn words(exit_code: i64, line: &str) -> LastWords {
    LastWords { lines: vec![line.to_owned()], ..LastWords::of_exit(Some(exit_code)) }
}

fn view(world: &World) -> FleetView {
    FleetView::of(world.supervisor.state())
}

fn bad(text: &str) -> ProbeOutcome {
    ProbeOutcome::BadAnswer(text.into())
}

fn noted(world: &World, wanted: fn(&Note) -> bool) -> usize {
    world.notes.iter().filter(|note| wanted(note)).count()
}

/// The removal waits for the last words, the replacement does not.
#[test]
fn last_words_are_collected_while_the_replacement_starts() {
    let mut world = World::of(3);
    let dead = world.instance_of("server_2");
    world.hold(Kind::Stop);
    world.kill("server_2");
    let [Action::Stop { manner, instance, .. }] = &world.held_back(Kind::Stop)[..] else {
        panic!("{:?}", world.acts)
    };
    assert_eq!((*manner, *instance), (StopManner::Collect, dead));
    assert_eq!((world.starts().len(), world.rep().len()), (1, 3), "nothing waits for it");
    let seen_at = world.now;
    world.wait(700);
    let last_words = Some(Box::new(words(137, "goodbye")));
    world.tell(Event::Stopped { instance: dead, last_words, result: Ok(()) });
    assert_eq!(world.supervisor.state().instances.len(), 3);
    let kept = view(&world).named(&name("server_2")).unwrap();
    assert_eq!((kept.replica, kept.instance), (dead.replica, None));
    assert_eq!(kept.endings.len(), 1);
    assert_eq!(
        (kept.endings[0].at, &kept.endings[0].last_words),
        (seen_at, &words(137, "goodbye"))
    );
    assert_eq!(noted(&world, |note| matches!(note, Note::Ended { .. })), 1);
    // Its successor's name leads there too.
    let successor = view(&world).named(&name(&world.rep()[1])).unwrap();
    assert_eq!(successor.endings, kept.endings);
    assert_eq!(successor.instance.unwrap().phase.name(), "admitted");
    let error = view(&world).endings.last_error(dead.replica).cloned().unwrap();
    assert_eq!(&*error.text, "it ended: exit code 137 (SIGKILL)");
}

/// An engine tells of a removal before it answers the one who asked for it.
#[test]
fn last_words_of_one_that_is_gone_by_now_are_kept() {
    let mut world = World::of(2);
    let (dead, handle) = (world.instance_of("server_2"), world.handle_of("server_2"));
    world.hold(Kind::Stop);
    world.kill("server_2");
    world.tell(Event::EngineSaw { instance: dead, handle, sighting: Sighting::Removed });
    assert!(!world.supervisor.state().instances.contains_key(&dead));
    let last_words = Some(Box::new(words(137, "goodbye")));
    world.tell(Event::Stopped { instance: dead, last_words, result: Ok(()) });
    let kept = view(&world).named(&name("server_2")).unwrap();
    assert_eq!(kept.endings[0].last_words.lines, ["goodbye"]);
}

/// A stop that failed or was lost is tried again as a kill: a log is not worth an instance that
/// stays.
#[test]
fn a_collection_that_fails_is_not_tried_again() {
    let mut world = World::of(2);
    world.hold(Kind::Stop);
    world.kill("server_2");
    world.held_back(Kind::Stop);
    world.wait(25_000);
    let asked = world.held_back(Kind::Stop);
    assert!(matches!(asked[..], [Action::Stop { manner: StopManner::Kill, .. }]), "{asked:?}");
}

#[test]
fn those_that_are_stopped_leave_nothing() {
    let mut world = World::of(3);
    world.rm(1, &["server_3"]);
    world.wait(100);
    assert_eq!(view(&world).named(&name("server_3")), None);
    let collects = |a: &Action| matches!(a, Action::Stop { manner: StopManner::Collect, .. });
    assert!(!world.acts.iter().any(collects));
}

#[test]
fn one_that_ends_at_once_is_kept_though_its_addition_is_given_up() {
    let mut world = World::of(1);
    let last_words = Arc::new(words(3, "the sky is falling"));
    let why = "it exited at once with status 3: the sky is falling";
    world.start_error = Some(StartError::Ended { why: why.into(), last_words });
    let added = world.add(1, &["S5"]);
    world.wait(100);
    let expected = format!("replica 'S5' could not be started: {why}");
    assert_eq!(world.answer(added), Some(Err(expected)));
    let kept = view(&world).named(&name("S5")).unwrap();
    assert_eq!(kept.endings[0].last_words.lines, ["the sky is falling"]);
}

#[test]
fn failures_in_a_row_and_the_next_try_are_shown() {
    let mut world = World::of(1);
    world.start_error = Some(StartError::Refused("no such image".into()));
    world.kill("server_1");
    world.wait(1_000);
    let replica = view(&world).replicas[0].clone();
    assert!(replica.failures >= 3, "{replica:?}");
    assert!(replica.next_try > world.now && replica.forgiven_at.is_none(), "{replica:?}");
    let error = view(&world).endings.last_error(replica.id).cloned().unwrap();
    assert_eq!(&*error.text, "no such image");
    world.start_error = None;
    world.wait(2_000);
    let replica = view(&world).replicas[0].clone();
    assert!(replica.forgiven_at.is_some_and(|at| at > world.now), "{replica:?}");
}

#[test]
fn an_addition_says_what_its_newcomer_answered() {
    let mut world = World::of(1);
    world.sicken("S5", bad("404 to GET /heartbeat"));
    let added = world.add(1, &["S5"]);
    world.wait(1_000);
    let joining = view(&world).joining;
    assert_eq!(joining[0].last_probe.as_deref(), Some("404 to GET /heartbeat"));
    assert_eq!((joining[0].name.as_str(), joining[0].phase.name()), ("S5", "warming"));
    world.wait(30_000);
    let expected = "replica 'S5' did not pass its heartbeat within 30s: 404 to GET /heartbeat";
    assert_eq!(world.answer(added), Some(Err(expected.to_owned())));
    assert!(view(&world).joining.is_empty());
}

#[test]
fn a_bad_heartbeat_is_shown_until_one_passes() {
    let mut world = World::of(2);
    let shown = |world: &World| view(world).replicas[0].instances[0].last_probe.clone();
    assert_eq!(shown(&world), None);
    world.sicken("server_1", bad("500 to GET /heartbeat"));
    world.wait(1_000);
    assert_eq!(shown(&world).as_deref(), Some("500 to GET /heartbeat"));
    world.heal("server_1");
    world.wait(1_000);
    assert_eq!(shown(&world), None);
    // A replacement says why it was needed.
    world.sicken("server_1", bad("500 to GET /heartbeat"));
    world.wait(7_000);
    let error = view(&world).endings.last_error(ReplicaId(1)).cloned().unwrap();
    assert_eq!(&*error.text, "500 to GET /heartbeat");
}

/// `server_1` that others keep, on the host `db`.
fn kept_by_others(at: Option<std::net::SocketAddr>) -> World {
    let servers = vec![registration("server_1", "db")];
    let settings = Settings { keeper: Keeper::Others, servers, ..settings(1) };
    let mut world = World::before_boot(settings, None, Vec::new());
    world.hosts.extend(at.map(|at| ("db".to_owned(), at)));
    world
}

fn not_ready(note: &Note) -> bool {
    matches!(note, Note::NotReady { .. })
}

#[test]
fn one_kept_by_others_that_cannot_be_reached_is_said_at_once_and_once() {
    let mut world = kept_by_others(Some(address(1)));
    world.sicken("server_1", no_answer());
    world.wait(60_000);
    assert_eq!(noted(&world, not_ready), 1);
    assert_eq!(view(&world).replicas[0].instances[0].last_probe.as_deref(), Some("timeout"));
    world.heal("server_1");
    world.wait(1_000);
    assert_eq!(world.rep(), ["server_1"]);
    // Our own have just been started.
    let mut world = World::of(1);
    world.sicken("S5", no_answer());
    world.add(1, &["S5"]);
    world.wait(10_000);
    assert_eq!(noted(&world, not_ready), 0);
}

#[test]
fn one_kept_by_others_that_cannot_be_resolved_is_said_at_once_and_once() {
    let mut world = kept_by_others(None);
    for round in 0..3 {
        world.wait(6_000);
        assert_eq!(noted(&world, not_ready), 1, "round {round}");
        let instance = view(&world).replicas[0].instances[0].clone();
        assert_eq!(instance.last_probe.as_deref(), Some("'db' cannot be resolved"));
        assert_eq!(instance.reason.map(EjectReason::name), Some("unresolved"));
    }
    world.hosts.insert("db".to_owned(), address(1));
    world.wait(6_000);
    assert_eq!(world.rep(), ["server_1"]);
}
