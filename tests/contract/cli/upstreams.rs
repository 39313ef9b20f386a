//! Upstreams that fail, and names that resolve to the same address.

use std::{
    fs,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Upstream, free_address, one_line};
use crate::harness::{Balancer, Home, eventually, get, skip};

/// `status` for people, and its JSON; both end with the same code.
fn status(home: &Home, balancer: &Balancer) -> (i32, String, Value) {
    let url = balancer.url();
    let text = home.ringmaster(&["status", "--url", &url]);
    let json = home.ringmaster(&["status", "--url", &url, "--json"]);
    assert_eq!((text.err.as_str(), json.err.as_str()), ("", ""), "{text:?} {json:?}");
    assert_eq!(text.code, json.code, "{text:?} {json:?}");
    (text.code, text.out, serde_json::from_str(&json.out).unwrap())
}

#[test]
fn status_ends_with_3_when_degraded_and_with_4_when_no_replica_passes() {
    let home = Home::new();
    let [one, two] = [free_address(), free_address()];
    let running = Upstream::start("a", one);
    // Names of one character are valid without an engine.
    let (a, b) = (format!("a={one}"), format!("b={two}"));
    let arguments = ["--driver", "static", "--upstream", &a, "--upstream", &b];
    let balancer = home.start(&arguments);
    eventually("one is in service", || balancer.rep() == ["a"]);
    let (code, text, json) = status(&home, &balancer);
    assert!(text.starts_with("degraded: 1 of 2 replicas in service"), "{text}");
    assert_eq!((code, &json["health"], &json["passing"]), (3, &json!("degraded"), &json!(1)));

    let other = Upstream::start("b", two);
    eventually("both are", || balancer.rep() == ["a", "b"]);
    let (code, text, json) = status(&home, &balancer);
    assert!(text.starts_with("2 of 2 replicas in service"), "{text}");
    assert_eq!((code, &json["health"], &json["passing"]), (0, &json!("ok"), &json!(2)));

    // The last one is kept in the table, but does not count as passing.
    drop((running, other));
    eventually("no replica passes", || balancer.status()["health"] == "down");
    eventually("one is kept", || balancer.rep().len() == 1);
    let (code, text, json) = status(&home, &balancer);
    assert!(text.starts_with("down: 0 of 2 replicas in service"), "{text}");
    assert!(text.contains(", kept in service although failing"), "{text}");
    assert_eq!((code, &json["N"], &json["passing"]), (4, &json!(1), &json!(0)));
    let instances = json["replicas"].as_array().unwrap().iter().flat_map(|replica| {
        replica["instances"].as_array().unwrap().iter().filter(|one| one["kept"] == true)
    });
    assert_eq!(instances.count(), 1, "{json}");
}

#[test]
fn an_empty_fleet_is_healthy_and_names_of_one_character_are_hostnames() {
    let home = Home::new();
    let balancer = home.start(&["--replicas", "0"]);
    eventually("it is booted", || balancer.status()["booted"] == true);
    assert_eq!(status(&home, &balancer).0, 0);
    assert_eq!(balancer.add(r#"{"n":1,"hostnames":["a"]}"#)["replicas"], json!(["a"]));
    let why = balancer.command("/add", r#"{"n":1,"hostnames":["A"]}"#).refusal(400);
    assert_eq!(why, "replica 'A' already exists: 'a' is the same hostname");
    assert_eq!(balancer.rm(r#"{"n":1,"hostnames":["a"]}"#)["removed"], json!(["a"]));
    // An unreachable balancer is not a fleet that is down.
    let absent = format!("http://{}", free_address());
    one_line(&home.ringmaster(&["status", "--url", &absent]), 1, &absent);
}

/// `serve` with the host names of a file, which may change while it runs.
fn with_hosts(home: &Home, hosts: &str, arguments: &[&str]) -> Option<Command> {
    let file = home.write("hosts", hosts);
    let mount = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", mount]).arg(file);
    let mut tried = Command::new("unshare");
    tried.args(["--mount", "sh", "-c", mount]).args([home.path("hosts").to_str()?, "true"]);
    if !tried.status().is_ok_and(|status| status.success()) {
        skip("/etc/hosts cannot be mounted over here");
        return None;
    }
    let serve = home.serve(arguments);
    command.arg(serve.get_program()).args(serve.get_args());
    for (key, value) in serve.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    Some(command)
}

#[test]
fn names_that_resolve_to_one_address_do_not_alternate() {
    let home = Home::new();
    let port = free_address().port();
    let _all = Upstream::start("both", SocketAddr::from(([0, 0, 0, 0], port)));
    let apart = "127.0.0.2 one.test\n127.0.0.3 two.test\n";
    let together = "127.0.0.2 one.test\n127.0.0.2 two.test\n";
    let upstreams = [format!("one=one.test:{port}"), format!("two=two.test:{port}")];
    let arguments =
        ["--driver", "static", "--upstream", &upstreams[0], "--upstream", &upstreams[1]];
    let Some(command) = with_hosts(&home, apart, &arguments) else { return };
    let balancer = Balancer::spawn(command);
    eventually("both serve", || balancer.rep() == ["one", "two"]);

    home.write("hosts", together);
    eventually("the first keeps it", || balancer.rep() == ["one"]);
    let instance = &balancer.status()["replicas"][1]["instances"][0];
    assert_eq!(
        (&instance["phase"], &instance["reason"]),
        (&json!("ejected"), &json!("address_taken"))
    );
    let decisions = || get(balancer.admin, "/api/decisions").json().as_array().unwrap().clone();
    let before = decisions();
    let taken = before.iter().filter(|one| one["event"] == "address_taken").count();
    assert_eq!(taken, 1, "{before:?}");
    // Waits for two lists: the address must not move from one name to the other with each of them.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(11) {
        assert_eq!(balancer.rep(), ["one"]);
        assert_eq!(decisions(), before);
        assert_eq!(get(balancer.traffic, "/home").status, 200);
        std::thread::sleep(Duration::from_millis(200));
    }
    home.write("hosts", apart);
    eventually("each has its own again", || balancer.rep() == ["one", "two"]);
    fs::remove_file(home.path("hosts")).unwrap();
}
