//! The reasons of failures: endings, last lines, heartbeats, upstreams.

use std::net::TcpListener;

use super::*;
use crate::harness::ask;

fn replica_of(balancer: &Balancer, index: usize) -> Value {
    balancer.status()["replicas"][index].clone()
}

#[test]
fn the_last_lines_of_a_dead_replica_are_kept_and_shown() {
    let home = Home::new();
    // Without the lines of the companion server.
    let greeting = r#"printf 'hello from \033[31m%s\033[0m\n' "$SERVER_ID"; exec >&- 2>&-"#;
    let script = home.command(greeting);
    let balancer = home.start_full(2, &["--command", &script]);
    let url = balancer.url();
    let logs = |name: &str| home.ringmaster(&["logs", name, "--url", &url]);

    let run = logs("server_1");
    assert_eq!(run.out, "--- server_1 (incarnation 1), admitted\nhello from server_1\n", "{run:?}");
    assert_eq!(replica_of(&balancer, 0)["last_ending"], Value::Null);

    balancer.child("server_1").kill();
    eventually("its last words are kept", || {
        let ending = replica_of(&balancer, 0)["last_ending"].clone();
        ending["lines"] == json!(["hello from server_1"])
    });
    let replica = replica_of(&balancer, 0);
    let ending = &replica["last_ending"];
    assert_eq!(ending["exit_code"], 137, "{replica}");
    assert_eq!(ending["signal"], "SIGKILL", "{replica}");
    assert_eq!(ending["out_of_memory"], false, "{replica}");
    assert_eq!(replica["failures"], 1, "{replica}");
    assert_eq!(replica["last_error"]["message"], "it ended: exit code 137 (SIGKILL)", "{replica}");
    let now_us = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
    let age_us = now_us - ending["time_us"].as_u64().unwrap();
    assert!(age_us < 60_000_000, "{age_us}");

    // By its former name, and before the lines of its successor.
    let former = logs("server_1").out;
    assert!(former.starts_with("--- server_1 (incarnation 1) ended at "), "{former}");
    assert!(former.ends_with(", exit code 137 (SIGKILL)\nhello from server_1\n"), "{former}");
    let successor = balancer.wait_for(2)[0].clone();
    let both = logs(&successor).out;
    assert!(both.starts_with(&former), "{both}");
    let live = format!("--- {successor} (incarnation 2), admitted\nhello from {successor}\n");
    assert!(both.ends_with(&live), "{both}");
    let status = home.ringmaster(&["status", "--url", &url]).out;
    assert!(status.contains("exit code 137 (SIGKILL)\n    hello from server_1\n"), "{status}");

    let decisions = get(balancer.admin, "/api/decisions").json();
    let last_words =
        decisions.as_array().unwrap().iter().find(|entry| entry["event"] == "last_words");
    let last_words = last_words.unwrap_or_else(|| panic!("{decisions}"));
    assert_eq!(last_words["detail"], "exit code 137 (SIGKILL): hello from server_1");
    assert_eq!(last_words["replica"], "server_1");
}

#[test]
fn logs_of_unknown_names_are_refused_with_a_sentence() {
    let home = Home::new();
    let balancer = home.start_full(1, &[]);
    let unknown = get(balancer.admin, "/api/logs/S9");
    assert_eq!(unknown.status, 404);
    let message = unknown.json()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("<Error> 'S9' is not a replica"), "{message}");
    let run = home.ringmaster(&["logs", "S9", "--url", &balancer.url()]);
    assert!(run.code == 1 && run.err.starts_with("error: 'S9' is not a replica"), "{run:?}");
    for query in ["lines=0", "lines=1001", "lines=x", "lines=-1", "line=5"] {
        let answer = get(balancer.admin, &format!("/api/logs/server_1?{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        assert!(answer.text().contains("<Error> "), "{query}: {}", answer.text());
    }
    let one = get(balancer.admin, "/api/logs/server_1?lines=1").json();
    assert!(one["instance"]["lines"].as_array().unwrap().len() <= 1, "{one}");
    assert_eq!(ask(balancer.admin, "POST", "/api/logs/server_1", "").status, 405);
    // Only on the admin port: on the traffic port the path belongs to the replica.
    let proxied = get(balancer.traffic, "/api/logs/server_1");
    assert!(!proxied.text().contains("\"endings\""), "{}", proxied.text());
}

#[test]
fn a_failed_addition_reports_the_response_of_the_new_replica() {
    let home = Home::new();
    let arguments = ["--replicas", "0", "--heartbeat-path", "/nowhere", "--start-deadline", "2s"];
    let balancer = home.start(&arguments);
    let admin = balancer.admin;
    let adding = std::thread::spawn({
        let traffic = balancer.traffic;
        move || ask(traffic, "POST", "/add", r#"{"n":1,"hostnames":["S5"]}"#)
    });
    eventually("the status shows what it answers", || {
        let status = get(admin, "/api/status").json();
        status["joining"][0]["last_probe"] == "404 to GET /nowhere"
    });
    let answer = adding.join().unwrap();
    assert_eq!(answer.status, 503);
    let expected = "<Error> replica 'S5' did not pass its heartbeat within 2s: 404 to GET /nowhere";
    assert_eq!(answer.json()["message"], expected);
}

#[test]
fn unreachable_upstreams_are_reported_at_once_and_only_once() {
    let home = Home::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let lives = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstreams = [
        "S1=nowhere.invalid:80".to_owned(),
        format!("S2={silent}"),
        format!("S3={}", lives.local_addr().unwrap()),
    ];
    let mut arguments = vec!["--driver", "static", "--heartbeat-path", ""];
    for upstream in &upstreams {
        arguments.extend(["--upstream", upstream]);
    }
    let balancer = home.start(&arguments);
    let reason = |index: usize| {
        let last = &replica_of(&balancer, index)["instances"][0]["last_probe"];
        last.as_str().unwrap_or_default().to_owned()
    };
    eventually("both say why", || {
        reason(0).starts_with("'nowhere.invalid' cannot be resolved")
            && reason(1).starts_with(&format!("no connection to {silent}: Connection refused"))
    });
    assert_eq!(reason(2), "");
    assert_eq!(balancer.rep(), ["S3"]);
    // Heartbeats continue, as the living server shows, without another message.
    for _ in 0..8 {
        lives.accept().unwrap();
    }
    let log = balancer.log();
    let said = |name: &str| {
        let lines = log.lines().filter(|line| line.contains("not_ready") && line.contains(name));
        lines.count()
    };
    assert_eq!([said("S1"), said("S2"), said("S3")], [1, 1, 0], "{log}");
}
