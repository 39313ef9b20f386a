//! Backends that others list in the Redis: `redis-init` seeds them, an orchestrator marks them, and
//! our own checks are written back.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::{
    harness::{Balancer, begin, eventually, get, within},
    server::RedisServer,
    shared::{Fleet, Replica, leads, metric},
};

fn list(redis: &RedisServer, replica: &Replica, status: &str) {
    let (key, url) = (format!("backend:{}", replica.name), format!("http://{}", replica.address));
    redis.command(&["HSET", &key, "url", &url, "status", status]);
    redis.command(&["SADD", "backends", &replica.name]);
}

fn mark(redis: &RedisServer, name: &str, status: &str) {
    redis.command(&["HSET", &format!("backend:{name}"), "status", status]);
    let change = format!(r#"{{"backend_id":"{name}","status":"{status}"}}"#);
    redis.command(&["PUBLISH", "backend_changes", &change]);
}

fn has_status(redis: &RedisServer, name: &str, status: &str) -> bool {
    let found = redis.command(&["HGET", &format!("backend:{name}"), "status"]);
    found.lines().any(|line| line == status)
}

/// The names in service, in alphabetical order.
fn in_service(process: &Balancer) -> Vec<String> {
    let mut names = process.rep();
    names.sort();
    names
}

fn serves(process: &Balancer, names: &[&str]) {
    eventually(&format!("{names:?} are in service"), || in_service(process) == names);
}

/// By round robin, each server in service answers.
fn answering(process: &Balancer) -> Vec<String> {
    let mut names: Vec<String> = (0..12)
        .map(|_| {
            let answer = get(process.traffic, "/home");
            assert_eq!(answer.status, 200, "{}", answer.text());
            let text = answer.json()["message"].as_str().unwrap().to_owned();
            text.rsplit(' ').next().unwrap().to_owned()
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn seed_002_backends_come_and_go_as_they_are_listed_and_checks_are_written_back() {
    let Some(mut fleet) = Fleet::new(4) else { return };
    for replica in &fleet.replicas {
        list(&fleet.redis, replica, "healthy");
    }
    let mut command = fleet.command_with_backends("a");
    command.args(["--heartbeat-interval", "100ms"]);
    let process = Balancer::spawn(command);
    serves(&process, &["s1", "s2", "s3", "s4"]);
    assert_eq!(answering(&process), ["s1", "s2", "s3", "s4"]);

    // What our checks say is written and published, on change only.
    let heard = fleet.redis.subscribe("backend_changes");
    let toggle = |index: usize| {
        assert_eq!(get(fleet.replicas[index].address, "/toggle-health").status, 200);
    };
    toggle(1);
    eventually("the verdict is written", || has_status(&fleet.redis, "s2", "unhealthy"));
    serves(&process, &["s1", "s3", "s4"]);
    assert_eq!(answering(&process), ["s1", "s3", "s4"]);
    let checked = fleet.redis.command(&["HGET", "backend:s2", "last_checked"]);
    assert!(checked.contains('T') && checked.contains('Z'), "{checked}");
    toggle(1);
    eventually("the verdict is written", || has_status(&fleet.redis, "s2", "healthy"));
    serves(&process, &["s1", "s2", "s3", "s4"]);
    std::thread::sleep(Duration::from_millis(500));
    let told = heard.lock().unwrap().clone();
    let count = |status: &str| {
        told.matches(&format!(r#"{{"backend_id":"s2","status":"{status}"}}"#)).count()
    };
    assert_eq!((count("unhealthy"), count("healthy")), (1, 1), "{told}");
    assert_eq!(told.matches("backend_id").count(), 2, "{told}");

    // One that dies is no different.
    fleet.replicas[3].kill();
    eventually("it is seen", || has_status(&fleet.redis, "s4", "unhealthy"));
    serves(&process, &["s1", "s2", "s3"]);
    // Those that are listed no more are gone, new ones come, and one may be somewhere else.
    fleet.redis.command(&["SREM", "backends", "s4"]);
    let moved = Replica::start("s1");
    list(&fleet.redis, &moved, "healthy");
    let fifth = Replica::start("s5");
    list(&fleet.redis, &fifth, "unknown");
    serves(&process, &["s1", "s2", "s3", "s5"]);
    eventually("its status is written", || has_status(&fleet.redis, "s5", "healthy"));
    fleet.replicas[0].kill();
    eventually("s1 answers where it is now", || answering(&process).contains(&"s1".to_owned()));
    assert_eq!(process.status()["desired"], 4);

    // What cannot be used is said once, and harms nothing.
    for (name, url) in [("odd", "ftp://a"), ("s2", "http://")] {
        fleet.redis.command(&["HSET", &format!("backend:{name}"), "url", url]);
    }
    fleet.redis.command(&["SADD", "backends", "odd", "not a name", "list"]);
    fleet.redis.command(&["LPUSH", "backend:list", "x"]);
    fleet.redis.command(&["PUBLISH", "backend_changes", "nonsense"]);
    eventually("it is said", || process.log().contains("'ftp://a' is no URL"));
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(process.log().matches("'ftp://a' is no URL").count(), 1, "{}", process.log());
    assert_eq!(in_service(&process), ["s1", "s2", "s3", "s5"]);

    // An emptied store is filled again.
    fleet.redis.command(&["FLUSHALL"]);
    eventually("the list is there again", || {
        let list = fleet.redis.command(&["SMEMBERS", "backends"]);
        ["s1", "s2", "s3", "s5"].iter().all(|name| list.contains(name))
    });
    assert_eq!(in_service(&process), ["s1", "s2", "s3", "s5"]);
    assert_eq!(process.status()["desired"], 4);
}

#[test]
fn seed_002_what_another_party_says_is_routed_at_once() {
    let Some(fleet) = Fleet::new(2) else { return };
    for replica in &fleet.replicas {
        list(&fleet.redis, replica, "healthy");
    }
    // Our own checks are too rare to have a say.
    let mut command = fleet.command_with_backends("a");
    command.args(["--heartbeat-interval", "60s"]);
    let process = Balancer::spawn(command);
    eventually("it supervises", || leads(&process));
    serves(&process, &["s1", "s2"]);
    let mut times = Vec::new();
    for round in 0..21 {
        let status = ["unhealthy", "healthy"][round % 2];
        let expected = 1 + round % 2;
        let begin = Instant::now();
        mark(&fleet.redis, "s2", status);
        within(Duration::from_secs(5), "it is routed so", || process.rep().len() == expected);
        times.push(begin.elapsed());
    }
    times.sort();
    println!("from the message to the table: median {:?}, most {:?}", times[10], times[20]);
    assert!(times[10] <= Duration::from_millis(50), "{times:?}");
}

#[test]
fn news_of_a_backend_does_not_wait_for_the_removal_of_another() {
    let Some(fleet) = Fleet::new(3) else { return };
    for replica in &fleet.replicas {
        list(&fleet.redis, replica, "healthy");
    }
    let mut command = fleet.command_with_backends("a");
    // Our own checks are too rare to have a say, and a drain takes as long as its requests.
    command.args(["--heartbeat-interval", "60s", "--drain", "60s"]);
    let process = Balancer::spawn(command);
    serves(&process, &["s1", "s2", "s3"]);
    // Each of them has a request whose body does not end.
    let open = |_| {
        let headers = [("Content-Length", "10")];
        begin(process.traffic, "POST", "/echo", &headers, "").unwrap()
    };
    let requests: Vec<_> = (0..3).map(open).collect();
    eventually("all of them are under way", || {
        let text = get(process.admin, "/metrics").text().to_owned();
        let one =
            |line: &&str| line.starts_with("ringmaster_replica_in_flight{") && line.ends_with(" 1");
        text.lines().filter(one).count() == 3
    });
    fleet.redis.command(&["SREM", "backends", "s1"]);
    serves(&process, &["s2", "s3"]);
    for round in 0..6 {
        let status = ["unhealthy", "healthy"][round % 2];
        mark(&fleet.redis, "s2", status);
        let expected: &[&str] = [&["s3"] as &[&str], &["s2", "s3"]][round % 2];
        within(Duration::from_secs(5), "it is routed so", || in_service(&process) == expected);
    }
    assert_eq!(process.status()["operation"], "rm", "the drain is over: {}", process.status());
    // What is listed meanwhile comes, too, when the core has the time for it.
    let fourth = Replica::start("s4");
    list(&fleet.redis, &fourth, "healthy");
    // One that is listed again where it still drains is another one of the same name.
    list(&fleet.redis, &fleet.replicas[0], "healthy");
    drop(requests);
    serves(&process, &["s1", "s2", "s3", "s4"]);
}

#[test]
fn a_backend_that_is_the_balancer_itself_is_said_once_and_gets_no_requests() {
    let Some(fleet) = Fleet::new(1) else { return };
    list(&fleet.redis, &fleet.replicas[0], "healthy");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = fleet.command_with_backends_at("a", &free.to_string());
    command.args(["--heartbeat-interval", "100ms"]);
    let process = Balancer::spawn(command);
    serves(&process, &["s1"]);
    let (port, admin) = (free.port(), process.admin.port());
    let own = [
        ("traffic", format!("http://127.0.0.1:{port}")),
        ("written", format!("http://[::ffff:127.0.0.1]:{port}/")),
        ("named", format!("http://localhost:{port}")),
        ("admin", format!("http://127.0.0.1:{admin}")),
    ];
    for (name, url) in &own {
        let key = format!("backend:{name}");
        fleet.redis.command(&["HSET", &key, "url", url, "status", "healthy"]);
        fleet.redis.command(&["SADD", "backends", name]);
    }
    let said = |name: &str| {
        let log = process.log();
        log.matches(&format!("the backend '{name}' cannot be registered: ")).count()
    };
    for name in ["traffic", "written", "admin"] {
        eventually("it is said", || said(name) == 1);
    }
    // A name leads there only when it was looked up.
    let why = "is a port of this balancer";
    eventually("it is shown", || get(process.admin, "/api/servers/named").text().contains(why));
    // One that moves there stays where it was.
    let moved = format!("http://127.0.0.1:{port}");
    fleet.redis.command(&["HSET", "backend:s1", "url", &moved]);
    eventually("it is said", || said("s1") == 1);
    std::thread::sleep(Duration::from_millis(2_500));
    for name in ["traffic", "written", "admin", "s1"] {
        assert_eq!(said(name), 1, "{name}: {}", process.log());
    }
    assert!(process.log().contains(&format!("127.0.0.1:{admin}' {why}")), "{}", process.log());
    assert_eq!(in_service(&process), ["s1"]);
    assert_eq!(answering(&process), ["s1"]);
}

#[test]
fn a_balancer_sends_nothing_to_itself_whatever_the_supervisor_found() {
    let Some(fleet) = Fleet::new(1) else { return };
    list(&fleet.redis, &fleet.replicas[0], "healthy");
    let mut command = fleet.command_with_backends("a");
    // It passes its first check, through the balancer, and is not looked at again.
    command.args(["--role", "supervisor", "--heartbeat-interval", "60s"]);
    let supervisor = Balancer::spawn(command);
    eventually("it supervises", || leads(&supervisor));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = fleet.command_at("b", "balancer", &fleet.redis.url(), &free.to_string());
    command.args(["--policy", "round_robin"]);
    let balancer = Balancer::spawn(command);
    serves(&balancer, &["s1"]);
    fleet.redis.command(&["HSET", "backend:loop", "url", &format!("http://{free}")]);
    fleet.redis.command(&["SADD", "backends", "loop"]);
    serves(&balancer, &["loop", "s1"]);
    eventually("it is said", || balancer.logged("'loop' at").is_some());
    let requests = || metric(&balancer, "ringmaster_requests_total").unwrap();
    let before = requests();
    assert_eq!(answering(&balancer), ["s1"]);
    // As many as there are clients' requests: none has come back.
    assert_eq!(requests() - before, 12.0);
    assert_eq!(balancer.log().matches("'loop' at").count(), 1, "{}", balancer.log());
}
