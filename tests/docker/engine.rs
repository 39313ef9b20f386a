//! The engine goes away and comes back: the balancer continues, reports it, and restores the fleet.

use std::time::{Duration, Instant};

use crate::docker::eventually;
use crate::docker_support::{
    Fleet,
    load::{Load, Shape},
    print,
};
use crate::private_engine::PrivateEngine;
use rustix::process::Signal;

/// A private engine needs seconds for what takes another milliseconds.
const LONG: Duration = Duration::from_secs(60);

fn until_engine_is(fleet: &Fleet, up: bool) {
    eventually(if up { "the engine is up" } else { "the engine is away" }, LONG, || {
        (fleet.status()["engine"] == "up") == up
    });
}

/// Commands fail at once because the engine is away; reads work.
fn assert_commands_are_refused(fleet: &Fleet, in_service: usize) {
    for (path, body) in [("add", r#"{"n":1}"#), ("rm", r#"{"n":1}"#)] {
        let begin = Instant::now();
        let refused = if path == "add" { fleet.add(body) } else { fleet.rm(body) };
        let message = refused.expect(503).message();
        assert!(message.starts_with("<Error> "), "{message}");
        assert!(message.contains("engine"), "{message}");
        assert!(begin.elapsed() < Duration::from_secs(2), "{path}: {:?}", begin.elapsed());
    }
    assert_eq!(fleet.replicas().len(), in_service);
}

#[test]
fn the_engine_may_end_and_come_back() {
    if crate::docker::engine().is_none() {
        return;
    }
    let Some(private) = PrivateEngine::start() else { return };
    private.enter_network();
    let mut fleet = Fleet::new(&private.host());

    // Away at the start: the balancer waits for it.
    private.end(Signal::TERM);
    fleet.start(&["--replicas", "3"]);
    until_engine_is(&fleet, false);
    assert_commands_are_refused(&fleet, 0);
    fleet.get("/home").expect(503);
    private.again();
    let begin = Instant::now();
    eventually("3 in service", LONG, || fleet.replicas().len() == 3);
    print(&format!("engine back at the start to 3 in service: {:.1?}", begin.elapsed()));
    let ring = fleet.digest();

    // Stopped in order: it takes its containers with it.
    private.end(Signal::TERM);
    until_engine_is(&fleet, false);
    assert!(fleet.has_said("engine_away"));
    let living = fleet.replicas().len();
    assert_commands_are_refused(&fleet, living);
    private.again();
    let begin = Instant::now();
    eventually("3 in service", LONG, || fleet.replicas().len() == 3);
    print(&format!("engine restarted in order to 3 in service: {:.1?}", begin.elapsed()));
    assert_eq!(fleet.digest(), ring, "the same slots");
    eventually("nothing else is left", LONG, || fleet.containers().len() == 3);
    fleet.add(r#"{"n":1,"hostnames":["S5"]}"#).expect(200);
    fleet.rm(r#"{"n":1}"#).expect(200);

    // Frozen: its containers live, and so does traffic.
    let load = Load::start(fleet.traffic(), Shape { connections: 20, rate: 100 });
    private.signal(Signal::STOP);
    until_engine_is(&fleet, false);
    assert_commands_are_refused(&fleet, 3);
    private.signal(Signal::CONT);
    until_engine_is(&fleet, true);
    load.end().assert_all_answered();
    let names = fleet.replicas();
    assert_eq!(names.len(), 3);
    assert_eq!(fleet.digest(), ring);

    // Killed, unlike the orderly stop above.
    private.end(Signal::KILL);
    until_engine_is(&fleet, false);
    private.again();
    eventually("3 in service", LONG, || fleet.replicas().len() == 3);
    assert_eq!(fleet.digest(), ring);
    eventually("nothing else is left", LONG, || fleet.containers().len() == 3);
}
