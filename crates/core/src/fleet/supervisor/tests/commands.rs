//! Scale commands, from the first check to the answer.

use super::world::{Kind, World, name, no_answer, settings};
use crate::fleet::{
    command::{CommandResult, Done, ScaleCommand, ScaleError},
    message::{Action, Event, StartError},
    notes::Note,
};

fn names(of: &[&str]) -> Vec<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn named_ones_come_first_and_all_join_in_one_step() {
    let mut world = World::of(2);
    let before = world.supervisor.table();
    world.sicken("S4", no_answer());
    let added = world.add(3, &["S5", "S4"]);
    world.wait(5_000);
    assert_eq!(world.answer(added), None);
    assert_eq!(world.supervisor.table().ring, before.ring, "nothing moves before all pass");
    world.heal("S4");
    world.wait(100);
    let answer = world.answer(added).unwrap().unwrap();
    assert_eq!((answer.len(), &answer[..2]), (3, &names(&["S5", "S4"])[..]));
    assert_eq!(world.rep().len(), 5);
    assert_eq!(world.rep()[2..], answer);
    assert_eq!(world.disk.as_ref(), Some(&world.supervisor.state().desired));
}

#[test]
fn an_addition_is_undone_by_the_removal_of_the_newest() {
    let mut world = World::of(3);
    let before = world.supervisor.table().ring;
    world.add(2, &[]);
    world.wait(100);
    let removed = world.rm(2, &[]);
    assert_eq!(world.answer(removed).unwrap().unwrap().len(), 2);
    assert_eq!(world.supervisor.table().ring, before);
}

/// Its container may not exist yet when the list is taken.
#[test]
fn a_list_during_a_start_does_not_end_the_addition() {
    let mut world = World::of(3);
    world.hold(Kind::Start);
    let added = world.add(1, &["S5"]);
    world.wait(6_000);
    world.release(Kind::Start);
    world.wait(100);
    assert_eq!(world.answer(added), Some(Ok(names(&["S5"]))));
}

/// Refused at once, and nothing changes.
#[test]
fn what_cannot_be_is_refused_in_words() {
    let add = |n, of: &[&str]| ScaleCommand::add(n, of.iter().copied().map(name).collect(), 1);
    let rm = |n, of: &[&str]| ScaleCommand::remove(n, of.iter().copied().map(name).collect());
    let cases = [
        (add(1, &["server_1"]), "replica 'server_1' already exists"),
        (add(1, &["db"]), "'db' is the name of another container"),
        (rm(1, &["S5"]), "'S5' is not a replica"),
        (rm(1, &["db"]), "'db' is not a replica"),
        (
            add(54, &[]),
            "54 more than 3 replicas are too many: at most 56 fit; raise `slots`, or lower `virtual_servers`",
        ),
    ];
    for (command, expected) in cases {
        let mut world = World::of(3);
        world.foreign = vec![name("db")];
        world.wait(6_000);
        world.forget();
        let before = world.supervisor.state().desired.clone();
        let asked = world.ask(command.unwrap(), false);
        assert_eq!(world.answer(asked), Some(Err(expected.to_owned())));
        assert_eq!(world.supervisor.state().desired, before);
        assert!(world.starts().is_empty());
    }
}

#[test]
fn one_that_is_being_replaced_is_removed_under_its_last_name_or_its_next() {
    for by_next in [false, true] {
        let mut world = World::of(3);
        world.hold(Kind::Start);
        world.kill("server_2");
        let next = world.starts()[0].name.to_string();
        let used = if by_next { next.as_str() } else { "server_2" };
        let removed = world.rm(1, &[used]);
        world.release(Kind::Start);
        world.wait(100);
        assert_eq!(world.answer(removed), Some(Ok(names(&[used]))), "by the name that was given");
        assert_eq!(world.rep(), ["server_1", "server_3"]);
        assert_eq!(world.containers.len(), 2);
    }
    let mut world = World::of(3);
    world.hold(Kind::Start);
    world.kill("server_2");
    let next = world.starts()[0].name.to_string();
    let twice = world.rm(2, &["server_2", &next]);
    assert!(world.answer(twice).unwrap().unwrap_err().contains("duplicate"));
}

#[test]
fn not_in_service_goes_first_then_the_newest() {
    let mut world = World::of(4);
    world.start_error = Some(StartError::Refused("no such image".into()));
    world.kill("server_2");
    world.wait(100);
    let removed = world.rm(2, &[]);
    assert_eq!(world.answer(removed), Some(Ok(names(&["server_2", "server_4"]))));
    let removed = world.rm(9, &["server_3"]);
    assert_eq!(world.answer(removed), Some(Ok(names(&["server_3", "server_1"]))));
    assert_eq!((world.desired().len(), world.containers.len()), (0, 0));
}

#[test]
fn an_empty_fleet_stays_empty_and_can_grow() {
    let mut world = World::of(1);
    world.rm(5, &[]);
    world.wait(60_000);
    assert_eq!(world.rep().len(), 0);
    let added = world.add(1, &["server_1"]);
    world.wait(100);
    assert_eq!(world.answer(added), Some(Ok(names(&["server_1"]))));
    let mut world = world.restart(1);
    world.wait(100);
    assert_eq!(world.rep(), ["server_1"]);
    world.rm(1, &[]);
    let mut world = world.restart(3);
    world.wait(60_000);
    assert_eq!(world.rep().len(), 0, "--replicas is for a fleet without state");
}

#[test]
fn a_name_can_be_used_again_while_its_container_still_stops() {
    let mut world = World::of(2);
    world.hold(Kind::Stop);
    let removed = world.rm(1, &["server_2"]);
    let added = world.add(1, &["server_2"]);
    world.wait(46_000);
    assert!(
        world.answer(removed).unwrap().unwrap_err().contains("'server_2' could not be removed")
    );
    world.wait(100);
    assert_eq!(world.answer(added), Some(Ok(names(&["server_2"]))));
    world.release(Kind::Stop);
    world.wait(10_000);
    assert_eq!(world.rep(), ["server_1", "server_2"]);
    assert_eq!(world.containers.len(), 2);
}

#[test]
fn drawn_names_keep_clear_of_given_and_foreign_ones() {
    // The same seed draws the same names: forbid those that a first world drew.
    let mut world = World::of(1);
    let added = world.add(3, &[]);
    world.wait(100);
    let drawn = world.answer(added).unwrap().unwrap();
    let mut world = World::of(1);
    world.foreign = vec![name(&drawn[1])];
    world.wait(6_000);
    let added = world.add(3, &[&drawn[0]]);
    world.wait(100);
    let again = world.answer(added).unwrap().unwrap();
    assert_eq!(again[0], drawn[0]);
    assert!(!again[1..].contains(&drawn[0]) && !again.contains(&drawn[1]), "{again:?}");
}

#[test]
fn no_removal_leaves_fewer_than_the_configured_least() {
    let settings = |least| {
        let mut settings = settings(3);
        settings.limits.replicas_min = least;
        settings
    };
    let booted = |least| {
        let mut world = World::before_boot(settings(least), None, Vec::new());
        world.wait(100);
        world
    };
    // The least, how many are to go, and how many stay.
    for (least, n, stay) in
        [(0, 3, 0), (0, 9, 0), (1, 2, 1), (1, 3, 3), (2, 1, 2), (2, 9, 3), (3, 1, 3)]
    {
        let mut world = booted(least);
        let before = world.supervisor.state().desired.clone();
        let tried = world.ask(ScaleCommand::remove(n, Vec::new()).unwrap(), true);
        let would = world.full_answer(tried).clone();
        let asked = world.rm(n, &[]);
        world.wait(20_000);
        assert_eq!(world.rep().len(), stay, "{least} {n}");
        let refused = world.full_answer(asked).clone().err();
        assert_eq!(would.err(), refused, "a dry run says the same: {least} {n}");
        let expected = ScaleError::TooFew { leave: n.min(3), have: 3, least };
        assert_eq!(refused, (stay == 3).then_some(expected), "{least} {n}");
        let unchanged = world.supervisor.state().desired == before;
        assert_eq!(unchanged, stay == 3, "{least} {n}");
    }
    // By name just the same; and after an addition one may go.
    let mut world = booted(3);
    let refused = world.rm(1, &["server_2"]);
    let added = world.add(1, &[]);
    let allowed = world.rm(1, &["server_2"]);
    world.wait(20_000);
    assert!(world.answer(refused).unwrap().unwrap_err().contains("`replicas_min`"));
    assert!(world.answer(added).unwrap().is_ok() && world.answer(allowed).unwrap().is_ok());
    assert_eq!(world.rep().len(), 3);
}

#[test]
fn a_dry_run_changes_nothing_and_is_exact() {
    let commands = [
        ScaleCommand::add(3, vec![name("S5")], 1).unwrap(),
        ScaleCommand::remove(2, vec![name("server_1")]).unwrap(),
    ];
    for command in commands {
        let mut world = World::of(3);
        let before = world.supervisor.state().clone();
        let tried = world.ask(command.clone(), true);
        assert_eq!(world.supervisor.state(), &before);
        assert!(world.starts().is_empty());
        let Ok(Done::Preview(preview)) = world.full_answer(tried).clone() else { panic!() };
        assert_eq!(preview.before, before.desired.view());
        world.ask(command, false);
        world.wait(1_000);
        assert_eq!(preview.after, world.supervisor.state().desired.view());
        let committed = world.notes.iter().find_map(|note| match note {
            Note::Committed { change, .. } => Some(change.moves.clone()),
            _ => None,
        });
        assert_eq!(committed, Some(preview.moves));
    }
}

#[test]
fn a_failed_start_gives_the_whole_addition_up_in_the_engines_words() {
    let refused = StartError::Refused("no such image: 'demo'; try `docker pull demo`".into());
    let mut world = World::of(2);
    let before = world.supervisor.state().desired.clone();
    world.hold(Kind::Start);
    let added = world.add(3, &["S5"]);
    for (index, action) in world.held_back(Kind::Start).into_iter().enumerate() {
        let Action::Start(request) = action else { continue };
        let started = world.create(&request);
        let result = if index == 1 { Err(refused.clone()) } else { Ok(started) };
        world.tell(Event::Started { instance: request.instance, result });
    }
    world.wait(10_000);
    let error = world.answer(added).unwrap().unwrap_err();
    assert!(error.ends_with("could not be started: no such image: 'demo'; try `docker pull demo`"));
    assert_eq!(world.supervisor.state().desired, before);
    assert_eq!(world.containers.len(), 2, "all that had started is gone");
}

#[test]
fn an_image_that_exits_at_once_is_said_to() {
    let mut world = World::of(1);
    world.hold(Kind::Probe);
    let added = world.add(2, &["S5"]);
    world.kill("S5");
    assert_eq!(
        world.answer(added),
        Some(Err("replica 'S5' could not be started: it exited with code 137 before it passed its heartbeat".to_owned()))
    );
    assert_eq!(world.containers.len(), 1);
}

/// Its address may already be another's, who would answer its heartbeats.
#[test]
fn a_death_that_overtakes_the_result_of_its_start_is_remembered() {
    let mut world = World::of(1);
    world.hold(Kind::Start);
    let added = world.add(1, &["S5"]);
    let Some(Action::Start(request)) = world.held_back(Kind::Start).pop() else { panic!() };
    let started = world.create(&request);
    world.kill("S5");
    world.tell(Event::Started { instance: request.instance, result: Ok(started) });
    assert_eq!(
        world.answer(added),
        Some(Err("replica 'S5' could not be started: it exited with code 137 before it passed its heartbeat".to_owned()))
    );
    assert_eq!(world.containers.len(), 1);
}

#[test]
fn a_given_name_that_turns_out_foreign_is_the_callers_fault() {
    let mut world = World::of(1);
    world.start_error = Some(StartError::NameTaken(name("S5")));
    let added = world.add(1, &["S5"]);
    assert_eq!(world.full_answer(added), &CommandResult::Err(ScaleError::Foreign(name("S5"))));
}

#[test]
fn newcomers_that_do_not_pass_in_time_are_named() {
    let mut world = World::of(1);
    world.sicken("S5", no_answer());
    let added = world.add(2, &["S4", "S5"]);
    world.wait(29_900);
    assert_eq!(world.answer(added), None);
    world.wait(200);
    let expected = "replica 'S5' did not pass its heartbeat within 30s: timeout";
    assert_eq!(world.answer(added), Some(Err(expected.to_owned())));
    assert_eq!((world.rep().len(), world.containers.len()), (1, 1));
}

/// Between the write and its end a newcomer fails a heartbeat, is frozen, or dies: it has been
/// committed, but it is not admitted before it passes.
#[test]
fn a_newcomer_that_fails_during_the_write_is_not_admitted() {
    for fault in ["heartbeat", "pause", "death"] {
        let mut world = World::of(2);
        world.hold(Kind::Persist);
        world.add(1, &["S5"]);
        world.wait(100);
        world.sicken("S5", no_answer());
        match fault {
            "pause" => world.pause("S5"),
            "death" => world.kill("S5"),
            _ => world.wait(400),
        }
        world.hold(Kind::Start);
        world.release(Kind::Persist);
        assert_eq!(world.rep(), ["server_1", "server_2"], "{fault}");
        assert_eq!(world.desired().len(), 3);
        world.release(Kind::Start);
        world.heal("S5");
        world.wait(6_000);
        assert_eq!((world.rep().len(), world.containers.len()), (3, 3), "{fault}");
    }
}

#[test]
fn a_write_that_fails_changes_nothing_and_later_ones_recover() {
    let mut world = World::of(2);
    let before = world.supervisor.state().desired.clone();
    world.disk_error = Some("no space left on device");
    let added = world.add(1, &["S5"]);
    let removed = world.rm(1, &[]);
    world.wait(2_000);
    let expected = "the state could not be written: no space left on device";
    assert_eq!(world.answer(added), Some(Err(expected.to_owned())));
    assert_eq!(world.answer(removed), Some(Err(expected.to_owned())));
    assert_eq!(world.supervisor.state().desired, before);
    assert_eq!((world.rep().len(), world.containers.len()), (2, 2));
    // The file may hold what was refused: it is written again.
    world.disk = None;
    world.disk_error = None;
    world.wait(2_000);
    assert_eq!(world.disk, Some(before));
    let added = world.add(1, &["S5"]);
    world.wait(100);
    assert_eq!(world.answer(added), Some(Ok(names(&["S5"]))));
}

#[test]
fn an_answer_waits_for_the_disk() {
    let mut world = World::of(2);
    world.hold(Kind::Persist);
    let added = world.add(1, &["S5"]);
    world.wait(1_000);
    assert_eq!((world.answer(added), world.rep().len()), (None, 2));
    world.release(Kind::Persist);
    assert_eq!((world.answer(added), world.rep().len()), (Some(Ok(names(&["S5"]))), 3));
}

#[test]
fn a_rollback_while_the_engine_is_away_is_answered_and_finished_later() {
    let mut world = World::of(1);
    world.sicken("S5", no_answer());
    let added = world.add(1, &["S5"]);
    world.wait(20_000);
    world.engine_error = Some("no answer");
    world.wait(26_000);
    assert!(world.answer(added).unwrap().unwrap_err().contains("did not pass"));
    assert_eq!(world.containers.len(), 2);
    let refused = world.add(1, &["S6"]);
    assert_eq!(world.answer(refused), Some(Err("the engine is away: no answer".to_owned())));
    world.engine_error = None;
    world.wait(1_000);
    assert_eq!((world.rep().len(), world.containers.len()), (1, 1));
}

#[test]
fn commands_wait_for_the_first_list_but_not_for_an_engine_that_is_away() {
    let mut world = World::before_boot(settings(2), None, Vec::new());
    world.hold(Kind::List);
    world.wait(1_000);
    let tried = world.ask(ScaleCommand::add(1, Vec::new(), 1).unwrap(), true);
    let added = world.add(1, &["S5"]);
    assert_eq!((world.answer(tried), world.answer(added)), (None, None));
    world.release(Kind::List);
    world.wait(1_000);
    assert_eq!(world.answer(added), Some(Ok(names(&["S5"]))));
    let Ok(Done::Preview(preview)) = world.full_answer(tried) else { panic!() };
    assert_eq!((preview.before.names.len(), preview.after.names.len()), (2, 3));

    let mut world = World::before_boot(settings(2), None, Vec::new());
    world.engine_error = Some("connection refused");
    let early = world.add(1, &["S5"]);
    world.wait(1_000);
    let late = world.rm(1, &[]);
    let away = Some(Err("the engine is away: connection refused".to_owned()));
    assert_eq!((world.answer(early), world.answer(late)), (away.clone(), away));
}

#[test]
fn the_seventeenth_waiting_command_is_refused() {
    let mut world = World::of(1);
    world.hold(Kind::Start);
    let running = world.add(1, &[]);
    let waiting: Vec<_> = (0..16).map(|_| world.rm(1, &["server_1"])).collect();
    let refused = world.rm(1, &["server_1"]);
    assert!(world.answer(refused).unwrap().unwrap_err().contains("(16)"));
    assert_eq!(world.answer(running), None);
    world.release(Kind::Start);
    world.wait(1_000);
    assert_eq!(world.answer(waiting[0]), Some(Ok(names(&["server_1"]))));
    for late in &waiting[1..] {
        assert_eq!(world.answer(*late), Some(Err("'server_1' is not a replica".to_owned())));
    }
}
