//! Replicas that die, freeze, and change under load: no request may fail.

use std::time::{Duration, Instant};

use crate::docker::{engine, eventually};
use crate::docker_support::{
    Decision, Fleet, SOON, alone, beside_others, end_of,
    http::call,
    load::{Load, Shape},
    main_process, now_us, print, spread,
};
use rustix::process::{Signal, kill_process};

const KILLS: usize = 20;

/// One kill, in milliseconds.
struct Healing {
    /// From the end of the process to the table without it.
    out: f64,
    /// From the kill to the replacement in service.
    back: f64,
    delayed: bool,
}

/// Kills the container of a replica, and waits until the fleet is whole again.
fn kill_one(fleet: &Fleet, victim: &str) -> Healing {
    let container = fleet.container(victim);
    let end = end_of(main_process(&fleet.world.host, &container));
    let after = fleet.last_decision();
    let killed = now_us();
    fleet.world.docker(&["kill", &container]);
    let ended = end.join().unwrap();
    let mut seen: Vec<Decision> = Vec::new();
    eventually("a replacement is in service", SOON, || {
        seen = fleet.decisions(after);
        seen.iter().any(|decision| decision.event == "admitted")
    });
    let first = |events: &[&str]| {
        let found = seen.iter().find(|decision| events.contains(&&*decision.event));
        found.unwrap_or_else(|| panic!("{events:?} in {seen:#?}"))
    };
    let out = first(&["died", "ejected"]);
    assert_eq!(out.replica, victim);
    assert_ne!(first(&["admitted"]).replica, victim, "a new name");
    eventually("N is restored", SOON, || fleet.replicas().len() == 3);
    Healing {
        out: (out.time_us as f64 - ended as f64) / 1000.0,
        back: (first(&["admitted"]).time_us - killed) as f64 / 1000.0,
        delayed: seen.iter().any(|decision| decision.event == "backed_off"),
    }
}

#[test]
fn twenty_kills_in_a_row_fail_no_request() {
    let Some(host) = engine() else { return };
    let _turn = alone();
    let fleet = Fleet::of(&host, 3, &[]);
    let ring = fleet.digest();
    let load = Load::start(fleet.traffic(), Shape::default());
    eventually("it is under load", SOON, || load.answered() > 500);
    let healings: Vec<Healing> = (0..KILLS)
        .map(|round| {
            let victim = fleet.replicas()[round % 3].clone();
            kill_one(&fleet, &victim)
        })
        .collect();
    let report = load.end();
    let mut out: Vec<f64> = healings.iter().map(|healing| healing.out).collect();
    let mut back: Vec<f64> = healings.iter().map(|healing| healing.back).collect();
    let prompt = healings.iter().filter(|healing| !healing.delayed);
    let mut prompt: Vec<f64> = prompt.map(|healing| healing.back).collect();
    let (least, middle, most) = spread(&mut out);
    print(&format!(
        "death to table, {KILLS} kills: {least:.1} / {middle:.1} / {most:.1} ms (median goal 50 ms)"
    ));
    assert!(middle < 200.0, "{out:?}");
    let (least, middle, most) = spread(&mut back);
    print(&format!(
        "kill to replacement, {KILLS} kills in a row with back-off: {least:.0} / {middle:.0} / {most:.0} ms"
    ));
    assert!(middle < 4_000.0, "{back:?}");
    let (least, middle, most) = spread(&mut prompt);
    print(&format!(
        "kill to replacement, {} without back-off: {least:.0} / {middle:.0} / {most:.0} ms (median goal 1 s)",
        prompt.len()
    ));
    print(&format!(
        "{} requests, {} failed, the slowest took {:.0?}",
        report.answered,
        report.failures.len(),
        report.slowest
    ));
    report.assert_all_answered();
    assert_eq!(fleet.digest(), ring, "a replacement moves no key");
    fleet.assert_no_strays();
}

/// Waits until the replica that `freeze` freezes is out of the table.
fn until_out(fleet: &Fleet, victim: &str, freeze: impl FnOnce()) {
    let after = fleet.last_decision();
    let begin = Instant::now();
    let frozen = now_us();
    freeze();
    let mut out = None;
    eventually("it is out of the table", SOON, || {
        out = fleet.decisions(after).into_iter().find(|decision| decision.event == "ejected");
        out.is_some()
    });
    let out = out.unwrap();
    assert_eq!(out.replica, victim);
    let took = out.time_us.saturating_sub(frozen) as f64 / 1000.0;
    print(&format!("frozen to out of the table: {took:.0} ms, '{}' (bound 2 s)", out.detail));
    assert!(took < 2_000.0, "{took} {:?}", begin.elapsed());
    assert!(!fleet.replicas().contains(&victim.to_owned()));
}

#[test]
fn frozen_replicas_are_ejected_and_readmitted_or_replaced() {
    let Some(host) = engine() else { return };
    let _turn = beside_others();
    let fleet = Fleet::of(&host, 3, &[]);
    let ring = fleet.digest();
    let before = fleet.containers();
    let load = Load::start(fleet.traffic(), Shape { connections: 50, rate: 200 });
    eventually("it is under load", SOON, || load.answered() > 200);

    // Paused for a short while: the same instance comes back.
    let victim = fleet.container("server_1");
    until_out(&fleet, "server_1", || drop(fleet.world.docker(&["pause", &victim])));
    let after = fleet.last_decision();
    fleet.world.docker(&["unpause", &victim]);
    eventually("it is readmitted", SOON, || {
        fleet.decisions(after).iter().any(|d| d.event == "readmitted" && d.replica == "server_1")
    });
    assert_eq!(fleet.replicas(), ["server_1", "server_2", "server_3"]);
    // The same by a signal, which the engine does not report.
    let process = main_process(&host, &fleet.container("server_2"));
    until_out(&fleet, "server_2", || kill_process(process, Signal::STOP).unwrap());
    kill_process(process, Signal::CONT).unwrap();
    eventually("it is readmitted", SOON, || fleet.replicas().len() == 3);
    assert_eq!(fleet.containers(), before, "no replica was replaced");

    // For longer: both are replaced, and their containers are removed.
    until_out(&fleet, "server_1", || drop(fleet.world.docker(&["pause", &victim])));
    until_out(&fleet, "server_2", || kill_process(process, Signal::STOP).unwrap());
    eventually("both are replaced", SOON, || fleet.replicas().len() == 3);
    let names = fleet.replicas();
    assert!(!names.contains(&"server_1".into()) && !names.contains(&"server_2".into()));
    assert_eq!(names[2], "server_3");
    // A stopped process ignores SIGTERM, so its grace must pass.
    eventually("they are removed", Duration::from_secs(30), || fleet.containers().len() == 3);
    assert!(!fleet.world.exists(&victim));
    load.end().assert_all_answered();
    assert_eq!(fleet.digest(), ring);
}

#[test]
fn scaling_under_load_fails_no_request() {
    let Some(host) = engine() else { return };
    let _turn = alone();
    let wanted = std::env::var("RINGMASTER_TEST_REQUESTS").ok().and_then(|n| n.parse().ok());
    let wanted: u64 = wanted.unwrap_or(20_000);
    let fleet = Fleet::of(&host, 3, &[]);
    let load = Load::start(fleet.traffic(), Shape { connections: 100, rate: 1_000 });
    let (begin, mut rounds) = (Instant::now(), 0);
    while load.answered() < wanted {
        let n = rounds % 3 + 1;
        fleet.add(&format!(r#"{{"n":{n},"hostnames":["extra"]}}"#)).expect(200);
        // The oldest is removed too: its keys move, and partly move back to a new replica.
        let oldest = fleet.replicas()[0].clone();
        fleet.rm(&format!(r#"{{"n":{},"hostnames":["{oldest}","extra"]}}"#, n + 1)).expect(200);
        fleet.add(r#"{"n":1}"#).expect(200);
        rounds += 1;
    }
    let report = load.end();
    print(&format!(
        "{} requests during {rounds} rounds of /add, /rm, /add in {:.0?}: {} failed, the slowest took {:.0?}",
        report.answered,
        begin.elapsed(),
        report.failures.len(),
        report.slowest
    ));
    report.assert_all_answered();
    assert_eq!(fleet.replicas().len(), 3);
    fleet.assert_no_strays();
}

#[test]
fn a_replica_that_is_gone_altogether_is_replaced() {
    let Some(host) = engine() else { return };
    let _turn = beside_others();
    let fleet = Fleet::of(&host, 3, &[]);
    let load = Load::start(fleet.traffic(), Shape { connections: 20, rate: 100 });
    // Removed by force, cut off from the network, and stopped by hand.
    let network = format!("{}-net", fleet.world.fleet);
    for hurt in [&["rm", "--force"][..], &["network", "disconnect", &network], &["stop"]] {
        let victim = fleet.replicas()[0].clone();
        let container = fleet.container(&victim);
        fleet.world.docker(&[hurt, &[&*container]].concat());
        eventually("it is replaced", SOON, || {
            let names = fleet.replicas();
            names.len() == 3 && !names.contains(&victim)
        });
    }
    fleet.assert_no_strays();
    load.end().assert_all_answered();
    // The only replica dies: 503 until its replacement is in service.
    fleet.rm(r#"{"n":2}"#).expect(200);
    let last = fleet.replicas()[0].clone();
    fleet.world.docker(&["kill", &fleet.container(&last)]);
    eventually("it is replaced", SOON, || {
        let names = fleet.replicas();
        names.len() == 1 && names[0] != last
    });
    fleet.get("/home").expect(200);
    fleet.assert_no_strays();
}

/// The last lines are kept although the container is gone.
#[test]
fn the_ending_of_a_replica_is_known_after_its_replacement() {
    let Some(host) = engine() else { return };
    let _turn = beside_others();
    let mut fleet = Fleet::of_test_replicas(&host);
    fleet.start(&["--replicas", "2", "--command", "talkative"]);
    fleet.until_in_service(2);
    fleet.world.docker(&["kill", "--signal", "QUIT", &fleet.container("server_2")]);
    eventually("it is replaced", SOON, || {
        let names = fleet.replicas();
        names.len() == 2 && !names.contains(&"server_2".to_owned())
    });
    fleet.assert_no_strays();
    let ending = || fleet.status()["replicas"][1]["last_ending"].clone();
    eventually("its last lines are kept", SOON, || ending()["lines"][9] == "red alert");
    let ending = ending();
    assert_eq!((&ending["name"], &ending["out_of_memory"]), (&"server_2".into(), &false.into()));
    assert_eq!((&ending["exit_code"], &ending["signal"]), (&131.into(), &"SIGQUIT".into()));
    assert!(!fleet.has_said("reaped"), "nothing of this was a stray");
    let logs = call(fleet.admin(), "GET", "/api/logs/server_2", "").unwrap().expect(200).json();
    assert_eq!(logs["endings"][0]["lines"].as_array().map(Vec::len), Some(50), "{logs}");
    let successor = &fleet.replicas()[1];
    let path = format!("/api/logs/{successor}?lines=2");
    let logs = call(fleet.admin(), "GET", &path, "").unwrap().expect(200).json();
    assert_eq!(logs["instance"]["lines"], serde_json::json!(["line 199", "red alert"]), "{logs}");
}
