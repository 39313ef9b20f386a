//! The access log: what its lines say, and when they are written.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crate::support::{Proxy, Replica, eventually, refusing};
use ringmaster_proxy::{AccessLogSettings, LogFormat, ProxyConfig};
use serde_json::{Value, json};

/// A file that is removed at the end.
pub(crate) struct LogFile(pub(crate) PathBuf);

impl LogFile {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("ringmaster-access-{}-{number}.log", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn wait_for(&self, count: usize) -> Vec<String> {
        eventually("the lines are written", || self.lines().len() >= count);
        let lines = self.lines();
        assert_eq!(lines.len(), count, "{lines:?}");
        lines
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn logging(file: &LogFile, format: LogFormat, sample: f64, addresses: &[SocketAddr]) -> Proxy {
    let settings = AccessLogSettings { format, file: Some(file.0.clone()), sample };
    let change = |config: &mut ProxyConfig| config.access_log = Some(settings);
    Proxy::with(addresses, change, axum::Router::new())
}

#[test]
fn a_line_says_who_asked_for_what_and_who_answered() {
    let (file, replica) = (LogFile::new(), Replica::echo("b"));
    let proxy = logging(&file, LogFormat::Json, 1.0, &[refusing(), replica.address]);
    let mut client = proxy.client();
    let target = format!("/a?{}&q=\"x\"", proxy.query_of(1)).replace('"', "%22");
    assert_eq!(client.get(&target).status(), 200);
    assert_eq!(client.get(&format!("/r?{}", proxy.query_of(0))).status(), 200);
    client.send("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n");
    assert_eq!(client.reply().status(), 400);
    let lines: Vec<Value> =
        file.wait_for(3).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &lines[0];
    for (key, expected) in [
        ("client", json!("127.0.0.1")),
        ("method", json!("GET")),
        ("target", json!(target)),
        ("version", json!("HTTP/1.1")),
        ("status", json!(200)),
        ("bytes", json!(format!("b {target}").len())),
        ("replica", json!("server_2")),
        ("attempts", json!(1)),
        ("why", json!("ring")),
        ("complete", json!(true)),
    ] {
        assert_eq!(first[key], expected, "{key}: {first}");
    }
    assert!(first["seconds"].as_f64() >= first["upstream_seconds"].as_f64(), "{first}");
    assert!(first["time"].as_str().unwrap().ends_with('Z'), "{first}");
    assert_eq!((&lines[1]["attempts"], &lines[1]["why"]), (&json!(2), &json!("retry")));
    assert_eq!((&lines[2]["status"], &lines[2]["replica"]), (&json!(400), &Value::Null));
}

#[test]
fn the_common_format_is_what_its_readers_expect() {
    let (file, replica) = (LogFile::new(), Replica::echo("a"));
    let proxy = logging(&file, LogFormat::Common, 1.0, &[replica.address]);
    proxy.get("/x?y=1");
    let line = file.wait_for(1).remove(0);
    let (head, rest) = line.split_once(" [").unwrap();
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!((head, rest), ("127.0.0.1 - -", "\"GET /x?y=1 HTTP/1.1\" 200 8"));
    assert!(time.ends_with(" +0000") && time.len() == 26, "{time}");
}

#[test]
fn an_answer_is_logged_when_it_has_ended_or_broken_off() {
    let file = LogFile::new();
    let replica = Replica::start(|mut conversation, _| {
        while let Some(request) = conversation.message() {
            conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
            if request.target() == "/broken" {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
            conversation.send("cd");
        }
    });
    let proxy = logging(&file, LogFormat::Json, 1.0, &[replica.address]);
    let mut client = proxy.client();
    client.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.0.head().unwrap();
    assert!(file.lines().is_empty(), "it has not ended");
    assert_eq!(client.0.body(head, false).unwrap().text(), "abcd");
    let slow: Value = serde_json::from_str(&file.wait_for(1)[0]).unwrap();
    assert_eq!((&slow["bytes"], &slow["complete"]), (&json!(4), &json!(true)));
    assert!(slow["seconds"].as_f64().unwrap() > slow["upstream_seconds"].as_f64().unwrap() + 0.05);
    client.send("GET /broken HTTP/1.1\r\nHost: h\r\n\r\n");
    let broken: Value = serde_json::from_str(&file.wait_for(2)[1]).unwrap();
    assert_eq!((&broken["bytes"], &broken["complete"]), (&json!(2), &json!(false)));
}

#[test]
fn a_sample_is_a_part_and_a_shutdown_loses_no_line() {
    let (file, replica) = (LogFile::new(), Replica::echo("a"));
    let mut proxy = logging(&file, LogFormat::Json, 0.5, &[replica.address]);
    let mut client = proxy.client();
    for number in 0..400 {
        client.get(&format!("/{number}"));
    }
    drop(client);
    proxy.shutdown(Duration::from_secs(5));
    let logged = file.lines().len();
    assert!((120..280).contains(&logged), "{logged} of 400");
    assert_eq!(proxy.workers.metrics().log_dropped, 0);
}

#[test]
fn a_log_on_a_full_disk_drops_its_lines_and_resumes() {
    let (file, replica) = (LogFile::new(), Replica::echo("a"));
    std::os::unix::fs::symlink("/dev/full", &file.0).unwrap();
    let mut proxy = logging(&file, LogFormat::Json, 1.0, &[replica.address]);
    let mut client = proxy.client();
    for number in 1..=50 {
        assert_eq!(client.get(&format!("/full/{number}")).status(), 200);
    }
    eventually("the lines are counted", || proxy.workers.metrics().log_dropped == 50);
    std::fs::remove_file(&file.0).unwrap();
    proxy.workers.reopen_logs();
    assert_eq!(client.get("/room").status(), 200);
    let line = file.wait_for(1).remove(0);
    assert!(line.contains("/room"), "{line}");
    drop(client);
    proxy.shutdown(Duration::from_secs(5));
    assert_eq!(proxy.workers.metrics().log_dropped, 50);
}

#[test]
fn a_log_that_was_moved_away_is_opened_anew() {
    let (file, replica) = (LogFile::new(), Replica::echo("a"));
    let proxy = logging(&file, LogFormat::Common, 1.0, &[replica.address]);
    let mut client = proxy.client();
    client.get("/one");
    file.wait_for(1);
    let moved = LogFile(file.0.with_extension("log.1"));
    std::fs::rename(&file.0, &moved.0).unwrap();
    client.get("/two");
    assert!(moved.wait_for(2)[1].contains("/two"), "it goes on in the file that it has");
    proxy.workers.reopen_logs();
    client.get("/three");
    assert!(file.wait_for(1)[0].contains("/three"));
    // A folder is no file: the log stays where it is, and says nothing to the traffic.
    let again = LogFile(file.0.with_extension("log.2"));
    std::fs::rename(&file.0, &again.0).unwrap();
    std::fs::create_dir(&file.0).unwrap();
    proxy.workers.reopen_logs();
    client.get("/four");
    assert!(again.wait_for(2)[1].contains("/four"));
    std::fs::remove_dir(&file.0).unwrap();
    eventually("it is tried again", || {
        client.get("/five");
        !file.lines().is_empty()
    });
    assert_eq!(proxy.workers.metrics().log_dropped, 0);
}

#[test]
fn a_log_that_hangs_holds_nobody_up() {
    let (file, replica) = (LogFile::new(), Replica::echo("a"));
    let made = std::process::Command::new("mkfifo").arg(&file.0).status().unwrap();
    assert!(made.success());
    // Opened for both, since a pipe cannot be opened for writing without a reader.
    let both = std::fs::File::options().read(true).write(true).open(&file.0).unwrap();
    let proxy = logging(&file, LogFormat::Json, 1.0, &[replica.address]);
    let mut client = proxy.client();
    // The pipe takes 64 KiB, the queue 8,192 lines.
    let target = format!("/{}", "x".repeat(60));
    let mut asked = 0;
    while proxy.workers.metrics().log_dropped == 0 {
        assert_eq!(client.get(&target).status(), 200);
        asked += 1;
        assert!(asked < 20_000, "nothing is ever dropped");
    }
    let mut pipe = std::io::BufReader::new(both);
    let mut line = String::new();
    for _ in 0..5_000 {
        line.clear();
        std::io::BufRead::read_line(&mut pipe, &mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["target"], target);
    }
}

#[test]
fn a_log_that_cannot_be_opened_is_a_reason_not_to_start() {
    let settings = AccessLogSettings {
        format: LogFormat::Json,
        file: Some("/nowhere/at/all.log".into()),
        sample: 1.0,
    };
    let config = ProxyConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        access_log: Some(settings),
        ..ProxyConfig::default()
    };
    let routes = ringmaster_proxy::Routes::new(crate::support::table(&[], &[]));
    let (failures, _reports) = tokio::sync::mpsc::channel(1);
    let started = ringmaster_proxy::Workers::start(config, routes, failures, axum::Router::new());
    let error = started.unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all.log"), "{error}");
}
