//! Writes of the state that hang: commands are answered, and the file becomes right again.

use super::world::{Kind, World, settings};
use crate::fleet::{
    command::{CommandId, ScaleCommand},
    message::{Action, Event},
};

const REFUSED: &str = "the state could not be written: the disk does not answer within 5s";

fn error(world: &World, id: CommandId) -> Option<String> {
    world.answer(id).map(|answer| answer.unwrap_err())
}

#[test]
fn a_command_whose_write_hangs_is_given_up_and_the_next_are_refused_at_once() {
    let mut world = World::of(3);
    world.hold(Kind::Persist);
    let removal = world.rm(1, &["server_3"]);
    world.wait(4_900);
    assert_eq!(error(&world, removal), None, "its write may still end");
    world.wait(200);
    assert_eq!(error(&world, removal).unwrap(), REFUSED);
    assert_eq!(world.rep(), ["server_1", "server_2", "server_3"]);
    // While the state is written again, and between two tries.
    for _ in 0..8 {
        let ids = [world.add(1, &["S9"]), world.rm(1, &[])];
        for id in ids {
            assert_eq!(error(&world, id).unwrap(), REFUSED);
        }
        world.wait(900);
    }
    assert!(world.starts().is_empty() && world.ends() == 0);
    // What is only asked is answered.
    let preview = world.ask(ScaleCommand::remove(1, Vec::new()).unwrap(), true);
    assert_eq!(world.answer(preview), Some(Ok(Vec::new())));
    world.release(Kind::Persist);
    world.wait(10_000);
    assert_eq!(world.disk.as_ref(), Some(&world.supervisor.state().desired));
    let added = world.add(1, &["S9"]);
    world.wait(1_000);
    assert_eq!(world.answer(added), Some(Ok(vec!["S9".into()])));
}

#[test]
fn an_addition_whose_write_hangs_is_rolled_back() {
    let mut world = World::of(2);
    world.hold(Kind::Persist);
    let added = world.add(1, &["S9"]);
    world.wait(6_000);
    assert_eq!(error(&world, added).unwrap(), REFUSED);
    assert_eq!((world.rep().len(), world.containers.len()), (2, 2));
}

#[test]
fn a_command_that_waits_for_a_hanging_write_is_given_up_with_it() {
    let mut world = World::of(3);
    world.hold(Kind::Persist);
    // Its successor's name is to be written.
    world.kill("server_1");
    world.wait(1_000);
    let removal = world.rm(1, &["server_3"]);
    world.wait(4_500);
    assert_eq!(error(&world, removal).unwrap(), REFUSED);
    assert_eq!(world.rep().len(), 3);
}

#[test]
fn the_late_result_of_a_lost_write_commits_nothing() {
    let mut world = World::of(3);
    world.hold(Kind::Persist);
    let removal = world.rm(1, &["server_3"]);
    world.wait(5_100);
    let lost = world.held_back(Kind::Persist);
    // The committed state is written at once, over what was given up.
    let [Action::Persist { write, .. }, Action::Persist { .. }] = &lost[..] else {
        panic!("{lost:?}")
    };
    let write = *write;
    world.wait(2_000);
    // By now another write is under way, which this is not the result of.
    world.tell(Event::Persisted { write, result: Ok(()) });
    assert_eq!(error(&world, removal).unwrap(), REFUSED);
    assert_eq!(world.rep().len(), 3);
    let refused = world.rm(1, &["server_3"]);
    assert_eq!(error(&world, refused).unwrap(), REFUSED);
    // The file may hold what was given up: the committed state is written once more.
    world.disk = None;
    world.release(Kind::Persist);
    world.wait(10_000);
    assert_eq!(world.disk.as_ref(), Some(&world.supervisor.state().desired));
    assert_eq!(world.disk.unwrap().replicas().len(), 3);
}

#[test]
fn a_first_fleet_does_not_wait_for_a_disk_that_never_answers() {
    let mut world = World::before_boot(settings(3), None, Vec::new());
    world.hold(Kind::Persist);
    world.wait(4_900);
    assert!(world.starts().is_empty());
    world.wait(300);
    assert_eq!(world.rep().len(), 3);
}
