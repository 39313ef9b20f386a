//! Traffic through the whole program.

mod descriptors;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::harness::{Balancer, Home, Response, ask, get, try_ask};
use serde_json::json;

fn owner(answer: &Response) -> Option<String> {
    let answer = answer.json();
    Some(answer["message"].as_str()?.strip_prefix("Hello from Server: ")?.to_owned())
}

fn owner_of(balancer: &Balancer, target: &str, headers: &[(&str, &str)]) -> String {
    let answer = try_ask(balancer.traffic, "GET", target, headers, "").unwrap();
    owner(&answer).unwrap_or_else(|| panic!("{}\n{}", answer.text(), balancer.log()))
}

#[test]
fn without_a_replica_the_response_is_503_with_retry_after() {
    let home = Home::new();
    let balancer = home.start(&["--replicas", "0"]);
    for (method, target) in [("GET", "/home"), ("POST", "/set"), ("DELETE", "/x?y=1")] {
        let answer = ask(balancer.traffic, method, target, "{}");
        answer.refusal(503);
        assert!(answer.header("retry-after").is_some_and(|s| s.parse::<u32>().is_ok()));
    }
    let head = ask(balancer.traffic, "HEAD", "/home", "");
    assert_eq!((head.status, head.text()), (503, ""));
    assert_eq!(balancer.add(r#"{"n":1}"#)["N"], 1);
    assert_eq!(get(balancer.traffic, "/home").status, 200);
    assert_eq!(balancer.rm(r#"{"n":1}"#)["N"], 0);
    get(balancer.traffic, "/home").refusal(503);
}

#[test]
fn a_key_always_meets_the_same_replica() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    let mut seen = BTreeSet::new();
    for key in 0..24 {
        let key = format!("key-{key}");
        let by_query = owner_of(&balancer, &format!("/home?id={key}"), &[]);
        let cases = [
            (format!("/home?a=b&id={key}&c"), None),
            (format!("/home?id=%6Bey{}", &key[3..]), None),
            ("/home".to_owned(), Some(key.as_str())),
            // The header wins.
            ("/home?id=another".to_owned(), Some(key.as_str())),
        ];
        for (target, header) in cases {
            let headers: Vec<_> = header.iter().map(|value| ("x-request-id", *value)).collect();
            let answered = owner_of(&balancer, &target, &headers);
            assert_eq!(answered, by_query, "{target} {header:?}");
        }
        seen.insert(by_query);
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    // Without a key the replica is random.
    let by_chance: BTreeSet<String> = (0..60).map(|_| owner_of(&balancer, "/home", &[])).collect();
    assert_eq!(by_chance.len(), 3, "{by_chance:?}");
}

#[test]
fn keys_come_from_the_configured_sources() {
    let home = Home::new();
    let balancer = home.start_full(3, &["--key", "query:user,header:X-Tenant"]);
    let of = |target: &str, tenant: &str| owner_of(&balancer, target, &[("X-Tenant", tenant)]);
    for key in 0..12 {
        let by_query = of(&format!("/home?user={key}"), "other");
        assert_eq!(of(&format!("/home?id=9&user={key}"), "x"), by_query);
        assert_eq!(of("/home?id=1", &key.to_string()), by_query);
    }
}

#[test]
fn a_missing_endpoint_is_a_404_unless_asked_otherwise() {
    let home = Home::new();
    let balancer = home.start_full(1, &[]);
    assert_eq!(get(balancer.traffic, "/other").status, 404);
    let missing = get(balancer.traffic, "/get?key=nothing");
    assert_eq!((missing.status, &missing.json()["error"]), (404, &json!("Key not found")));
}

#[test]
fn not_found_as_400_names_the_path_and_keeps_what_is_about_data() {
    let home = Home::new();
    let balancer = home.start_full(2, &["--not-found-as-400"]);
    let text = |path: &str| {
        format!(
            "{{\"message\":\"<Error> '{path}' endpoint does not exist in server replicas\",\
             \"status\":\"failure\"}}"
        )
    };
    for (method, target, path) in [
        ("GET", "/other", "/other"),
        ("GET", "/other?x=1", "/other"),
        ("POST", "/other", "POST /other"),
        ("GET", "/rep/", "/rep/"),
        ("PUT", "/home", "PUT /home"),
        ("GET", "/a%20b", "/a%20b"),
    ] {
        let answer = ask(balancer.traffic, method, target, "");
        assert_eq!((answer.status, answer.text()), (400, text(path).as_str()), "{target}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    let missing = get(balancer.traffic, "/get?key=nothing");
    assert_eq!((missing.status, &missing.json()["error"]), (404, &json!("Key not found")));
    assert_eq!(missing.header("ringmaster-keep-status"), None);
    assert_eq!(get(balancer.traffic, "/home").status, 200);
}

#[test]
fn requests_and_responses_pass_completely() {
    let home = Home::new();
    let balancer = home.start_full(2, &[]);
    let body = "x".repeat(300_000);
    for key in 0..4 {
        let echo = ask(balancer.traffic, "POST", &format!("/echo?id={key}"), &body);
        assert!(echo.status == 200 && echo.body == body.as_bytes());
    }
    let stream = get(balancer.traffic, "/stream?bytes=700001");
    assert_eq!((stream.status, stream.body.len()), (200, 700_001));
    let headers = [("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https")];
    let seen = try_ask(balancer.traffic, "GET", "/headers", &headers, "").unwrap().json();
    assert_eq!(seen["headers"]["x-forwarded-for"], json!(["127.0.0.1"]), "{seen}");
    assert_eq!(seen["headers"]["x-forwarded-proto"], json!(["http"]), "{seen}");
    // A key of the store always reaches the same replica.
    for key in ["a", "b", "c"] {
        let set = format!(r#"{{"key":"{key}","value":{{"of":"{key}"}}}}"#);
        assert_eq!(ask(balancer.traffic, "POST", &format!("/set?id={key}"), &set).status, 200);
        let got = get(balancer.traffic, &format!("/get?key={key}&id={key}")).json();
        assert_eq!(got["value"]["of"], json!(key));
    }
}

/// Responds to one request per connection with keep-alive, and closes the connection a moment later.
fn forgetful_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    address
}

#[test]
fn a_pooled_connection_that_was_closed_fails_no_request() {
    let home = Home::new();
    let upstream = format!("forgetful={}", forgetful_server());
    let arguments = ["--driver", "static", "--upstream", &upstream, "--workers", "1"];
    let balancer = home.start(&arguments);
    crate::harness::eventually("it serves", || balancer.rep().len() == 1);
    for round in 0..6 {
        for (method, body) in [("GET", ""), ("POST", "{}")] {
            let began = Instant::now();
            let answer = ask(balancer.traffic, method, "/", body);
            assert_eq!((answer.status, answer.text()), (200, "ok"), "{round} {method}");
            assert!(began.elapsed() < Duration::from_secs(2), "{round} {:?}", began.elapsed());
            // Until the server has closed the connection, which only the server can observe.
            std::thread::sleep(Duration::from_millis(40));
        }
    }
    let metrics = get(balancer.admin, "/metrics");
    let stale = metrics
        .text()
        .lines()
        .find(|line| line.starts_with("ringmaster_upstream_connections_stale_total "));
    assert_ne!(
        stale,
        Some("ringmaster_upstream_connections_stale_total 0"),
        "no connection was stale"
    );
}
