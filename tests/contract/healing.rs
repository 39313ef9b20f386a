//! N replicas are kept alive: the real program with children that die, freeze, fail and
//! loop.

mod evidence;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::harness::{Balancer, Home, Load, ask, begin, eventually, finish, get, within};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The contract's limit for ejecting a replica that no longer responds.
const OUT: Duration = Duration::from_secs(2);

fn phases(balancer: &Balancer) -> Vec<String> {
    let status = balancer.status();
    let replicas = status["replicas"].as_array().unwrap();
    let instances = replicas.iter().flat_map(|one| one["instances"].as_array().unwrap());
    instances.map(|one| one["phase"].as_str().unwrap().to_owned()).collect()
}

/// The replica that responds to each key.
fn owners(balancer: &Balancer, keys: usize) -> Vec<String> {
    let owner = |key: usize| {
        let answer = get(balancer.traffic, &format!("/home?id={key}")).json();
        answer["message"].as_str().unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    (0..keys).map(owner).collect()
}

#[test]
fn a_killed_replica_is_replaced_and_no_request_is_lost() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    let before = owners(&balancer, 30);
    let load = Load::start(balancer.traffic, 2);
    for round in 0..3 {
        let names = balancer.wait_for(3);
        let victim = balancer.child(&names[round]);
        victim.kill();
        within(Duration::from_secs(5), "it is replaced", || {
            let now = balancer.rep();
            now.len() == 3 && !now.contains(&victim.name)
        });
    }
    load.all_answered();
    // The successor has the keys of the dead replica; all others have not moved.
    let names = balancer.wait_for(3);
    let renamed = |name: &String| match name.as_str() {
        "server_1" => names[0].clone(),
        "server_2" => names[1].clone(),
        _ => names[2].clone(),
    };
    let expected: Vec<String> = before.iter().map(renamed).collect();
    assert_eq!(owners(&balancer, 30), expected);
    assert_eq!(balancer.ring()["generation"], 1);
}

#[test]
fn all_killed_at_once_come_back() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    let digest = balancer.ring()["digest"].clone();
    balancer.children().iter().for_each(|child| child.kill());
    eventually("the old ones are gone", || !balancer.rep().contains(&"server_1".to_owned()));
    let names = balancer.wait_for(3);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(balancer.ring()["digest"], digest);
    assert_eq!(get(balancer.traffic, "/home").status, 200);
}

#[test]
fn a_frozen_replica_leaves_the_table_its_requests_are_answered_and_it_is_replaced() {
    let home = Home::new();
    let balancer = home.start_full(3, &["--replace-after", "3s", "--stop-grace", "500ms"]);
    let load = Load::start(balancer.traffic, 3);
    let victim = balancer.child("server_2");
    let key = (0..100).find(|id| owner_is(&balancer, *id, "server_2")).unwrap();
    victim.signal(Signal::STOP);
    let frozen = Instant::now();
    // This request waits at the frozen replica, and is retried at another.
    let waiting = begin(balancer.traffic, "GET", &format!("/home?id={key}"), &[], "").unwrap();
    within(OUT, "it is out", || balancer.rep() == ["server_1", "server_3"]);
    let answer = finish(waiting).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(frozen.elapsed() < OUT + Duration::from_millis(500), "{:?}", frozen.elapsed());
    assert!(victim.lives(), "it was replaced too early");
    eventually("it is replaced", || balancer.rep().len() == 3);
    assert!(frozen.elapsed() >= Duration::from_secs(3), "too early: {:?}", frozen.elapsed());
    // A stopped process ignores SIGTERM, but must be gone nevertheless.
    eventually("the frozen one is gone", || !victim.lives());
    let report = load.all_answered();
    assert!(report.slowest < OUT + Duration::from_secs(1), "{report:?}");
    assert_eq!(balancer.wait_for(3).len(), 3);
}

fn owner_is(balancer: &Balancer, id: usize, name: &str) -> bool {
    get(balancer.traffic, &format!("/home?id={id}")).text().contains(&format!("{name}\""))
}

#[test]
fn a_thawed_replica_comes_back_as_it_was() {
    let home = Home::new();
    let balancer = home.start_full(3, &["--replace-after", "20s"]);
    let children = balancer.children();
    let load = Load::start(balancer.traffic, 1);
    let victim = balancer.child("server_3");
    victim.signal(Signal::STOP);
    within(OUT, "it is out", || balancer.rep().len() == 2);
    let status = balancer.status();
    let instance = &status["replicas"][2]["instances"][0];
    assert_eq!(instance["phase"], "ejected", "{status}");
    assert_eq!(instance["reason"], "silent", "{status}");
    victim.signal(Signal::CONT);
    within(OUT, "it is back", || balancer.rep() == ["server_1", "server_2", "server_3"]);
    assert_eq!(balancer.children(), children);
    load.all_answered();
}

#[test]
fn a_replica_with_bad_responses_is_ejected_readmitted_and_replaced() {
    let home = Home::new();
    let arguments = ["--heartbeat-path", "/health", "--replace-after", "2s"];
    let balancer = home.start_full(2, &arguments);
    let load = Load::start(balancer.traffic, 1);
    let key = (0..100).find(|id| owner_is(&balancer, *id, "server_1")).unwrap();
    let toggle = format!("/toggle-health?id={key}");
    assert_eq!(get(balancer.traffic, &toggle).json()["status"], "unhealthy");
    within(OUT, "it is out", || balancer.rep() == ["server_2"]);
    let status = balancer.status();
    assert_eq!(status["replicas"][0]["instances"][0]["reason"], "failing", "{status}");
    within(Duration::from_secs(8), "it is replaced", || balancer.rep().len() == 2);
    let names = balancer.wait_for(2);
    assert_ne!(names[0], "server_1");
    load.all_answered();
}

#[test]
fn the_last_living_replica_stays_although_its_heartbeat_fails() {
    let home = Home::new();
    let arguments = ["--heartbeat-path", "/health", "--replace-after", "20s"];
    let balancer = home.start_full(2, &arguments);
    let load = Load::start(balancer.traffic, 1);
    for name in ["server_1", "server_2"] {
        let key = (0..100).find(|id| owner_is(&balancer, *id, name)).unwrap();
        get(balancer.traffic, &format!("/toggle-health?id={key}"));
    }
    eventually("one is kept as the last", || {
        balancer.rep().len() == 1 && balancer.log().contains("kept_as_last")
    });
    assert_eq!(get(balancer.traffic, "/home").status, 200);
    // After its death the other living one serves.
    let last = balancer.rep()[0].clone();
    balancer.child(&last).kill();
    eventually("the other or the successor serves", || {
        let now = balancer.rep();
        !now.is_empty() && now[0] != last
    });
    let report = load.stop();
    // Between its death and the other's return the table is empty.
    let is_short = |failure: &String| ["502 ", "503 "].contains(&&failure[..4]);
    assert!(report.failed.iter().all(is_short), "{report:?}");
}

#[test]
fn a_single_frozen_replica_is_replaced_too() {
    let home = Home::new();
    let balancer = home.start_full(1, &["--replace-after", "1s", "--stop-grace", "500ms"]);
    let victim = balancer.child("server_1");
    victim.signal(Signal::STOP);
    within(Duration::from_secs(8), "it is replaced", || {
        balancer.rep().first().is_some_and(|name| name != "server_1")
    });
    eventually("the frozen one is gone", || !victim.lives());
    assert_eq!(get(balancer.traffic, "/home").status, 200);
}

#[test]
fn a_crash_loop_slows_down_and_leaves_its_neighbours_alone() {
    let home = Home::new();
    let lines = r#"[ "$RINGMASTER_REPLICA" != 2 ] || { echo "no database" >&2; exit 4; }"#;
    let command = home.command(lines);
    let balancer = home.start(&["--command", &command, "--replicas", "3"]);
    eventually("the others serve", || balancer.rep() == ["server_1", "server_3"]);
    let children = balancer.children();
    let load = Load::start(balancer.traffic, 1);
    // The time between two starts grows.
    let starts = || -> Vec<u64> {
        let decisions = get(balancer.admin, "/api/decisions").json();
        let failed = decisions.as_array().unwrap().iter();
        let failed = failed.filter(|one| one["event"] == "start_failed");
        failed.map(|one| one["time_us"].as_u64().unwrap()).collect()
    };
    eventually("it was tried some times", || starts().len() >= 6);
    let times = starts();
    let gap = |index: usize| Duration::from_micros(times[index + 1] - times[index]);
    // The back-off begins at 100 ms and doubles; the jitter removes at most a half.
    for (index, least) in [(1, 50), (2, 100), (3, 200), (4, 400)] {
        assert!(gap(index) >= Duration::from_millis(least), "{index}: {:?}", gap(index));
    }
    let log = balancer.log();
    assert!(log.contains("no database") && log.contains("backed_off"), "{log}");
    let neighbours = |child: &&crate::harness::Replica| child.id != 2;
    let now: Vec<_> = balancer.children().iter().filter(neighbours).cloned().collect();
    assert_eq!(now, children.iter().filter(neighbours).cloned().collect::<Vec<_>>());
    load.all_answered();
    // Commands work meanwhile.
    assert_eq!(balancer.add(r#"{"n":1,"hostnames":["S4"]}"#)["N"], 3);
    let removed = balancer.rm(r#"{"n":1}"#);
    assert_eq!(removed["N"], 3, "a replica that is not in service is removed first: {removed}");
}

#[test]
fn removals_and_additions_while_a_replica_is_being_replaced() {
    let home = Home::new();
    // Replacements start slowly.
    let command = home.command(r#"[ "$RINGMASTER_INCARNATION" = 1 ] || sleep 1"#);
    let balancer = home.start_full(3, &["--command", &command]);
    balancer.child("server_2").kill();
    eventually("it is being replaced", || balancer.rep() == ["server_1", "server_3"]);
    let added = balancer.add(r#"{"n":1,"hostnames":["S4"]}"#);
    let list: Vec<&Value> = added["replicas"].as_array().unwrap().iter().collect();
    assert!(list.len() == 3 || list.len() == 4, "{added}");
    balancer.wait_for(4);
    let rep = balancer.rep();
    assert_eq!((&*rep[0], &*rep[2], &*rep[3]), ("server_1", "server_3", "S4"));

    // The replica that is being replaced is removed by its last name, and does not come back.
    balancer.child("server_3").kill();
    eventually("it is being replaced", || balancer.rep().len() == 3);
    let removed = balancer.rm(r#"{"n":1,"hostnames":["server_3"]}"#);
    assert_eq!(removed["removed"], json!(["server_3"]));
    assert_eq!(removed["N"], 3);
    balancer.wait_for(3);
    assert_eq!(phases(&balancer), ["admitted"; 3]);
}

/// A dependency of all replicas is away: replacing them would not help, and would lose their caches.
#[test]
fn replicas_that_all_fail_at_once_are_kept_and_serve() {
    let home = Home::new();
    let balancer = home.start_full(
        4,
        &["--heartbeat-path", "/health", "--heartbeat-interval", "100ms", "--replace-after", "1s"],
    );
    let names = balancer.rep();
    let set = |name: &str| {
        let body = json!({ "key": "cached", "value": name }).to_string();
        assert_eq!(ask(balancer.child_address(name), "POST", "/set", &body).status, 200);
    };
    names.iter().for_each(|name| set(name));
    let load = Load::start(balancer.traffic, 2);
    let toggle = |name: &String| get(balancer.child_address(name), "/toggle-health").status;
    assert!(names.iter().all(|name| toggle(name) == 200));
    eventually("it is said", || balancer.status()["panic"] == true);
    eventually("all of them serve", || balancer.rep() == names);
    // Longer than the time after which a single failing replica is replaced.
    let failing_since = Instant::now();
    while failing_since.elapsed() < Duration::from_secs(6) {
        assert_eq!(balancer.rep(), names);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(names.iter().all(|name| toggle(name) == 200));
    eventually("it is over", || balancer.status()["panic"] == false);
    load.all_answered();
    assert_eq!(balancer.rep(), names, "none was replaced");
    for name in &names {
        let kept = get(balancer.child_address(name), "/get?key=cached").json();
        assert_eq!(kept["value"], name.as_str());
    }
    let metrics = get(balancer.admin, "/metrics");
    assert!(metrics.text().contains("ringmaster_transitions_total{event=\"panic_began\"} 1"));
}

#[test]
fn a_retry_reports_what_it_tries_again() {
    let home = Home::new();
    let balancer = home.start_full(1, &[]);
    let url = balancer.url();
    let run = home.ringmaster(&["retry", "--url", &url]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.out, "no roll was stopped; replicas that waited for their next start: 0\n");
    let asked = ask(balancer.admin, "POST", "/api/retry?dry_run=true", "");
    assert_eq!(asked.message(), json!({ "roll": false, "waiting": 0 }));
    assert_eq!(get(balancer.admin, "/api/retry").status, 405);
    assert_eq!(ask(balancer.admin, "POST", "/api/retry?now=1", "").status, 400);
}
