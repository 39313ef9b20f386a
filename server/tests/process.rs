//! The real process, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

fn command(env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmaster-server"));
    command.env_clear().env("HOST", "127.0.0.1").env("PORT", "0").envs(env.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// One running server; killed when the test ends, however it ends.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(env: &[(&str, &str)]) -> Server {
        Server::spawn(command(env))
    }

    fn spawn(mut command: Command) -> Server {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").unwrap().parse().unwrap();
        Server { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn ask(&self, method: &str, target: &str, body: &str) -> Answer {
        let mut stream = self.connect();
        write!(
            stream,
            "{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        Answer::read_to_end(&mut stream)
    }

    fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server did not end within {PATIENCE:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read_to_end(stream: &mut TcpStream) -> Answer {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Answer::parse(&text)
    }

    fn parse(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        assert!(self.head.contains("content-type: application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

#[test]
fn home_and_heartbeat() {
    let server = Server::start(&[("SERVER_ID", "server_1")]);
    let home = server.ask("GET", "/home", "");
    assert_eq!(home.status, 200);
    assert_eq!(home.body, r#"{"message":"Hello from Server: server_1","status":"successful"}"#);
    assert!(home.head.contains("content-type: application/json"));
    let head = server.ask("HEAD", "/home", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let heartbeat = server.ask("GET", "/heartbeat", "");
    assert_eq!((heartbeat.status, heartbeat.body.as_str()), (200, ""));
}

#[test]
fn health_can_be_toggled_and_the_heartbeat_does_not_follow() {
    let server = Server::start(&[]);
    let health = || {
        let answer = server.ask("GET", "/health", "");
        (answer.status, answer.body)
    };
    assert_eq!(health(), (200, r#"{"status":"healthy"}"#.to_owned()));
    let toggled = server.ask("GET", "/toggle-health", "");
    assert_eq!((toggled.status, toggled.json()), (200, json!({"status": "unhealthy"})));
    assert_eq!(health(), (503, r#"{"status":"unhealthy"}"#.to_owned()));
    assert_eq!(server.ask("GET", "/heartbeat", "").status, 200);
    assert_eq!(server.ask("GET", "/toggle-health", "").json(), json!({"status": "healthy"}));
    assert_eq!(health().0, 200);
}

#[test]
fn process_takes_the_asked_time_and_says_who_did_it() {
    let server = Server::start(&[
        ("SERVER_ID", "S5"),
        ("PROCESS_DELAY_MS", "60"),
        ("RINGMASTER_REPLICA", "4"),
        ("RINGMASTER_INCARNATION", "2"),
    ]);
    for (method, target, delay) in [
        ("GET", "/process", 60),
        ("POST", "/process", 60),
        ("GET", "/process?delay_ms=120", 120),
        ("GET", "/process?a=b&delay_ms=0", 0),
    ] {
        let start = Instant::now();
        let answer = server.ask(method, target, "an unneeded body");
        assert!(start.elapsed() >= Duration::from_millis(delay), "{target}");
        assert_eq!(
            answer.json(),
            json!({
                "message": "Processed by Server: S5", "server_id": "S5", "delay_ms": delay,
                "replica": 4, "incarnation": 2, "status": "successful",
            })
        );
    }
    for nonsense in ["-1", "ten", "1.5", "", "99999999999999999999"] {
        let answer = server.ask("GET", &format!("/process?delay_ms={nonsense}"), "");
        assert_eq!(answer.status, 400, "{nonsense}");
        let error = answer.json()["error"].to_string();
        assert!(error.contains("delay_ms must be a whole number"), "{error}");
    }
}

#[test]
fn the_store_sets_gets_and_deletes() {
    let server = Server::start(&[]);
    let value = json!({"n": 1.50, "text": "grüß", "none": null});
    let set = json!({"key": "a b/ü", "value": value}).to_string();
    let answer = server.ask("POST", "/set", &set);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({"success": true, "value": value, "message": "Key set"}));
    for (method, target, body) in [
        ("GET", "/get?key=a+b%2F%C3%BC", ""),
        ("GET", "/get", r#"{"key":"a b/ü"}"#),
        ("DELETE", "/delete", r#"{"key":"a b/ü"}"#),
    ] {
        let answer = server.ask(method, target, body);
        assert_eq!(answer.status, 200, "{method} {target}");
        assert_eq!(answer.json()["value"], value, "{method} {target}");
        assert_eq!(answer.json()["success"], json!(true));
    }
    assert_eq!(server.ask("POST", "/set", r#"{"key":"k","value":null}"#).status, 200);
    assert_eq!(server.ask("POST", "/delete", r#"{"key":"k"}"#).json()["value"], Value::Null);
}

#[test]
fn an_unknown_key_is_a_404_that_keeps_its_status() {
    let server = Server::start(&[]);
    for (method, target, body) in [("GET", "/get?key=x", ""), ("POST", "/delete", r#"{"key":"x"}"#)]
    {
        let answer = server.ask(method, target, body);
        assert_eq!(answer.status, 404);
        assert_eq!(answer.body, r#"{"success":false,"error":"Key not found"}"#);
        assert!(answer.head.contains("ringmaster-keep-status: 1"), "{answer:?}");
    }
}

#[test]
fn bad_input_of_the_store_is_a_400_with_the_reason() {
    let server = Server::start(&[]);
    let empty = r#"{"success":false,"error":"Key cannot be empty"}"#;
    let invalid = r#"{"success":false,"error":"Invalid JSON format"}"#;
    for (method, target, body, expected) in [
        ("POST", "/set", r#"{"key":"","value":1}"#, empty),
        ("POST", "/set", r#"{"value":1}"#, empty),
        ("POST", "/set", "not json", invalid),
        ("POST", "/set", "", invalid),
        ("POST", "/set", r#"{"key":7,"value":1}"#, invalid),
        ("POST", "/set", r#"{"key":"a"}"#, r#"{"success":false,"error":"Value is missing"}"#),
        ("GET", "/get", "", empty),
        ("GET", "/get?key=", "", empty),
        ("GET", "/get", "{", invalid),
        ("DELETE", "/delete", "{}", empty),
        ("POST", "/delete", "[1", invalid),
    ] {
        let answer = server.ask(method, target, body);
        assert_eq!((answer.status, answer.body.as_str()), (400, expected), "{target} {body}");
    }
}

#[test]
fn a_body_over_the_limit_is_a_413_that_arrives() {
    let server = Server::start(&[]);
    let body = "x".repeat(1024 * 1024 + 1);
    let announced = server.ask("POST", "/set", &body);
    assert_eq!(announced.status, 413);
    assert!(announced.json()["error"].as_str().unwrap().contains("1048576 bytes"));

    let mut stream = server.connect();
    let head = "POST /set HTTP/1.1\r\nHost: t\r\nConnection: close\r\n";
    write!(
        stream,
        "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    )
    .unwrap();
    assert_eq!(Answer::read_to_end(&mut stream).status, 413);

    let mut stream = server.connect();
    write!(stream, "{head}Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n").unwrap();
    assert_eq!(Answer::read_to_end(&mut stream).status, 413);
}

#[test]
fn a_full_store_is_a_507_and_still_answers() {
    let server = Server::start(&[]);
    let value = "v".repeat(1024 * 1024 - 100);
    let mut refused = None;
    for number in 0..40 {
        let body = json!({"key": format!("k{number}"), "value": value}).to_string();
        let answer = server.ask("POST", "/set", &body);
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("forty values of a mebibyte fit");
    assert_eq!(refused.status, 507);
    assert!(refused.json()["error"].as_str().unwrap().contains("full"));
    assert_eq!(server.ask("GET", "/get?key=k0", "").status, 200);
}

#[test]
fn anything_else_is_a_404_in_json() {
    let server = Server::start(&[]);
    for (method, target) in [("GET", "/"), ("GET", "/home/"), ("POST", "/home"), ("GET", "/set")] {
        let answer = server.ask(method, target, "");
        assert_eq!(answer.status, 404, "{method} {target}");
        assert_eq!(answer.json()["status"], "failure");
        assert!(!answer.head.contains("ringmaster-keep-status"));
    }
}

#[test]
fn keep_alive_answers_pipelined_requests_in_order() {
    let server = Server::start(&[("SERVER_ID", "one")]);
    let mut stream = server.connect();
    let ask = |target: &str, more: &str| format!("GET {target} HTTP/1.1\r\nHost: t\r\n{more}\r\n");
    let pipelined = [
        ask("/process?delay_ms=50", ""),
        ask("/home", ""),
        ask("/nothing", ""),
        ask("/health", "Connection: close\r\n"),
    ];
    stream.write_all(pipelined.concat().as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let statuses: Vec<&str> =
        text.split("HTTP/1.1 ").skip(1).map(|answer| answer.get(..3).unwrap()).collect();
    assert_eq!(statuses, ["200", "200", "404", "200"]);
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is not in {text}"));
    assert!(at("Processed by") < at("Hello from") && at("Hello from") < at("healthy"));
}

#[test]
fn headers_stream_and_echo_show_what_a_proxy_did() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    stream
        .write_all(
            b"GET /headers?a=1 HTTP/1.1\r\nHost: t\r\nX-Two: 1\r\nx-two: 2\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
    let seen = Answer::read_to_end(&mut stream).json();
    assert_eq!(seen["headers"]["x-two"], json!(["1", "2"]));
    assert_eq!((&seen["method"], &seen["target"]), (&json!("GET"), &json!("/headers?a=1")));

    let streamed = server.ask("GET", "/stream?bytes=100000&chunk=1000", "");
    assert!(streamed.head.contains("transfer-encoding: chunked"));
    let letters = streamed.body.lines().filter(|line| line.starts_with("abc"));
    assert_eq!(letters.map(str::len).sum::<usize>(), 100_000);
    for target in ["/stream?bytes=x", "/stream?chunk=0", "/stream?bytes=1073741825"] {
        assert_eq!(server.ask("GET", target, "").status, 400, "{target}");
    }

    let body = "0123456789".repeat(200_000);
    let mut stream = server.connect();
    let mut writer = stream.try_clone().unwrap();
    let sent = body.clone();
    // Echo applies back-pressure: a client that writes without reading would wait for ever.
    let sending = std::thread::spawn(move || {
        let head = "POST /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\n";
        write!(writer, "{head}Content-Length: {}\r\n\r\n{sent}", sent.len()).unwrap();
    });
    let echoed = Answer::read_to_end(&mut stream);
    sending.join().unwrap();
    assert!(echoed.body == body, "{} bytes came back", echoed.body.len());
}

#[test]
fn sigterm_refuses_newcomers_finishes_what_is_in_flight_and_exits_cleanly() {
    for signal in ["-TERM", "-INT"] {
        let mut server = Server::start(&[("SERVER_ID", "last")]);
        let mut idle = server.connect();
        let mut busy = server.connect();
        busy.write_all(b"GET /process?delay_ms=600 HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        // A response on another connection shows that the first request has been read as well.
        assert_eq!(server.ask("GET", "/home", "").status, 200);
        server.signal(signal);
        // The idle connection is closed at once, which shows that the signal has arrived.
        assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
        assert!(TcpStream::connect(server.address).is_err(), "it still accepts");
        let answer = Answer::read_to_end(&mut busy);
        assert_eq!((answer.status, &answer.json()["server_id"]), (200, &json!("last")));
        assert_eq!(server.wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn delays_of_a_range_are_drawn_anew_for_each_request() {
    let env = [("PROCESS_DELAY", "1ms..2ms")];
    let by_variable = Server::start(&env);
    let by_flag = |arguments: &[&str]| {
        let mut command = command(&env);
        command.args(arguments);
        Server::spawn(command)
    };
    let flags = [by_flag(&["--delay", "5ms..40ms"]), by_flag(&["--delay=5ms..40ms"])];
    let delays = |server: &Server| -> Vec<u64> {
        let ask = || {
            let start = Instant::now();
            let delays_ms = server.ask("GET", "/process", "").json()["delay_ms"].as_u64().unwrap();
            assert!(start.elapsed() >= Duration::from_millis(delays_ms), "{delays_ms}");
            delays_ms
        };
        (0..12).map(|_| ask()).collect()
    };
    let delays_ms = delays(&by_variable);
    assert!(delays_ms.iter().all(|delays_ms| (1..=2).contains(delays_ms)), "{delays_ms:?}");
    for server in &flags {
        let delays_ms = delays(server);
        assert!(delays_ms.iter().all(|delays_ms| (5..=40).contains(delays_ms)), "{delays_ms:?}");
        // Twelve equal draws of 36: once in 10^17 runs.
        assert!(delays_ms.iter().any(|one| *one != delays_ms[0]), "{delays_ms:?}");
    }
    // The delay in the request takes precedence over all of them.
    let own = flags[0].ask("GET", "/process?delay_ms=3", "");
    assert_eq!(own.json()["delay_ms"], json!(3));

    for arguments in [&["--delay"] as &[&str], &["--delay", "soon"], &["--port", "1"], &["x"]] {
        let output = command(&[]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn sigterm_waits_two_seconds_at_most() {
    let mut server = Server::start(&[]);
    let mut busy = server.connect();
    busy.write_all(b"GET /process?delay_ms=60000 HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    assert_eq!(server.ask("GET", "/home", "").status, 200);
    let start = Instant::now();
    server.signal("-TERM");
    assert_eq!(server.wait().code(), Some(0));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(1800) && took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_taken_port_and_a_bad_environment_end_with_one_line() {
    let server = Server::start(&[]);
    let port = server.address.port().to_string();
    for (env, code, expected) in [
        ([("PORT", port.as_str())], 1, "cannot listen on 127.0.0.1:"),
        ([("PORT", "http")], 2, "PORT is \"http\", expected a port number"),
        ([("PROCESS_DELAY_MS", "70000")], 2, "PROCESS_DELAY_MS is \"70000\""),
    ] {
        let output = command(&env).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("ringmaster-server: ") && stderr.contains(expected), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}
