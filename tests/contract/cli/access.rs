//! Access to the APIs: host names, origins and tokens, and the messages about them.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;

use crate::harness::{Balancer, Home, Response, ask, eventually, get, try_ask};

const ONE: &str = r#"{"n":1}"#;
const EVIL: (&str, &str) = ("Host", "evil.example");

fn with(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let body = if method == "GET" { "" } else { ONE };
    try_ask(to, method, path, headers, body).unwrap()
}

#[test]
fn a_page_of_another_site_removes_nothing_on_either_port() {
    let home = Home::new();
    let balancer = home.start_full(2, &["--admin-hosts", "ring.example"]);
    let rebound = [EVIL, ("Origin", "http://evil.example"), ("Content-Type", "text/plain")];
    let plain = ("Content-Type", "text/plain");
    for port in [balancer.traffic, balancer.admin] {
        let own = port.to_string();
        let led: [&[(&str, &str)]; 5] = [
            &rebound,
            &[("Host", &own), ("Origin", "http://evil.example"), plain],
            &[("Host", &own), ("Origin", "null"), plain],
            &[("Host", &own), ("Sec-Fetch-Site", "cross-site"), plain],
            &[("Host", "localhost"), ("Origin", "http://localhost:1"), plain],
        ];
        for headers in led {
            for (method, path) in [("POST", "/rm"), ("DELETE", "/rm"), ("POST", "/add")] {
                with(port, method, path, headers).refusal(403);
            }
        }
        // A page of the balancer itself, by each of its names.
        for host in [own.as_str(), "localhost", "localhost:5000", "Ring.example:80"] {
            let origin = format!("http://{}", host.to_lowercase());
            let headers = [("Host", host), ("Origin", &origin), ("Sec-Fetch-Site", "same-origin")];
            with(port, "POST", "/rm?dry_run=true", &headers).message();
        }
    }
    with(balancer.admin, "PUT", "/api/ring", &rebound).refusal(403);
    assert_eq!(balancer.rep(), ["server_1", "server_2"]);
}

#[test]
fn the_admin_port_accepts_only_its_names_and_the_traffic_port_any() {
    let home = Home::new();
    let balancer = home.start_full(1, &["--control-hosts", "api.example"]);
    for path in ["/api/status", "/api/ring", "/api/decisions", "/rep", "/nothing"] {
        let why = with(balancer.admin, "GET", path, &[EVIL]).refusal(403);
        assert!(why.contains("'evil.example'") && why.contains("`admin_hosts`"), "{why}");
        let near = with(balancer.admin, "GET", path, &[("Host", "localhost")]);
        assert_ne!(near.status, 403, "{path}");
        let absolute = format!("http://evil.example{path}");
        with(balancer.admin, "GET", &absolute, &[("Host", "localhost")]).refusal(403);
    }
    with(balancer.admin, "POST", "/rm", &[EVIL]).refusal(403);
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(with(balancer.admin, "GET", path, &[EVIL]).status, 200, "{path}");
    }
    // A client that is no browser may use any name for the traffic port.
    with(balancer.traffic, "GET", "/rep", &[EVIL]).message();
    with(balancer.traffic, "POST", "/rm?dry_run=true", &[EVIL]).message();
    // Requests for a replica are not checked.
    let marked = [EVIL, ("Origin", "http://other.example"), ("Sec-Fetch-Site", "cross-site")];
    let answer = with(balancer.traffic, "POST", "/process?delay_ms=0", &marked);
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The names of one port are not those of the other.
    let page = [("Host", "api.example"), ("Origin", "http://api.example")];
    with(balancer.traffic, "POST", "/rm?dry_run=true", &page).message();
    with(balancer.admin, "POST", "/rm?dry_run=true", &page).refusal(403);
    assert_eq!(balancer.rep(), ["server_1"]);
}

/// Over HTTP/2 the authority stands in place of the Host.
#[test]
fn the_authority_of_http_2_is_checked_like_a_host() {
    let home = Home::new();
    let balancer = home.start_full(1, &[]);
    let traffic = balancer.traffic;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let status = |authority: &str, origin: Option<&str>| {
        let uri = format!("http://{authority}/rm?dry_run=true");
        let mut request = http::Request::post(uri);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let request = request.body(Full::new(Bytes::from(ONE))).unwrap();
        let asked = async {
            let stream = tokio::net::TcpStream::connect(traffic).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap().status().as_u16()
        };
        runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(20), asked).await })
            .unwrap()
    };
    assert_eq!(status("evil.example", None), 200);
    assert_eq!(status("evil.example", Some("http://evil.example")), 403);
    assert_eq!(status("localhost:5000", Some("http://evil.example")), 403);
    assert_eq!(status("localhost:5000", Some("http://localhost:5000")), 200);
}

#[test]
fn with_a_token_the_traffic_port_requires_it_too() {
    let home = Home::new();
    let token = home.write("token", "s3cret\n");
    let file = ["--admin-token-file", token.to_str().unwrap(), "--metrics-token", "m3trics"];
    let ready = |balancer: &Balancer| get(balancer.admin, "/readyz").status == 200;
    let bearer = [("Authorization", "Bearer s3cret")];
    for public in [false, true] {
        let more: &[&str] = if public { &["--public-rep"] } else { &[] };
        let balancer = home.start(&[&["--replicas", "1"], &file[..], more].concat());
        eventually("it is ready", || ready(&balancer));
        let traffic = balancer.traffic;
        for (method, path) in
            [("POST", "/add"), ("POST", "/rm"), ("DELETE", "/rm"), ("GET", "/rep")]
        {
            for wrong in [None, Some("Bearer m3trics"), Some("Basic s3cret")] {
                let headers: Vec<_> = wrong.iter().map(|value| ("Authorization", *value)).collect();
                let answer = with(traffic, method, path, &headers);
                if public && path == "/rep" {
                    answer.message();
                } else {
                    assert!(answer.refusal(401).contains("token"));
                    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
                }
            }
        }
        with(traffic, "GET", "/rep", &bearer).message();
        with(traffic, "POST", "/rm?dry_run=true", &bearer).message();
        assert_eq!(get(traffic, "/home").status, 200, "replicas ask for nothing");
        // The metrics have a token of their own, which is refused for everything else.
        let metrics = [("Authorization", "Bearer m3trics")];
        get(balancer.admin, "/metrics").refusal(401);
        assert_eq!(with(balancer.admin, "GET", "/metrics", &metrics).status, 200);
        assert_eq!(with(balancer.admin, "GET", "/metrics", &bearer).status, 200);
        with(balancer.admin, "GET", "/api/status", &metrics).refusal(401);

        let url = balancer.url();
        let run =
            Home::run(home.program().args(["replicas", "--url", &url, "--token-file"]).arg(&token));
        assert_eq!(
            (run.code, run.out.as_str(), run.err.as_str()),
            (0, "server_1\n", ""),
            "{run:?}"
        );
        let missing = home.ringmaster(&["replicas", "--url", &url, "--token-file", "/no/such"]);
        assert_eq!(missing.code, 2, "{missing:?}");
        assert!(missing.err.contains("'/no/such' cannot be read"), "{missing:?}");
        assert!(!balancer.log().contains("s3cret") && !balancer.log().contains("m3trics"));
    }
}

#[test]
fn secrets_are_warned_about_on_the_command_line_and_never_shown() {
    let home = Home::new();
    let key = "00112233445566778899aabbccddeeff";
    let given =
        ["--hash", "siphash", "--hash-key", key, "--env", "PASS=hunter2", "--env", "A=hunter2"];
    let run = home.ringmaster(&[&["check", "--admin-token", "s3cret"], &given[..]].concat());
    assert_eq!(run.code, 0, "{run:?}");
    let said = format!("{}{}", run.out, run.err);
    assert!(said.contains("`--admin-token`") && said.contains("`ps`"), "{said}");
    for secret in ["s3cret", "hunter2", key] {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
    for broken in ["env = [\"hunter2\"]", "env = \"hunter2\"", "admin_token = [\"hunter2\"]"] {
        let file = home.write("broken.toml", broken);
        let run = home.ringmaster(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(run.code, 2, "{run:?}");
        assert!(!run.err.contains("hunter2") && !run.out.contains("hunter2"), "{run:?}");
    }
    let run =
        Home::run(home.program().args(["serve", "--help"]).env("RINGMASTER_ENV", "P=hunter2"));
    assert!(run.code == 0 && !run.out.contains("hunter2"), "{run:?}");

    let balancer =
        home.start(&[&["--replicas", "0", "--admin-token", "s3cret"], &given[..]].concat());
    eventually("it is warned about", || balancer.logged("`--admin-token`").is_some());
    let url = balancer.url();
    let run = home.ringmaster(&["replicas", "--url", &url, "--token", "s3cret"]);
    assert!(run.code == 0 && run.err.starts_with("warning: `--token`"), "{run:?}");
    assert_eq!(run.err.lines().count(), 1, "{run:?}");
    for secret in ["s3cret", "hunter2", key] {
        assert!(!balancer.log().contains(secret) && !run.err.contains(secret), "{secret}");
    }
}

#[test]
fn an_open_scaling_api_is_reported_at_the_start() {
    let home = Home::new();
    let sentence = "everyone who reaches 0.0.0.0:";
    let said = |arguments: &[&str]| {
        let run = home.ringmaster(&[&["check"], arguments].concat());
        assert_eq!(run.code, 0, "{run:?}");
        run.out.contains(sentence)
    };
    assert!(said(&[]));
    assert!(!said(&["--listen", "127.0.0.1:5000"]));
    assert!(
        !Home::run(home.program().arg("check").env("RINGMASTER_ADMIN_TOKEN", "x"))
            .out
            .contains(sentence)
    );
    let mut command = home.program();
    command.args(["serve", "--driver", "process", "--replicas", "0", "--workers", "1"]);
    command.args(["--listen", "0.0.0.0:0", "--admin", "0.0.0.0:0", "--admin-open"]);
    command.args(["--fleet", home.fleet(), "--state-dir", "state"]);
    let balancer = Balancer::spawn(command);
    eventually("it is said", || balancer.logged(sentence).is_some());
}

#[test]
fn a_removal_below_the_least_is_refused_and_changes_nothing() {
    let home = Home::new();
    let balancer = home.start_full(3, &["--replicas-min", "2"]);
    let before = (balancer.ring(), balancer.children());
    for (path, body) in [
        ("/rm", r#"{"n":2}"#),
        ("/rm", r#"{"n":99}"#),
        ("/rm", r#"{"n":2,"hostnames":["server_1"]}"#),
        ("/rm?dry_run=true", r#"{"n":2}"#),
    ] {
        let why = balancer.command(path, body).refusal(400);
        assert!(why.contains("`replicas_min` keeps at least 2"), "{why}");
    }
    assert_eq!((balancer.ring(), balancer.children()), before);
    balancer.rm(ONE);
    balancer.command("/rm", ONE).refusal(400);
    assert_eq!(balancer.rep(), ["server_1", "server_2"]);
}

#[test]
fn ready_means_that_a_replica_passes_or_none_is_wanted() {
    let home = Home::new();
    let plain = |to: SocketAddr, path: &str| {
        let answer = get(to, path);
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        (answer.status, answer.text().trim_end().to_owned())
    };
    {
        let balancer = home.start_full(0, &[]);
        let ok = (200, "ok".to_owned());
        eventually("an empty fleet is ready", || plain(balancer.admin, "/readyz") == ok);
        ask(balancer.admin, "POST", "/readyz", "").refusal(405);
        balancer.add(ONE);
        assert_eq!(plain(balancer.admin, "/readyz"), ok);
        // The only replica stays in the table although it fails.
        let only = balancer.children().remove(0);
        only.signal(Signal::STOP);
        let not = (503, "no replica passes its heartbeat, of 1".to_owned());
        eventually("it is not ready", || plain(balancer.admin, "/readyz") == not);
        assert_eq!(balancer.rep().len(), 1);
        assert_eq!(plain(balancer.admin, "/livez"), ok);
        only.signal(Signal::CONT);
        eventually("it is ready again", || plain(balancer.admin, "/readyz") == ok);
    }
    let home = Home::new();
    let command = home.command("exec sleep 60");
    let balancer = home.start(&["--replicas", "2", "--command", &command, "--admin-token", "x"]);
    eventually("no replica passes", || {
        plain(balancer.admin, "/readyz")
            == (503, "no replica passes its heartbeat, of 2".to_owned())
    });
    assert_eq!(plain(balancer.admin, "/livez").0, 200);
}
