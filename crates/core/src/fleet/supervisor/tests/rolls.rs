//! What replicas are started from, and how a roll to another build goes.

use super::world::{Kind, World, revision};
use crate::fleet::{
    command::{Done, ScaleCommand},
    ids::ImageId,
    message::{Event, StartError},
    notes::{Note, StartCause},
};

fn image(name: &str) -> ImageId {
    ImageId(name.into())
}

/// Builds of the containers, in the order of their start.
fn builds(world: &World) -> Vec<String> {
    let found = world.containers.iter().filter_map(|found| found.identity.as_ref());
    found.filter_map(|identity| identity.image.as_ref()).map(ToString::to_string).collect()
}

fn count(world: &World, matches: fn(&Note) -> bool) -> usize {
    world.notes.iter().filter(|note| matches(note)).count()
}

/// Lets newcomers of the build end so many milliseconds after they entered the table.
fn play_with_bad_build(world: &mut World, bad: &str, lives: u64, length: u64) {
    let until = world.now.0 + length;
    let mut admitted = std::collections::BTreeMap::new();
    while world.now.0 < until {
        world.wait(100);
        let runs: Vec<String> = world
            .containers
            .iter()
            .filter_map(|found| found.identity.as_ref())
            .filter(|identity| identity.image == Some(image(bad)))
            .map(|identity| identity.name.to_string())
            .filter(|name| world.rep().contains(name))
            .collect();
        for name in runs {
            let since = *admitted.entry(name.clone()).or_insert(world.now.0);
            if world.now.0 >= since + lives {
                world.kill(&name);
            }
        }
    }
}

#[test]
fn a_fleet_is_made_from_what_it_was_first_started_from() {
    let world = World::of(2);
    let desired = &world.supervisor.state().desired;
    assert_eq!(desired.revision(), Some(&revision(&image("first"))));
    assert_eq!(world.disk.as_ref(), Some(desired), "it is in the state");
}

/// A moved tag is no deployment by itself: one that dies comes back as it was.
#[test]
fn healing_starts_the_build_that_runs_whatever_the_tag_names() {
    let mut world = World::of(3);
    // One that fails keeps the roll from its beginning.
    world.sicken("server_1", super::world::no_answer());
    world.wait(1_000);
    world.image = image("second");
    world.wait(2_000);
    world.kill("server_2");
    world.wait(100);
    assert_eq!(builds(&world), ["first"; 3]);
    let added = world.add(1, &["S9"]);
    world.wait(100);
    assert!(world.answer(added).unwrap().is_ok());
    assert_eq!(builds(&world), ["first"; 4], "newcomers too");
}

#[test]
fn a_roll_that_succeeds_becomes_the_revision() {
    let mut world = World::of(3);
    world.image = image("second");
    world.wait(60_000);
    assert_eq!(builds(&world), ["second"; 3]);
    let desired = world.supervisor.state().desired.clone();
    assert_eq!(desired.revision(), Some(&revision(&image("second"))));
    assert_eq!(world.disk, Some(desired));
    assert_eq!(count(&world, |note| matches!(note, Note::RollCompleted)), 1);
    assert_eq!(count(&world, |note| matches!(note, Note::RollFailed { .. })), 0);
}

/// The build passes its heartbeats and ends four seconds later.
#[test]
fn a_bad_build_is_given_up_after_two_tries_and_the_old_one_is_whole() {
    let mut world = World::of(4);
    world.image = image("bad");
    play_with_bad_build(&mut world, "bad", 4_000, 120_000);
    assert_eq!(builds(&world), ["first"; 4]);
    assert_eq!(world.rep().len(), 4);
    let tries = world.starts().into_iter().filter(|start| start.image == Some(image("bad")));
    assert_eq!(tries.count(), 2);
    assert_eq!(count(&world, |note| matches!(note, Note::RollStopped { .. })), 1);
    assert!(world.supervisor.state().is_roll_stopped());
    // Nor does a restart try it again.
    let mut world = world.restart(4);
    world.wait(60_000);
    assert_eq!((builds(&world), world.starts().len()), (vec!["first".to_owned(); 4], 0));
    assert!(world.supervisor.state().is_roll_stopped());
}

#[test]
fn a_build_that_ends_at_once_or_never_passes_is_given_up_too() {
    let mut world = World::of(2);
    world.image = image("bad");
    world.start_error = Some(StartError::Refused("it exited at once with status 1".into()));
    world.wait(60_000);
    world.start_error = None;
    world.wait(60_000);
    assert_eq!(builds(&world), ["first"; 2]);
    assert_eq!(world.starts().len(), 2);
    assert_eq!(world.rep(), ["server_1", "server_2"], "no one was replaced");
}

/// An engine that cannot be asked says nothing of the build.
#[test]
fn an_engine_that_is_away_does_not_stop_a_roll() {
    let mut world = World::of(2);
    world.image = image("second");
    world.start_error = Some(StartError::Unclear("no answer in time".into()));
    world.wait(30_000);
    world.start_error = None;
    world.wait(120_000);
    assert_eq!(builds(&world), ["second"; 2]);
}

#[test]
fn a_stopped_roll_goes_on_by_command_or_with_another_build() {
    for by_command in [true, false] {
        let mut world = World::of(2);
        world.image = image("bad");
        play_with_bad_build(&mut world, "bad", 1_000, 60_000);
        assert!(world.supervisor.state().is_roll_stopped());
        if by_command {
            let tried = world.ask(ScaleCommand::Retry, true);
            assert!(world.supervisor.state().is_roll_stopped(), "a dry run changes nothing");
            let retried = world.ask(ScaleCommand::Retry, false);
            for id in [tried, retried] {
                let Ok(Done::Retried { roll: true, .. }) = world.full_answer(id) else { panic!() };
            }
        } else {
            world.image = image("fixed");
        }
        world.wait(60_000);
        assert_eq!(builds(&world).len(), 2);
        assert!(!builds(&world).contains(&"first".to_owned()), "{:?}", builds(&world));
        assert!(!world.supervisor.state().is_rolling());
    }
}

/// Replicas that crash wait longer and longer; another build is tried at once.
#[test]
fn another_build_resets_the_back_off() {
    let mut world = World::of(1);
    for _ in 0..8 {
        while world.rep().is_empty() {
            world.wait(10);
        }
        let name = world.rep()[0].clone();
        world.kill(&name);
    }
    let waits = |world: &World| {
        let backoff = world.supervisor.state().backoffs.values().next().map(|b| b.not_before());
        backoff.map_or(0, |at| at.0.saturating_sub(world.now.0))
    };
    assert!(waits(&world) > 1_000, "{} ms", waits(&world));
    world.image = image("fixed");
    // The next list says so.
    world.tell(Event::StreamChanged);
    world.wait(300);
    assert_eq!(world.rep().len(), 1);
}

#[test]
fn an_image_that_the_engine_has_lost_is_replaced_by_what_is_wanted() {
    let mut world = World::of(2);
    world.sicken("server_1", super::world::no_answer());
    world.wait(1_000);
    world.image = image("second");
    world.wait(2_000);
    world.start_error = Some(StartError::NoImage("no such image".into()));
    world.hold(Kind::Start);
    world.kill("server_2");
    world.release(Kind::Start);
    world.start_error = None;
    world.wait(1_000);
    assert_eq!(count(&world, |note| matches!(note, Note::RevisionLost { .. })), 1);
    assert!(builds(&world).contains(&"second".to_owned()));
}

/// A state file of an earlier version does not say what the fleet is made from: what runs does.
#[test]
fn what_runs_is_the_revision_where_no_state_says_it() {
    let mut world = World::of(3);
    world.disk = world.disk.take().map(|disk| disk.made_from(None, None));
    world.image = image("second");
    let mut world = world.restart(3);
    world.wait(50);
    let desired = &world.supervisor.state().desired;
    assert_eq!(desired.revision(), Some(&revision(&image("first"))));
    assert!(world.supervisor.state().is_rolling());
}

/// Nothing is left of it that would have to be handled with care.
#[test]
fn a_fleet_without_containers_starts_what_is_wanted() {
    let mut world = World::of(2);
    world.containers.clear();
    world.image = image("second");
    let mut world = world.restart(2);
    world.wait(100);
    assert_eq!(builds(&world), ["second"; 2]);
    assert!(!world.supervisor.state().is_rolling());
}

/// All of them were removed from outside: that says nothing of what they were made from.
#[test]
fn containers_that_are_removed_come_back_as_they_were() {
    let mut world = World::of(2);
    world.sicken("server_1", super::world::no_answer());
    world.wait(1_000);
    world.image = image("second");
    world.wait(2_000);
    world.heal("server_1");
    world.containers.clear();
    world.hold(Kind::Start);
    world.tell(Event::StreamChanged);
    world.wait(300);
    assert_eq!(world.starts().len(), 2);
    assert!(world.starts().iter().all(|start| start.image == Some(image("first"))));
}

/// What is deployed crashes, or never passes: the fixed build is tried at once, one by one.
#[test]
fn a_broken_fleet_gets_the_fixed_build() {
    for crashes in [true, false] {
        let mut world = World::of(3);
        let first = revision(&image("first")).spec;
        let play = |world: &mut World, millis: u64| {
            let until = world.now.0 + millis;
            while world.now.0 < until {
                world.wait(50);
                let broken: Vec<String> = world
                    .containers
                    .iter()
                    .filter_map(|found| found.identity.as_ref())
                    .filter(|identity| identity.spec == first)
                    .map(|identity| identity.name.to_string())
                    .collect();
                for name in broken {
                    match crashes {
                        true if world.rep().contains(&name) => world.kill(&name),
                        true => {}
                        false => world.sicken(&name, super::world::no_answer()),
                    }
                }
            }
        };
        play(&mut world, 120_000);
        world.image = image("fixed");
        play(&mut world, 90_000);
        assert_eq!(builds(&world), ["fixed"; 3], "crashes: {crashes}");
        assert_eq!(world.rep().len(), 3);
        assert!(!world.supervisor.state().is_rolling());
        let mut at_once = 0;
        for note in &world.notes {
            match note {
                Note::Starting { cause: StartCause::Outdated, .. } => at_once += 1,
                Note::Admitted { .. } => at_once = 0,
                _ => {}
            }
            assert!(at_once <= 1, "one by one");
        }
    }
}

/// Without replicas there is nothing that shows that a build is good.
#[test]
fn an_empty_fleet_does_not_complete_a_roll_that_was_given_up() {
    let mut world = World::of(2);
    world.image = image("bad");
    play_with_bad_build(&mut world, "bad", 1_000, 60_000);
    assert!(world.supervisor.state().is_roll_stopped());
    world.rm(2, &[]);
    world.wait(30_000);
    assert!(world.supervisor.state().is_roll_stopped());
    world.add(1, &[]);
    world.wait(1_000);
    assert_eq!(builds(&world), ["first"]);
}

/// What has served for longer than newcomers are watched is no newcomer any more.
#[test]
fn later_deaths_do_not_count_against_a_roll() {
    let mut world = World::of(4);
    world.image = image("second");
    let mut kills = 0;
    for _ in 0..400 {
        world.wait(100);
        let admitted = |world: &World, name: &str| {
            let known =
                world.supervisor.state().instances.values().find(|i| i.name.as_str() == name);
            known.and_then(|instance| instance.admitted_for(world.now)).unwrap_or_default()
        };
        let old = world.containers.iter().filter_map(|found| found.identity.as_ref());
        let old = old.filter(|identity| identity.image == Some(image("second")));
        let old: Vec<String> = old.map(|identity| identity.name.to_string()).collect();
        let proved = old.iter().find(|name| admitted(&world, name).as_secs() > 10);
        if let Some(name) = proved.filter(|_| kills < 3) {
            world.kill(&name.clone());
            kills += 1;
        }
    }
    assert_eq!(kills, 3);
    world.wait(120_000);
    assert_eq!(count(&world, |note| matches!(note, Note::RollFailed { .. })), 0);
    assert_eq!(builds(&world), ["second"; 4]);
}

/// The tag moves before the next list: what was started first is what the fleet is made from.
#[test]
fn the_first_replicas_of_an_empty_fleet_say_what_it_is_made_from() {
    let mut world = World::before_boot(super::world::settings(0), None, Vec::new());
    world.image = image("deaf");
    world.wait(100);
    world.image = image("good");
    world.add(1, &["fine"]);
    world.wait(100);
    world.image = image("bad");
    world.add(1, &["like_fine"]);
    world.wait(100);
    assert_eq!(builds(&world), ["good"; 2]);
    let desired = &world.supervisor.state().desired;
    assert_eq!(desired.revision(), Some(&revision(&image("good"))));
    assert_eq!(world.disk.as_ref(), Some(desired));
}
