//! The end and the next start of a balancer under load, and an end that also stops the replicas.

use std::time::{Duration, Instant};

use crate::{
    docker::{docker, engine, eventually},
    docker_support::{
        Fleet, SOON, alone, beside_others,
        http::call,
        load::{Load, Shape},
        print,
    },
};

/// A free port, because the next balancer must get the same.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_restart_under_load_gives_no_error_responses() {
    let Some(host) = engine() else { return };
    let _turn = alone();
    let mut fleet = Fleet::new(&host);
    let listen = free_address();
    let arguments = ["--replicas", "3", "--listen", &listen];
    fleet.start(&arguments);
    fleet.until_in_service(3);
    for is_killed in [false, true, false, true, false, true] {
        let load = Load::start(fleet.traffic(), Shape { connections: 50, rate: 300 });
        eventually("it is under load", SOON, || load.answered() > 150);
        if is_killed {
            fleet.kill();
        } else {
            assert_eq!(fleet.terminate().code(), Some(0));
        }
        std::thread::sleep(Duration::from_millis(300));
        fleet.start(&arguments);
        let before = load.answered();
        eventually("requests are answered again", SOON, || load.answered() > before + 300);
        let report = load.end();
        let (cut, answered) = (report.failures.len(), report.answered);
        print(&format!("killed: {is_killed}, answered {answered}, not connected or cut {cut}"));
        report.assert_no_bad_answer();
    }
    fleet.assert_no_strays();
}

fn networks(fleet: &Fleet) -> String {
    let label = format!("label=ringmaster.fleet={}", fleet.world.fleet);
    fleet.world.docker(&["network", "ls", "--filter", &label, "--format", "{{.Name}}"])
}

#[test]
fn an_end_with_the_replicas_leaves_nothing_of_starts_under_way() {
    let Some(host) = engine() else { return };
    let _turn = beside_others();
    let mut fleet = Fleet::of(&host, 2, &["--stop-replicas-on-exit"]);
    assert_eq!(networks(&fleet), format!("{}-net", fleet.world.fleet));
    let to = fleet.traffic();
    let after = fleet.last_decision();
    let adding = std::thread::spawn(move || call(to, "POST", "/add", r#"{"n":14}"#));
    eventually("starts are under way", SOON, || {
        fleet.decisions(after).iter().filter(|decision| decision.event == "starting").count() == 14
    });
    let begin = Instant::now();
    assert_eq!(fleet.terminate().code(), Some(0));
    print(&format!("ended with 14 starts under way in {:.1?}", begin.elapsed()));
    // If the command got a response, it is this refusal.
    if let Ok(answer) = adding.join().unwrap() {
        let why = answer.expect(503).message();
        assert!(why.contains("shutting down"), "{why}");
    }
    assert!(fleet.containers().is_empty(), "{:?}", fleet.containers());
    assert_eq!(networks(&fleet), "");
    // The next start has what was committed, and nothing else.
    fleet.start(&["--replicas", "5", "--stop-replicas-on-exit"]);
    fleet.until_in_service(2);
    assert_eq!(fleet.terminate().code(), Some(0));
    assert!(fleet.containers().is_empty() && networks(&fleet).is_empty());
}

#[test]
fn an_end_with_the_replicas_leaves_the_networks_of_others() {
    let Some(host) = engine() else { return };
    let _turn = beside_others();
    let mut fleet = Fleet::of(&host, 1, &["--stop-replicas-on-exit"]);
    // A foreign container on the fleet's network, and the fleet on a network without its label.
    let network = format!("{}-net", fleet.world.fleet);
    let guest = fleet.world.run(&fleet.container("guest"), &["--network", &network]);
    assert_eq!(fleet.terminate().code(), Some(0));
    assert_eq!(networks(&fleet), network);
    docker(&host, &["rm", "--force", &guest]).unwrap();
    docker(&host, &["network", "rm", &network]).unwrap();
    let theirs = format!("{}-theirs", fleet.world.fleet);
    fleet.world.docker(&["network", "create", &theirs]);
    fleet.start(&["--stop-replicas-on-exit", "--network", &theirs]);
    fleet.until_in_service(1);
    assert_eq!(fleet.terminate().code(), Some(0));
    assert!(fleet.containers().is_empty());
    let left = fleet.world.docker(&["network", "inspect", "--format", "{{.Name}}", &theirs]);
    assert_eq!(left, theirs);
}
