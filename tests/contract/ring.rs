//! The API of the ring: its description, the lookup of a key, and changes while it runs.

use crate::harness::{Balancer, Home, ask, eventually, get};
use serde_json::{Value, json};

/// The replica that responds to a key.
fn who(balancer: &Balancer, key: &str) -> String {
    let answer = get(balancer.traffic, &format!("/home?id={key}"));
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    message.strip_prefix("Hello from Server: ").unwrap().to_owned()
}

fn owners(balancer: &Balancer) -> Vec<String> {
    (0..200).map(|key| who(balancer, &key.to_string())).collect()
}

/// The part of the keys that have moved.
fn moved(before: &[String], after: &[String]) -> f64 {
    let moved = before.iter().zip(after).filter(|(before, after)| before != after).count();
    moved as f64 / before.len() as f64
}

fn put(balancer: &Balancer, path: &str, body: &Value) -> crate::harness::Response {
    ask(balancer.admin, "PUT", path, &body.to_string())
}

#[test]
fn a_ring_is_described_completely() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    let ring = balancer.ring();
    for (key, expected) in [
        ("algorithm", json!("ring")),
        ("slots", json!(512)),
        ("virtual_servers", json!(9)),
        ("placement", json!("even")),
        ("collision", json!("linear")),
        ("hash", json!("xxh3")),
        ("displaced", json!(0)),
    ] {
        assert_eq!(ring[key], expected, "{key}");
    }
    assert!(ring["peak_to_average"].as_f64().unwrap() < 1.04, "{ring}");
    assert!(ring["standard_deviation"].as_f64().unwrap() < 0.03, "{ring}");
    let replicas = ring["replicas"].as_array().unwrap();
    let shares: f64 = replicas.iter().map(|replica| replica["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9);
    assert!(replicas.iter().all(|replica| replica["slots"].as_array().unwrap().len() == 9));
}

#[test]
fn a_lookup_shows_the_owner_of_a_key_and_its_successors() {
    let home = Home::new();
    let balancer = home.start_full(4, &[]);
    for key in ["0", "user%2Fone%20two", "%C3%A9"] {
        let found = get(balancer.admin, &format!("/api/lookup/{key}")).json();
        let candidates = found["candidate_servers"].as_array().unwrap().clone();
        assert_eq!(candidates.len(), 4, "{found}");
        assert_eq!(found["selected_server"], candidates[0], "{found}");
        assert_eq!(found["owner"], candidates[0]["name"]);
        assert_eq!(found["selected_server"]["name"], who(&balancer, key), "{key}");
    }
    let found = get(balancer.admin, "/api/lookup/user%2Fone").json();
    assert_eq!((&found["key"], &found["hash"]), (&json!("user/one"), &json!("xxh3")));
    assert!(found["slot"].as_u64().unwrap() < 512 && found["hash_value"].is_u64(), "{found}");
    let refused = ask(balancer.admin, "POST", "/api/lookup/a1", "");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(get(balancer.admin, "/api/lookup/").status, 404);
    // Only on the admin port: on the traffic port the path belongs to the replicas.
    assert_eq!(get(balancer.traffic, "/api/lookup/a1").status, 404);
}

#[test]
fn a_change_of_the_ring_matches_its_dry_run() {
    let home = Home::new();
    let balancer = home.start_full(5, &[]);
    balancer.rm(r#"{"n":1,"hostnames":["server_2"]}"#);
    let (before, ring) = (owners(&balancer), balancer.ring());
    let pids: Vec<_> = balancer.children().iter().map(|child| child.pid).collect();

    let slots = json!({ "algorithm": "slots" });
    let tried = put(&balancer, "/api/ring?dry_run=true", &slots).message();
    assert_eq!((balancer.ring(), owners(&balancer)), (ring, before.clone()));
    let done = put(&balancer, "/api/ring", &slots).message();
    assert_eq!(tried, done);
    assert_eq!(balancer.ring(), done["after"]);
    assert_eq!(done["after"]["peak_to_average"], 1.0);
    let share = done["moved_share"].as_f64().unwrap();
    assert_eq!(done["moved_share"], done["minimum_share"]);
    let seen = moved(&before, &owners(&balancer));
    assert!(share < 0.1 && (seen - share).abs() < 0.08, "said {share}, seen {seen}");
    let counted = get(balancer.admin, "/metrics");
    assert!(counted.text().contains("ringmaster_keys_moved_share_total{cause=\"ring\"} 0.0"));
    assert!(balancer.logged("ring takes effect as generation").is_some());

    for body in [
        json!({ "algorithm": "maglev" }),
        json!({ "algorithm": "rendezvous" }),
        json!({ "algorithm": "ketama" }),
        json!({ "algorithm": "jump", "hash": "murmur3" }),
        json!({ "algorithm": "ring", "placement": "polynomial" }),
        json!({ "placement": "hash", "hash": "siphash", "hash_key": "ab".repeat(16) }),
    ] {
        let done = put(&balancer, "/api/ring", &body).message();
        assert_eq!(done["after"], balancer.ring(), "{body}");
        let key = balancer.ring().to_string() + &balancer.log();
        assert!(!key.contains(&"ab".repeat(16)), "the secret is shown");
        for key in ["7", "80"] {
            let found = get(balancer.admin, &format!("/api/lookup/{key}")).json();
            assert_eq!(found["selected_server"]["name"], who(&balancer, key), "{body} {key}");
        }
    }
    let after: Vec<_> = balancer.children().iter().map(|child| child.pid).collect();
    assert_eq!(pids, after, "no replica was restarted");
}

#[test]
fn a_ring_set_at_run_time_survives_a_restart() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    put(&balancer, "/api/ring", &json!({ "algorithm": "slots", "slots": 1024 })).message();
    put(&balancer, "/api/servers/server_2/weight", &json!({ "weight": 2 }));
    let ring = balancer.ring();
    balancer.terminate();
    let balancer = home.start_full(3, &[]);
    assert_eq!(balancer.ring(), ring);
    balancer.terminate();
    // A changed setting in the configuration wins.
    let balancer = home.start_full(3, &["--hash", "md5"]);
    assert_eq!(balancer.ring()["hash"], "md5");
    assert_eq!(balancer.ring()["algorithm"], "ring");
    assert!(balancer.logged("the configured ring wins").is_some());
}

#[test]
fn an_invalid_change_is_refused_and_changes_nothing() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    let before = balancer.ring();
    for (body, expected) in [
        (r#"{"algorithm":"odd"}"#, "'odd' is not one of ring, slots, ketama"),
        (r#"{"hash":"odd"}"#, "'odd' is not one of xxh3, murmur3"),
        (r#"{"placement":"odd"}"#, "'odd' is not one of even, hash, polynomial"),
        (r#"{"collision":"odd"}"#, "'odd' is not one of linear, quadratic"),
        (r#"{"virtual_servers":513}"#, "raise `slots`"),
        (r#"{"virtual_servers":200}"#, "raise `slots`"),
        (r#"{"slots":0}"#, "1 to 65536"),
        (r#"{"slots":65537}"#, "1 to 65536"),
        (r#"{"hash":"siphash"}"#, "needs a key"),
        (r#"{"hash_key":"00"}"#, "32 hexadecimal digits"),
        (r#"{"algo":"ring"}"#, "'algo' is not one of"),
        ("{}", "at least one of"),
        ("[]", "must be a JSON object"),
        ("", "not valid JSON"),
    ] {
        for path in ["/api/ring", "/api/ring?dry_run=true"] {
            let why = ask(balancer.admin, "PUT", path, body).refusal(400);
            assert!(why.contains(expected), "{body}: {why}");
        }
    }
    ask(balancer.admin, "PUT", "/api/ring?dry_run=perhaps", "{}").refusal(400);
    ask(balancer.admin, "POST", "/api/ring", "{}").refusal(405);
    assert_eq!(balancer.ring(), before);
}

#[test]
fn a_weight_takes_keys_from_all_and_moves_no_other() {
    let home = Home::new();
    let balancer = home.start_full(4, &[]);
    let before = owners(&balancer);
    let path = "/api/servers/server_3/weight";
    let tried = put(&balancer, &format!("{path}?dry_run=true"), &json!({ "weight": 3 })).message();
    assert_eq!(owners(&balancer), before);
    let answer = put(&balancer, path, &json!({ "weight": 3 }));
    let expected = json!({
        "message": "Server server_3 updated successfully", "updated_fields": ["weight"]
    });
    assert_eq!((answer.status, answer.json()), (200, expected));
    assert_eq!(balancer.ring(), tried["after"]);
    let ring = balancer.ring();
    let share = ring["replicas"][2]["share"].as_f64().unwrap();
    assert!((share - 0.5).abs() < 0.01, "{ring}");
    let after = owners(&balancer);
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || after == "server_3", "{before} -> {after}");
    }
    for (path, body, status, error) in [
        (path, "", 400, "No JSON data provided"),
        (path, "{}", 400, "Missing required field: weight"),
        (path, r#"{"weight":"2"}"#, 400, "Weight must be an integer"),
        (path, r#"{"weight":0}"#, 400, "Weight must be positive"),
        ("/api/servers/nobody/weight", r#"{"weight":2}"#, 404, "Server nobody not found"),
    ] {
        let answer = ask(balancer.admin, "PUT", path, body);
        assert_eq!((answer.status, answer.json()), (status, json!({ "error": error })), "{body}");
    }
    let answer = put(&balancer, path, &json!({ "weight": 60 }));
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("raise `slots`"), "{}", answer.text());
    assert_eq!(owners(&balancer), after);
    // New replicas may have a weight too.
    balancer.add(r#"{"n":1,"hostnames":["heavy"],"weight":2}"#);
    assert_eq!(balancer.ring()["replicas"][4]["weight"], 2);
    let why = balancer.command("/add", r#"{"n":1,"weight":0}"#).refusal(400);
    assert!(why.contains("'weight' must be an integer of at least 1"), "{why}");
}

#[test]
fn two_balancers_with_the_same_history_have_the_same_ring() {
    let history = |home: &Home| {
        let balancer = home.start_full(3, &[]);
        balancer.add(r#"{"n":2,"hostnames":["S5","S4"]}"#);
        balancer.rm(r#"{"n":1,"hostnames":["server_1"]}"#);
        balancer.add(r#"{"n":1,"hostnames":["S6"]}"#);
        (balancer.ring()["digest"].clone(), owners(&balancer))
    };
    let (one, other) = (Home::new(), Home::new());
    assert_eq!(history(&one), history(&other));
}

#[test]
fn victims_follow_the_configured_rule() {
    let home = Home::new();
    let balancer = home.start_full(4, &["--victim", "oldest"]);
    let removed = balancer.rm(r#"{"n":2}"#);
    assert_eq!(removed["removed"], json!(["server_1", "server_2"]));
}

#[test]
fn the_command_line_draws_the_ring_and_changes_it() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    let url = balancer.url();
    let ran = |arguments: &[&str]| {
        let run = home.ringmaster(&[arguments, &["--url", &url]].concat());
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
        run.out
    };
    let shown = ran(&["ring"]);
    let rows = shown.lines().filter(|line| line.len() == 68).count();
    assert_eq!(rows, 8, "512 slots in rows of 64: {shown}");
    assert!(shown.contains("placement even") && shown.contains("peak-to-average"), "{shown}");
    let key = ran(&["ring", "--key", "user/42"]);
    assert!(key.contains("\"user/42\"") && key.contains("<- gets it"), "{key}");
    let tried = ran(&["ring", "set", "--algorithm", "slots", "--dry-run"]);
    assert!(tried.contains("would move"), "{tried}");
    let tried = ran(&["ring", "weight", "server_1", "2", "--dry-run"]);
    assert!(tried.contains("would move") && tried.contains("-> server_1"), "{tried}");
    assert_eq!(ran(&["ring"]), shown);
    assert!(ran(&["ring", "set", "--algorithm", "slots"]).contains("moved"));
    assert!(ran(&["ring", "weight", "server_1", "2"]).contains("updated successfully"));
    ran(&["add", "S5", "--weight", "2"]);
    let shown = ran(&["ring"]);
    assert!(shown.starts_with("slots, 512 slots, hash xxh3"), "{shown}");
    assert_eq!(shown.matches("weight 2").count(), 2, "{shown}");
    let run = home.ringmaster(&["ring", "set", "--algorithm", "odd", "--url", &url]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("'odd' is not one of ring, slots"), "{run:?}");
    eventually("no command is left", || balancer.status()["operation"].is_null());
}
