//! Two supervisors on one engine: a takeover finds the containers as they are.

use std::time::{Duration, Instant};

use crate::{
    docker::engine,
    docker_support::{Fleet, beside_others, http::Response},
    harness::{Balancer, Home, Load, eventually, get, within},
    line::Line,
    server::RedisServer,
    shared::leads,
};

#[test]
fn a_takeover_restarts_no_container_and_commands_go_on() {
    let Some(host) = engine() else { return };
    let Some(redis) = RedisServer::start() else { return };
    let _machine = beside_others();
    let (mut fleet, home) = (Fleet::new(&host), Home::new());
    let url = redis.url();
    fleet.start(&["--replicas", "3", "--store", &url]);
    fleet.until_in_service(3);
    let start = |name: &str, role: &str| {
        let mut command = home.program();
        command.env("DOCKER_HOST", &fleet.world.host);
        command.args(["serve", "--driver", "docker", "--listen", "127.0.0.1:0"]);
        command.args(["--admin", "127.0.0.1:0", "--workers", "1", "--store", &url]);
        command.args(["--fleet", &fleet.world.fleet, "--image", &fleet.world.image]);
        command.args(["--role", role, "--state-dir"]).arg(home.path(name));
        Balancer::spawn(command)
    };
    let (second, third) = (start("second", "both"), start("third", "balancer"));
    eventually("the others route to all", || second.rep().len() == 3 && third.rep().len() == 3);
    // On every process, replicas come and go without one request that fails anywhere.
    let loads = [Load::start(second.traffic, 1), Load::start(third.traffic, 1)];
    for asked in [&second, &third] {
        asked.add(r#"{"n":1,"hostnames":["S7"]}"#);
        eventually("all route to it", || [&second, &third].iter().all(|one| one.rep().len() == 4));
        asked.rm(r#"{"n":1,"hostnames":["S7"]}"#);
        eventually("none routes to it", || {
            [&second, &third].iter().all(|one| one.rep().len() == 3)
        });
    }
    let (containers, digest, names) = (fleet.containers(), fleet.digest(), fleet.replicas());
    let begin = Instant::now();
    fleet.kill();
    within(Duration::from_secs(3), "the standby supervises", || leads(&second));
    println!("takeover of containers: {:?}", begin.elapsed());
    eventually("it knows all of them", || second.status()["passing"] == 3);
    for load in loads {
        load.all_answered();
    }
    assert_eq!(fleet.containers(), containers);
    assert_eq!(second.ring()["digest"], digest);
    assert_eq!(second.rep(), names);
    second.add(r#"{"n":1,"hostnames":["S9"]}"#);
    assert_eq!(second.rep().len(), 4);
    second.rm(r#"{"n":1,"hostnames":["S9"]}"#);
    assert_eq!(fleet.containers(), containers);
    // Its copy of the state is as good as the first one's.
    let state = std::fs::read_to_string(home.path("second").join("state.json")).unwrap();
    assert!(names.iter().all(|name| state.contains(name.as_str())), "{state}");
}

#[test]
fn a_supervisor_that_is_cut_off_starts_and_replaces_nothing() {
    let Some(host) = engine() else { return };
    let Some(redis) = RedisServer::start() else { return };
    let _machine = beside_others();
    let mut fleet = Fleet::new(&host);
    let (line, address) = Line::to(redis.address);
    fleet.start(&["--replicas", "3", "--store", &format!("redis://{address}")]);
    fleet.until_in_service(3);
    let (before, names) = (fleet.containers(), fleet.replicas());
    line.cut();
    let refused = |answer: Response| {
        let said = answer.expect(503).message();
        assert!(said.contains("the store does not answer"), "{said}");
    };
    eventually("it supervises no more", || {
        get(fleet.admin(), "/metrics").text().contains("\nringmaster_leading 0\n")
    });
    refused(fleet.add(r#"{"n":1,"hostnames":["S7"]}"#));
    fleet.world.docker(&["kill", &fleet.container(&names[1])]);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        // The dead one's keys go to the next of their lists.
        fleet.owners();
        assert_eq!(fleet.containers(), before);
    }
    refused(fleet.rm(r#"{"n":1}"#));
    line.mend();
    eventually("the dead one is replaced", || {
        let now = fleet.replicas();
        now.len() == 3 && !now.contains(&names[1])
    });
    fleet.assert_no_strays();
    fleet.add(r#"{"n":1,"hostnames":["S7"]}"#).expect(200);
}
