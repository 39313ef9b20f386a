//! The consistent-hash balancer: servers are registered, weighed, routed to and removed by its API.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    harness::{Balancer, Home, ask, eventually, get, try_ask},
    seeds::support::{Companion, error, free_address, register, registration, server},
};

const ARGUMENTS: [&str; 4] = ["--replicas", "0", "--heartbeat-path", "/health"];

fn names(balancer: &Balancer) -> Vec<String> {
    let list = get(balancer.admin, "/api/servers").json();
    let servers = list["servers"].as_array().unwrap();
    servers.iter().map(|server| server["name"].as_str().unwrap().to_owned()).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_server_is_added_listed_weighed_and_removed() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let companion = Companion::start("server3");
    let (host, port) = (companion.address.ip().to_string(), companion.address.port());
    let body = companion.registration("server3", 1);
    let headers = [("Content-Type", "application/json")];
    let added = try_ask(balancer.admin, "POST", "/api/servers", &headers, &body).unwrap();
    assert_eq!(added.status, 201, "{}", added.text());
    let answer = added.json();
    assert_eq!(answer["message"], "Server server3 added successfully");
    let expected = json!({
        "name": "server3", "address": host, "port": port, "weight": 1, "healthy": true,
        "url": format!("http://{host}:{port}"), "registered": true, "drained": false,
        "request_count": 0, "error_count": 0, "average_response_time": 0.0, "error_rate": 0.0,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&answer["server"][key], value, "{key}: {answer}");
    }
    let shown = server(&balancer, "server3");
    assert_eq!(keys(&shown), keys(&answer["server"]));
    let check = &shown["health_check"];
    assert!(check["last_check"].as_f64().unwrap() > 1.7e9, "{shown}");
    assert!(check["response_time"].as_f64().unwrap() > 0.0, "{shown}");
    assert!(check["healthy_count"].as_u64().unwrap() > 0, "{shown}");
    assert_eq!(check["unhealthy_count"], 0);
    let list = get(balancer.admin, "/api/servers").json();
    assert_eq!((&list["total_count"], &list["healthy_count"]), (&json!(1), &json!(1)));
    assert!(list["timestamp"].as_f64().unwrap() > 1.7e9, "{list}");
    assert_eq!(list["servers"][0]["name"], "server3");

    let weight = ask(balancer.admin, "PUT", "/api/servers/server3/weight", r#"{"weight":2}"#);
    let updated = |fields: Value| json!({ "message": "Server server3 updated successfully", "updated_fields": fields });
    assert_eq!((weight.status, weight.json()), (200, updated(json!(["weight"]))));
    assert_eq!(server(&balancer, "server3")["weight"], 2);
    let other = Companion::start("other");
    let body = json!({ "port": other.address.port(), "weight": 3 }).to_string();
    let moved = ask(balancer.admin, "PUT", "/api/servers/server3", &body);
    assert_eq!((moved.status, moved.json()), (200, updated(json!(["port", "weight"]))));
    eventually("it is where it was moved to", || {
        let home = get(balancer.traffic, "/home").text().to_owned();
        home.contains("Hello from Server: other")
    });

    let removed = ask(balancer.admin, "DELETE", "/api/servers/server3", "");
    let message = json!({ "message": "Server server3 removed successfully" });
    assert_eq!((removed.status, removed.json()), (200, message));
    let again = ask(balancer.admin, "DELETE", "/api/servers/server3", "");
    assert_eq!(error(&again, 404), "Server server3 not found");
    assert_eq!(names(&balancer), [""; 0]);
    // What others keep is never stopped.
    assert_eq!(get(companion.address, "/home").status, 200);
    assert_eq!(get(balancer.traffic, "/home").status, 503);
}

#[test]
fn health_says_whether_any_server_is_well() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    eventually("it is booted", || balancer.status()["booted"] == true);
    let none = get(balancer.admin, "/api/health");
    let said = none.json();
    assert_eq!((none.status, &said["status"]), (503, &json!("unhealthy")));
    assert_eq!((&said["healthy_servers"], &said["total_servers"]), (&json!(0), &json!(0)));
    let servers = register(&balancer, 2);
    let both = get(balancer.admin, "/api/health");
    let said = both.json();
    assert_eq!((both.status, &said["status"]), (200, &json!("healthy")), "{said}");
    assert_eq!((&said["healthy_servers"], &said["total_servers"]), (&json!(2), &json!(2)));
    assert!(said["timestamp"].is_f64(), "{said}");
    for server in &servers {
        get(server.address, "/toggle-health");
    }
    eventually("none is healthy", || get(balancer.admin, "/api/health").status == 503);
    get(servers[1].address, "/toggle-health");
    eventually("one is", || get(balancer.admin, "/api/health").json()["healthy_servers"] == 1);
}

#[test]
fn a_verdict_waits_for_no_addition_that_is_under_way() {
    let home = Home::new();
    // It starts when the test says so, which is before the deadline of the addition.
    let go = home.path("go");
    let slow = format!(
        "if [ \"$SERVER_ID\" = slow ]; then while [ ! -e {} ]; do sleep 0.05; done; fi",
        go.display()
    );
    let interval = ["--heartbeat-interval", "5s"];
    let command = home.command(&slow);
    let balancer = home.start_full(2, &[&interval[..], &["--command", &command]].concat());
    let traffic = balancer.traffic;
    let body = r#"{"n":1,"hostnames":["slow"]}"#;
    let addition = std::thread::spawn(move || ask(traffic, "POST", "/add", body));
    eventually("the newcomer is started", || {
        balancer.children().iter().any(|child| child.name == "slow")
    });
    // By the heartbeat it would be back only seconds later.
    for (is_healthy, expected) in [(false, 1), (true, 2)] {
        let verdict = format!(r#"{{"healthy":{is_healthy}}}"#);
        let marked = ask(balancer.admin, "PUT", "/api/servers/server_1/health", &verdict);
        assert_eq!(marked.status, 200, "{}", marked.text());
        assert_eq!(balancer.rep().len(), expected, "{is_healthy}");
    }
    assert!(!addition.is_finished(), "it was to be under way all the time");
    std::fs::write(go, "").unwrap();
    let added = addition.join().unwrap().message();
    assert_eq!(added["N"], 3, "{added}");
}

#[test]
fn a_server_that_cannot_be_reached_is_said_at_once() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let address = free_address();
    let added = ask(balancer.admin, "POST", "/api/servers", &registration("late", address, 1));
    let server = &added.json()["server"];
    assert_eq!((added.status, &server["healthy"]), (201, &json!(false)), "{server}");
    assert!(server["last_error"].as_str().unwrap().contains("refused"), "{server}");
    let unresolved = json!({ "name": "odd", "address": "no.such.host.invalid", "port": 80 });
    let added = ask(balancer.admin, "POST", "/api/servers", &unresolved.to_string());
    let server = &added.json()["server"];
    assert_eq!((added.status, &server["healthy"]), (201, &json!(false)), "{server}");
    assert!(server["last_error"].as_str().unwrap().contains("no.such.host.invalid"), "{server}");
    let shown = home.ringmaster(&["status", "--url", &balancer.url()]);
    assert!(shown.out.contains("(odd), registered at no.such.host.invalid:80"), "{}", shown.out);
    let _late = Companion::start_at("late", address);
    eventually("it is healthy", || {
        get(balancer.admin, "/api/servers/late").json()["healthy"] == true
    });
    assert_eq!(get(balancer.traffic, "/home").status, 200);
}

/// A request, and the refusal that it gets.
type Case<'a> = (&'a str, &'a str, &'a str, u16, &'a str);

fn all_refused(balancer: &Balancer, cases: &[Case<'_>]) {
    let before = (balancer.ring(), names(balancer));
    for (method, path, body, status, expected) in cases {
        let answer = ask(balancer.admin, method, path, body);
        assert_eq!(error(&answer, *status), *expected, "{method} {path} {body}");
    }
    assert_eq!((balancer.ring(), names(balancer)), before);
}

#[test]
fn servers_that_cannot_be_are_refused_and_change_nothing() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let servers = register(&balancer, 2);
    let free = free_address();
    let (one, other) = (registration("s0", free, 1), registration("S1", free, 1));
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(70_000));
    let text = r#"{"name":"a","address":"b","port":"c"}"#;
    let port = r#"{"name":"a","address":"b","port":70000}"#;
    let weight = r#"{"name":"a","address":"b","port":1,"weight":0}"#;
    let twin = "Server with name 'S1' already exists: 's1' is the same hostname";
    let cases = [
        ("", 400, "No JSON data provided"),
        ("{}", 400, "Missing required field: name"),
        (text, 400, "Port and weight must be integers"),
        (port, 400, "Port must be between 1 and 65535"),
        (weight, 400, "Weight must be positive"),
        (&one, 409, "Server with name 's0' already exists"),
        (&other, 409, twin),
        (&long, 413, "the body is larger than 65536 bytes"),
    ];
    for path in ["/api/servers", "/manage/servers"] {
        all_refused(&balancer, &cases.map(|(body, status, why)| ("POST", path, body, status, why)));
        let place = servers[0].registration("third", 1);
        let taken = ask(balancer.admin, "POST", path, &place);
        assert!(error(&taken, 409).contains("is the address of 's0' already"), "{}", taken.text());
    }
    assert_eq!(names(&balancer), ["s0", "s1"]);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let _servers = register(&balancer, 2);
    let absent = "Server ghost not found";
    let (weight, port) = (r#"{"weight":2}"#, r#"{"port":2}"#);
    let cases: &[Case<'_>] = &[
        ("GET", "/api/servers/ghost", "", 404, absent),
        ("DELETE", "/api/servers/ghost", "", 404, absent),
        ("DELETE", "/api/servers/-", "", 404, "Server - not found"),
        ("PUT", "/api/servers/ghost", weight, 404, absent),
        ("PUT", "/api/servers/ghost", port, 404, absent),
        ("PUT", "/api/servers/ghost/weight", weight, 404, absent),
        ("PUT", "/api/servers/ghost/health", r#"{"healthy":true}"#, 404, absent),
        ("POST", "/manage/drain/ghost", "", 404, absent),
        ("POST", "/manage/enable/ghost", "", 404, absent),
        ("PUT", "/api/servers/s0", r#"{"port":0}"#, 400, "Port must be between 1 and 65535"),
        ("PUT", "/api/servers/s0/health", r#"{"well":true}"#, 400, "'well' is not one of healthy"),
        ("POST", "/api/route", r#"{"path":"/"}"#, 400, "Missing required field: key"),
        ("GET", "/manage/nothing", "", 404, "there is no '/manage/nothing'"),
        ("GET", "/api/servers/s0/nothing", "", 404, "there is no '/api/servers/s0/nothing'"),
    ];
    all_refused(&balancer, cases);
    let reset = "'dry_run' is not a parameter; there is none here";
    let remove = "'dryrun' is not a parameter; known is dry_run";
    all_refused(
        &balancer,
        &[
            ("POST", "/manage/reset?dry_run=true", "", 400, reset),
            ("DELETE", "/api/servers/s0?dryrun=true", "", 400, remove),
        ],
    );
    for (path, allowed) in [
        ("/api/servers", "GET, HEAD, POST"),
        ("/api/servers/s0", "GET, HEAD, DELETE, PUT"),
        ("/api/servers/s0/weight", "PUT"),
        ("/api/health", "GET, HEAD"),
        ("/api/stats", "GET, HEAD"),
        ("/api/metrics", "GET, HEAD"),
        ("/api/route", "POST"),
        ("/manage/servers", "POST"),
        ("/manage/servers/s0", "DELETE"),
        ("/manage/drain/s0", "POST"),
        ("/manage/reset", "POST"),
    ] {
        let refused = ask(balancer.admin, "PATCH", path, "");
        assert_eq!((refused.status, refused.header("allow")), (405, Some(allowed)), "{path}");
        error(&refused, 405);
    }
}

#[test]
fn replicas_of_ours_are_servers_too_but_for_their_address() {
    let home = Home::new();
    let balancer = home.start_full(2, &["--heartbeat-path", "/health"]);
    let companion = Companion::start("beside");
    let added = ask(balancer.admin, "POST", "/api/servers", &companion.registration("beside", 1));
    assert_eq!(added.status, 201, "{}", added.text());
    assert_eq!(names(&balancer), ["server_1", "server_2", "beside"]);
    let shown = server(&balancer, "server_1");
    let address = balancer.child_address("server_1");
    assert_eq!(shown["url"], format!("http://{address}"));
    assert_eq!((&shown["registered"], &shown["healthy"]), (&json!(false), &json!(true)));
    let moved = ask(balancer.admin, "PUT", "/api/servers/server_1", r#"{"port":1}"#);
    assert!(error(&moved, 400).contains("'server_1' is started by the balancer"));
    let weighed = ask(balancer.admin, "PUT", "/api/servers/server_1", r#"{"weight":2}"#);
    assert_eq!(weighed.status, 200, "{}", weighed.text());
    let removed = ask(balancer.admin, "DELETE", "/api/servers/server_1", "");
    assert_eq!(removed.status, 200, "{}", removed.text());
    assert_eq!(names(&balancer), ["server_2", "beside"]);
    assert_eq!(balancer.children().len(), 1);
}

#[test]
fn a_dry_run_says_what_would_move_and_moves_nothing() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let _servers = register(&balancer, 3);
    let ring = balancer.ring();
    let body = registration("s3", free_address(), 1);
    let tried = ask(balancer.admin, "POST", "/api/servers?dry_run=true", &body);
    let share = tried.message()["moved_share"].as_f64().unwrap();
    assert!((0.2..0.3).contains(&share), "{share}");
    let tried = ask(balancer.admin, "DELETE", "/api/servers/s1?dry_run=true", "").message();
    assert_eq!(tried["after"]["replicas"].as_array().unwrap().len(), 2);
    assert_eq!((balancer.ring(), names(&balancer).len()), (ring, 3));
}

#[test]
fn requests_are_routed_by_their_key() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let _servers = register(&balancer, 3);
    let mut owners = BTreeMap::<String, usize>::new();
    for number in 0..60 {
        let key = format!("user{number}");
        let body = json!({ "key": key, "path": "/home" }).to_string();
        let routed = ask(balancer.admin, "POST", "/api/route", &body);
        assert_eq!(routed.status, 200, "{}", routed.text());
        assert_eq!(routed.header("content-type"), Some("application/json"));
        let found = get(balancer.admin, &format!("/api/lookup/{key}")).json();
        let owner = found["selected_server"]["name"].as_str().unwrap();
        let said = format!("Hello from Server: {owner}");
        assert_eq!(routed.json()["message"], said, "{found}");
        // The same key of an ordinary request goes there, too.
        let ordinary = get(balancer.traffic, &format!("/home?id={key}"));
        assert_eq!(ordinary.json()["message"], said);
        *owners.entry(owner.to_owned()).or_default() += 1;
        let candidates = found["candidate_servers"].as_array().unwrap();
        assert_eq!((candidates.len(), &candidates[0]["name"]), (3, &json!(owner)), "{found}");
    }
    assert_eq!(owners.len(), 3, "{owners:?}");
    // What the server says of a path is what is answered.
    let body = json!({ "key": "user123", "path": "/api/data?x=1" }).to_string();
    let routed = ask(balancer.admin, "POST", "/api/route", &body);
    assert_eq!(routed.status, 404);
    assert!(routed.text().contains("'/api/data' endpoint does not exist"), "{}", routed.text());
    let stats = get(balancer.admin, "/api/stats").json();
    assert_eq!(stats["total_requests"], 121, "{stats}");
}

#[test]
fn servers_are_reached_on_the_command_line() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let companion = Companion::start("mine");
    let (url, place) = (balancer.url(), companion.address.to_string());
    let ran = |arguments: &[&str]| {
        let run = home.ringmaster(&[&["servers"], arguments, &["--url", &url]].concat());
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{arguments:?} {run:?}");
        run.out
    };
    assert_eq!(ran(&["add", "mine", &place, "--weight", "2"]), "Server mine added successfully\n");
    let list = ran(&[]);
    assert!(list.starts_with("1 of 1 healthy\n"), "{list}");
    assert!(list.contains(&place) && list.contains("weight 2") && list.contains("healthy"));
    let dead = free_address().to_string();
    let added = ran(&["add", "dead", &dead]);
    assert!(added.contains("it gets no requests yet: "), "{added}");
    assert_eq!(ran(&["drain", "mine"]), "Server mine is now draining\n");
    let status = home.ringmaster(&["status", "--url", &url]).out;
    assert!(status.contains(&format!("(mine), registered at {place}, drained")), "{status}");
    assert_eq!(ran(&["enable", "mine"]), "Server mine is now enabled\n");
    let tried = ran(&["rm", "dead", "--dry-run"]);
    assert!(tried.contains("of all keys would move"), "{tried}");
    assert_eq!(ran(&["rm", "dead"]), "Server dead removed successfully\n");
    let listed: Value = serde_json::from_str(&ran(&["--json"])).unwrap();
    assert_eq!(listed["total_count"], 1, "{listed}");
    for (arguments, code, expected) in [
        (["add", "mine", &place].as_slice(), 1, "Server with name 'mine' already exists"),
        (&["add", "other", "nowhere"], 2, "HOST:PORT"),
        (&["rm", "ghost"], 1, "Server ghost not found"),
        (&["drain", "ghost"], 1, "Server ghost not found"),
    ] {
        let run = home.ringmaster(&[&["servers"], arguments, &["--url", &url]].concat());
        assert_eq!((run.code, run.err.lines().count()), (code, 1), "{run:?}");
        assert!(run.err.contains(expected), "{run:?}");
    }
}

#[test]
fn the_api_is_guarded_like_the_others() {
    let home = Home::new();
    let mut command = home.serve(&ARGUMENTS);
    command.env("RINGMASTER_ADMIN_TOKEN", "secret");
    let balancer = Balancer::spawn(command);
    let body = registration("a", free_address(), 1);
    let changes = [
        ("POST", "/api/servers", body.as_str()),
        ("DELETE", "/api/servers/a", ""),
        ("POST", "/manage/reset", ""),
        ("POST", "/manage/drain/a", ""),
        ("POST", "/node/add?address=http://127.0.0.1:1", ""),
    ];
    let token = ("Authorization", "Bearer secret");
    for (method, path, body) in changes {
        let refused = ask(balancer.admin, method, path, body);
        assert_eq!(refused.status, 401, "{method} {path}");
        assert!(refused.header("www-authenticate").is_some());
        // A page of another site does not have its way, even with a token.
        let headers = [token, ("Origin", "http://evil.example")];
        let refused = try_ask(balancer.admin, method, path, &headers, body).unwrap();
        assert_eq!(refused.status, 403, "{method} {path}: {}", refused.text());
    }
    assert_eq!(get(balancer.admin, "/api/servers").status, 401);
    let open = try_ask(balancer.admin, "GET", "/api/servers", &[token], "").unwrap();
    assert_eq!((open.status, &open.json()["total_count"]), (200, &json!(0)));
}
