//! Configuration, exit codes, the client subcommands, the static driver and the admin port.

mod access;
mod check;
mod heartbeat;
mod presets;
mod terminal;
mod upstreams;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::harness::{Balancer, Home, Run, ask, companion, eventually, get, try_ask, within};
use serde_json::{Value, json};

/// One line on stderr, starting with `error: `, that contains this.
fn one_line(run: &Run, code: i32, expected: &str) {
    assert_eq!(run.code, code, "{run:?}");
    assert_eq!(run.err.lines().count(), 1, "{run:?}");
    assert!(run.err.starts_with("error: ") && run.err.contains(expected), "{expected}: {run:?}");
    assert_eq!(run.out, "", "{run:?}");
}

#[test]
fn unusable_settings_end_with_2_and_one_line_that_names_the_key() {
    let home = Home::new();
    let file = |name: &str, text: &str| home.write(name, text).to_str().unwrap().to_owned();
    let broken = file("broken.toml", "port = = 1\n");
    let unknown = file("unknown.toml", "fleet = \"a\"\nlisten_on = 1\n");
    let typed = file("typed.toml", "replicas = \"three\"\n");
    let untyped = file("untyped.json", r#"{"servers": [{"name": "a", "port": "80"}]}"#);
    let missing = home.path("missing.toml").to_str().unwrap().to_owned();
    let cases: &[(&[&str], &str)] = &[
        (&["--config", &broken], "line 1"),
        (&["--config", &unknown], "line 2: unknown field `listen_on`"),
        (&["--config", &typed], "line 1"),
        (&["--config", &missing], "missing.toml"),
        (&["--listen", "nowhere"], "`listen`"),
        (&["--admin", "1.2.3.4"], "`admin`"),
        (&["--admin", "0.0.0.0:9090"], "`admin`: 0.0.0.0:9090 is not loopback"),
        (&["--admin-hosts", "a:1"], "`admin_hosts`"),
        (&["--control-hosts", "http://a"], "`control_hosts`"),
        (&["--admin-token-file", "/no/such/file"], "`admin_token_file`: '/no/such/file'"),
        (&["--port", "70000"], "--port"),
        (&["--port", "0"], "`port`"),
        (&["--replicas", "x"], "--replicas"),
        (&["--replicas", "57"], "`replicas`"),
        (&["--driver", "podman"], "`driver`"),
        (&["--preset", "odd"], "`preset`: 'odd' is not one of course, key-value, servers, redis"),
        (&["--preset", "odd", "--print-config"], "`preset`: 'odd'"),
        (&["--drain", "soon", "--print-config"], "`drain`: 'soon'"),
        (&["--config", &untyped], "untyped.json': `servers[0].port` must be a whole number"),
        (&["--heartbeat-method", "PUT"], "`heartbeat_method`: 'PUT' is not one of GET, HEAD"),
        (&["--heartbeat-status", "ok"], "`heartbeat_status`: 'ok' is not a status like 200"),
        (&["--driver", "static", "--upstream", "S1=nowhere"], "`upstream`"),
        (&["--driver", "process", "--upstream", "server_1=127.0.0.1:1"], "`upstream`: 'server_1'"),
        (&["--upstream", "S1=127.0.0.1:1", "--upstream", "S1=127.0.0.1:2"], "`upstream`"),
        (&["--upstream", "S1=127.0.0.1:1,weight=57"], "`upstream`"),
        (
            &["--upstream", "S1=127.0.0.1:1,weight=40", "--upstream", "S2=127.0.0.1:2,weight=40"],
            "`upstream`",
        ),
        (&["--key", "moon"], "`key`"),
        (&["--key", "query:id,path:x"], "`key`: 'path:x' is not a key source; allowed are header:"),
        (&["--key-body-max", "0"], "`key_body_max`"),
        (&["--trusted-proxies", "10.0.0.0/8,lan"], "`trusted_proxies`: 'lan'"),
        (&["--policy", "fair"], "`policy`: 'fair' is not one of ring, bounded"),
        (&["--bounded-factor", "0.5"], "`bounded_factor`"),
        (&["--env", "novalue"], "`env`"),
        (&["--heartbeat-path", "x"], "`heartbeat_path`"),
        (&["--heartbeat-interval", "soon"], "`heartbeat_interval`"),
        (&["--command", "a 'b"], "`command`"),
        (&["--placement", "odd"], "`placement`"),
        (&["--fleet", "a b"], "`fleet`"),
        (&["--slots", "0"], "`slots`"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--not-found-as-400", "perhaps"], "--not-found-as-400"),
    ];
    for (arguments, expected) in cases {
        for subcommand in ["serve", "check"] {
            let run = home.ringmaster(&[&[subcommand], *arguments].concat());
            one_line(&run, 2, expected);
        }
    }
    let run = Home::run(home.program().arg("check").env("RINGMASTER_DRAIN", "never"));
    one_line(&run, 2, "`drain`");
    let run = Home::run(home.program().arg("check").env("RINGMASTER_PORT", "http"));
    one_line(&run, 2, "--port");
    one_line(&home.ringmaster(&["frobnicate"]), 2, "frobnicate");
}

#[test]
fn help_and_version_are_no_errors() {
    let home = Home::new();
    for arguments in [&["--help"] as &[&str], &["serve", "--help"], &["--version"]] {
        let run = home.ringmaster(arguments);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
        assert!(run.out.contains("ringmaster"), "{run:?}");
    }
    // Without a subcommand the help is printed, with an exit code.
    let run = home.ringmaster(&[]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("serve") && run.err.contains("replicas"), "{run:?}");
}

#[test]
fn flags_beat_the_environment_and_that_beats_the_file() {
    let home = Home::new();
    let file = home.write("ringmaster.toml", "replicas = 1\ndrain = \"1s\"\nattempts = 2\n");
    let with = |env: &[(&str, &str)], arguments: &[&str]| -> usize {
        let mut command = home.serve(arguments);
        command.envs(env.iter().copied());
        let balancer = Balancer::spawn(command);
        eventually("it is booted", || balancer.status()["booted"] == true);
        balancer.status()["desired"].as_u64().unwrap() as usize
    };
    let file = file.to_str().unwrap();
    let fresh = |n: usize, env: &[(&str, &str)], arguments: &[&str]| {
        let _ = std::fs::remove_dir_all(home.state_dir());
        assert_eq!(with(env, arguments), n, "{env:?} {arguments:?}");
    };
    fresh(3, &[], &[]);
    fresh(1, &[], &["--config", file]);
    fresh(1, &[("RINGMASTER_CONFIG", file)], &[]);
    fresh(2, &[("RINGMASTER_REPLICAS", "2")], &["--config", file]);
    fresh(0, &[("RINGMASTER_REPLICAS", "2")], &["--config", file, "--replicas", "0"]);
    // `check` shows the result of all three.
    let run = Home::run(
        home.program()
            .args(["check", "--config", file, "--drain", "3s"])
            .args(["--key", "cookie:sid,body:/id", "--policy", "bounded"])
            .args(["--trusted-proxies", "10.0.0.0/8,::1"])
            .env("RINGMASTER_ATTEMPTS", "1")
            .env("RINGMASTER_ADMIN_TOKEN", "very-secret"),
    );
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    let lines: Vec<String> =
        run.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for shown in [
        "replicas = 1",
        "drain = 3s",
        "attempts = 1",
        "policy = bounded",
        "key_body_max = 65536 (default)",
        "bounded_factor = 1.25 (default)",
        "key = cookie:sid,body:/id",
        "trusted_proxies = 10.0.0.0/8, ::1",
        "admin_token = (hidden)",
    ] {
        assert!(lines.iter().any(|line| line == shown), "{shown}: {}", run.out);
    }
    assert!(!run.out.contains("very-secret"), "{run:?}");
}

#[test]
fn a_port_in_use_is_reported_in_one_line_and_nothing_is_started() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let started = home.path("started");
    let command = home.command(&format!("echo x >> {}", started.display()));
    for key in ["listen", "admin"] {
        let mut program = home.program();
        let other = if key == "listen" { "--admin" } else { "--listen" };
        program.args(["serve", "--driver", "process", &format!("--{key}"), &address]);
        program.args([other, "127.0.0.1:0", "--command", &command, "--state-dir", "s"]);
        let run = Home::run(program.env("RINGMASTER_LOG", "warn"));
        one_line(&run, 1, &address);
    }
    assert!(!started.exists(), "a replica was started although the port is taken");
}

#[test]
fn client_commands_work_with_a_running_balancer() {
    let home = Home::new();
    let balancer = home.start_full(2, &[]);
    let url = balancer.url();
    let client = |arguments: &[&str]| {
        let run = Home::run(home.program().args(arguments).env("RINGMASTER_URL", &url));
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{arguments:?}: {run:?}");
        run.out
    };
    let as_json = |arguments: &[&str]| -> Value {
        let after = client(&[arguments, &["--json"]].concat());
        let before = client(&[&["--json"], arguments].concat());
        let (one, other): (Value, Value) =
            (serde_json::from_str(&after).unwrap(), serde_json::from_str(&before).unwrap());
        assert_eq!(one, other, "{arguments:?}");
        one
    };
    assert_eq!(client(&["replicas"]), "server_1\nserver_2\n");
    assert_eq!(as_json(&["replicas"])["message"]["N"], 2);
    assert!(client(&["add", "S5"]).contains("added S5"));
    assert!(client(&["add", "-n", "2", "S6"]).contains("added S6 server_"));
    assert!(client(&["rm", "S5"]).contains("removed S5"));
    assert!(client(&["rm"]).contains("removed server_"));
    assert_eq!(balancer.rep(), ["server_1", "server_2", "S6"]);
    assert!(client(&["add", "--dry-run", "S9"]).contains("% of all keys would move"));
    assert!(client(&["rm", "--dry-run", "S6"]).contains("S6 -> "));
    let dry = as_json(&["rm", "--dry-run", "S6"]);
    assert_eq!(dry["message"]["after"]["replicas"].as_array().unwrap().len(), 2);
    assert!(client(&["ring"]).contains("server_2"));
    assert_eq!(as_json(&["ring"]), balancer.ring());
    assert!(client(&["status"]).contains("3 of 3 replicas in service"));
    assert_eq!(as_json(&["status"])["desired"], 3);
    assert_eq!(balancer.rep().len(), 3);

    let refused = home.ringmaster(&["rm", "ghost", "--url", &url]);
    one_line(&refused, 1, "'ghost' is not a replica");
    let refused = home.ringmaster(&["add", "-n", "1", "Sa", "Sb", "--url", &url]);
    one_line(&refused, 1, "Length of hostname list");
    let refused = home.ringmaster(&["add", "-n", "0", "--url", &url]);
    one_line(&refused, 1, "at least 1");
}

#[test]
fn a_client_command_without_a_balancer_is_one_line() {
    let home = Home::new();
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{unused}");
    for arguments in [&["replicas"] as &[&str], &["add"], &["rm"], &["ring"], &["status"]] {
        let run = home.ringmaster(&[arguments, &["--url", &url]].concat());
        one_line(&run, 1, &url);
    }
    one_line(&home.ringmaster(&["status", "--url", "nonsense"]), 1, "nonsense");
    // Another server is not taken for a balancer.
    let balancer = home.start_full(1, &[]);
    let url = format!("http://{}", balancer.child_address("server_1"));
    one_line(&home.ringmaster(&["ring", "--url", &url]), 1, "endpoint does not exist");
}

#[test]
fn the_admin_port_requires_its_token() {
    let home = Home::new();
    let balancer = home.start(&["--replicas", "1", "--admin-token", "s3cret"]);
    eventually("it is in service", || get(balancer.admin, "/readyz").status == 200);
    for path in ["/api/ring", "/api/status", "/api/decisions", "/metrics", "/rep", "/nothing"] {
        for given in [None, Some("Bearer wrong"), Some("Bearer s3cret2"), Some("s3cret")] {
            let headers: Vec<_> = given.iter().map(|value| ("Authorization", *value)).collect();
            let answer = try_ask(balancer.admin, "GET", path, &headers, "").unwrap();
            assert!(answer.refusal(401).contains("token"), "{path}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path} {given:?}");
        }
        for given in ["Bearer s3cret", "bearer s3cret"] {
            let headers = [("Authorization", given)];
            let answer = try_ask(balancer.admin, "GET", path, &headers, "").unwrap();
            assert_ne!(answer.status, 401, "{path} {given}");
        }
    }
    let url = balancer.url();
    one_line(&home.ringmaster(&["status", "--url", &url]), 1, "token");
    let run = home.ringmaster(&["replicas", "--url", &url, "--token", "s3cret"]);
    assert_eq!((run.code, run.out.as_str()), (0, "server_1\n"), "{run:?}");
    let mut with_env = home.program();
    with_env.args(["replicas", "--url", &url]).env("RINGMASTER_ADMIN_TOKEN", "s3cret");
    assert_eq!(Home::run(&mut with_env).code, 0);
}

#[test]
fn the_admin_port_shows_ring_status_decisions_and_metrics() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    assert!(get(balancer.admin, "/api/nothing").refusal(404).contains("/api/nothing"));
    get(balancer.admin, "/").refusal(404);
    for path in ["/api/ring", "/api/status", "/api/decisions", "/metrics"] {
        let answer = ask(balancer.admin, "POST", path, "{}");
        answer.refusal(405);
        let allowed = if path == "/api/ring" { "GET, HEAD, PUT" } else { "GET, HEAD" };
        assert_eq!(answer.header("allow"), Some(allowed), "{path}");
        assert_eq!(ask(balancer.admin, "HEAD", path, "").status, 200);
    }
    check_ring(&balancer.ring());
    let status = balancer.status();
    let keys: Vec<&String> = status.as_object().unwrap().keys().collect();
    let expected = ["N", "booted", "commands_waiting", "desired", "engine", "generation", "health"];
    let rest = ["joining", "operation", "panic", "passing", "replicas", "version"];
    assert_eq!(keys, [&expected[..], &rest].concat());
    assert_eq!(
        (&status["N"], &status["engine"], &status["booted"]),
        (&json!(3), &json!("up"), &json!(true))
    );
    let instance = &status["replicas"][0]["instances"][0];
    assert_eq!((&instance["phase"], &instance["incarnation"]), (&json!("admitted"), &json!(1)));

    balancer.add(r#"{"n":1,"hostnames":["S4"]}"#);
    let decisions = get(balancer.admin, "/api/decisions").json();
    let decisions = decisions.as_array().unwrap();
    let numbers: Vec<u64> = decisions.iter().map(|one| one["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let committed = decisions.iter().find(|one| one["event"] == "committed").unwrap();
    assert_eq!(committed["replica"], "S4");
    assert!(committed["time_us"].as_u64().unwrap() > 1_600_000_000_000_000);
    let last = numbers.len();
    let rest = get(balancer.admin, &format!("/api/decisions?after={}", last - 1)).json();
    assert_eq!(rest.as_array().unwrap().len(), 1);
    assert!(get(balancer.admin, "/api/decisions?after=x").refusal(400).contains("after"));
}

fn check_ring(ring: &Value) {
    assert_eq!((&ring["slots"], &ring["virtual_servers"]), (&json!(512), &json!(9)));
    assert!(ring["placement"].is_string() && ring["hash"].is_string(), "{ring}");
    assert_eq!((&ring["generation"], ring["digest"].as_str().unwrap().len()), (&json!(1), 16));
    let replicas = ring["replicas"].as_array().unwrap();
    let names: Vec<&Value> = replicas.iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["server_1", "server_2", "server_3"]);
    let slots: Vec<u64> = replicas
        .iter()
        .flat_map(|one| one["slots"].as_array().unwrap())
        .map(|slot| slot.as_u64().unwrap())
        .collect();
    let distinct: BTreeSet<u64> = slots.iter().copied().filter(|slot| *slot < 512).collect();
    assert_eq!((slots.len(), distinct.len()), (27, 27));
    let shares: Vec<f64> = replicas.iter().map(|one| one["share"].as_f64().unwrap()).collect();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
    let peak = shares.iter().fold(0.0, |most: f64, share| most.max(*share)) * 3.0;
    assert!((ring["peak_to_average"].as_f64().unwrap() - peak).abs() < 1e-9, "{ring}");
    assert!(replicas.iter().all(|one| one["weight"] == 1 && one["id"].is_u64()));
}

#[test]
fn metrics_are_prometheus_text() {
    let home = Home::new();
    let balancer = home.start_full(2, &[]);
    (0..10).for_each(|_| assert_eq!(get(balancer.traffic, "/home").status, 200));
    let answer = get(balancer.admin, "/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let families = prometheus(answer.text());
    let value = |name: &str| families[name].1.values().sum::<f64>();
    assert_eq!((value("ringmaster_replicas"), value("ringmaster_replicas_desired")), (2.0, 2.0));
    assert_eq!(value("ringmaster_engine_up"), 1.0);
    assert_eq!(value("ringmaster_requests_total"), 10.0);
    let by_code = &families["ringmaster_responses_total"].1;
    assert_eq!(by_code["ringmaster_responses_total{code=\"2xx\"}"], 10.0);
    assert_eq!(value("ringmaster_replica_requests_total"), 10.0);
    assert_eq!(families["ringmaster_replica_requests_total"].1.len(), 2);
    // What came from the replicas is what came in all: the bodies of ten greetings.
    let down = value("ringmaster_replica_response_body_bytes_total");
    assert!(down >= 10.0 * r#"{"message":""}"#.len() as f64, "{down}");
    assert_eq!(down, value("ringmaster_response_body_bytes_total"));
    assert_eq!(value("ringmaster_replica_request_body_bytes_total"), 0.0);
    assert_eq!(families["ringmaster_replica_request_body_bytes_total"].1.len(), 2);
    assert!(value("ringmaster_transitions_total") > 0.0);
    let (_, samples) = &families["ringmaster_replica_response_seconds"];
    let sum_of = |part: &str| -> f64 {
        samples.iter().filter(|(series, _)| series.contains(part)).map(|(_, value)| value).sum()
    };
    assert_eq!((sum_of("_count{"), sum_of("le=\"+Inf\"")), (10.0, 10.0));
    assert!(sum_of("le=\"0.0001\"") <= sum_of("le=\"0.1\"") && sum_of("le=\"60\"") == 10.0);
    assert!(sum_of("_sum{") > 0.0);
    for (name, (kind, _)) in &families {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(name.starts_with("ringmaster_"), "{name}");
    }
}

type Families = BTreeMap<String, (String, BTreeMap<String, f64>)>;

/// Names with their types and samples; panics on a line that a scraper would refuse.
fn prometheus(text: &str) -> Families {
    let mut families = Families::new();
    let mut current = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(help.contains(' '), "{line}");
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
            let before = families.insert(name.into(), (kind.into(), BTreeMap::new()));
            assert!(before.is_none(), "twice: {line}");
            current = name.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let (kind, samples) = families.get_mut(&current).unwrap();
            match name.strip_prefix(current.as_str()).unwrap() {
                "" => assert_ne!(kind, "histogram", "{line}"),
                "_bucket" | "_sum" | "_count" => assert_eq!(kind, "histogram", "{line}"),
                other => panic!("{other}: {line}"),
            }
            let value: f64 = value.parse().unwrap();
            let before = samples.insert(series.into(), value);
            assert!(value.is_finite() && before.is_none(), "{line}");
        }
    }
    families
}

/// A server that the balancer has not started, at a fixed address.
struct Upstream(Child);

impl Upstream {
    fn start(name: &str, address: SocketAddr) -> Self {
        let child = Command::new(companion::program())
            .env("SERVER_ID", name)
            .env("HOST", address.ip().to_string())
            .env("PORT", address.port().to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("it listens", || std::net::TcpStream::connect(address).is_ok());
        Self(child)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_static_fleet_is_admitted_and_ejected_but_never_scaled() {
    let home = Home::new();
    let addresses = [free_address(), free_address(), free_address()];
    let [one, two, three] = ["up1", "up2", "up3"];
    let running: Vec<Upstream> =
        [(one, addresses[0]), (two, addresses[1])].map(|(n, a)| Upstream::start(n, a)).into();
    let upstreams: Vec<String> =
        [one, two, three].iter().zip(addresses).map(|(n, a)| format!("{n}={a}")).collect();
    let mut arguments = vec!["--driver", "static"];
    arguments.extend(upstreams.iter().flat_map(|one| ["--upstream", one.as_str()]));
    let balancer = home.start(&arguments);
    eventually("those that live serve", || balancer.rep() == [one, two]);
    eventually("a static fleet has a state, too", || home.state_file().exists());
    let owner = |key: usize| get(balancer.traffic, &format!("/home?id={key}")).json();
    let before: Vec<Value> = (0..20).map(owner).collect();
    assert_eq!((0..20).map(owner).collect::<Vec<_>>(), before);

    for (path, body) in
        [("/add", r#"{"n":1}"#), ("/rm", r#"{"n":1}"#), ("/rm?dry_run=1", r#"{"n":1}"#)]
    {
        let why = balancer.command(path, body).refusal(400);
        assert!(why.contains("static"), "{why}");
    }
    // The third appears, the first ends and comes back.
    let last = Upstream::start(three, addresses[2]);
    eventually("the third is admitted", || balancer.rep() == [one, two, three]);
    drop(running);
    eventually("only it is left", || balancer.rep() == [three]);
    assert_eq!(get(balancer.traffic, "/home").status, 200);
    let again = [(one, addresses[0]), (two, addresses[1])].map(|(n, a)| Upstream::start(n, a));
    eventually("they are back", || balancer.rep() == [one, two, three]);
    drop(last);
    eventually("the third is out", || balancer.rep() == [one, two]);
    assert_eq!((0..20).map(owner).collect::<Vec<_>>(), before, "keys stay where they were");
    // Without a living server the response is an error, until one comes back.
    drop(again);
    within(Duration::from_secs(5), "no server responds", || {
        get(balancer.traffic, "/home").status >= 502
    });
    let _one = Upstream::start(one, addresses[0]);
    eventually("it serves again", || get(balancer.traffic, "/home").status == 200);
    assert!(balancer.terminate().0.success());
}

#[test]
fn weights_of_a_static_fleet_are_shares() {
    let home = Home::new();
    let addresses = [free_address(), free_address()];
    let _running =
        [("up1", addresses[0]), ("up2", addresses[1])].map(|(n, a)| Upstream::start(n, a));
    let (one, two) = (format!("up1={},weight=4", addresses[0]), format!("up2={}", addresses[1]));
    let balancer = home.start(&["--upstream", &one, "--upstream", &two, "--driver", "static"]);
    eventually("both serve", || balancer.rep().len() == 2);
    let ring = balancer.ring();
    let replicas = ring["replicas"].as_array().unwrap();
    assert_eq!(
        (&replicas[0]["weight"], replicas[0]["slots"].as_array().unwrap().len()),
        (&json!(4), 36)
    );
    assert!(replicas[0]["share"].as_f64().unwrap() > 0.6, "{ring}");
}

#[test]
fn sigint_and_sigterm_end_cleanly_and_finish_open_requests() {
    use rustix::process::Signal;
    for signal in [Signal::INT, Signal::TERM] {
        let home = Home::new();
        let balancer = home.start_full(2, &[]);
        let target = "/process?delay_ms=600";
        let open = crate::harness::begin(balancer.traffic, "GET", target, &[], "").unwrap();
        eventually("it is on its way", || {
            let metrics = get(balancer.admin, "/metrics");
            metrics.text().contains("ringmaster_requests_total 1\n")
        });
        let (status, log) = balancer.end_by(signal);
        assert_eq!(status.code(), Some(0), "{log}");
        assert_eq!(crate::harness::finish(open).unwrap().status, 200);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    use rustix::process::Signal;
    let home = Home::new();
    let balancer = home.start_full(1, &["--drain", "1m"]);
    let open =
        crate::harness::begin(balancer.traffic, "GET", "/process?delay_ms=30000", &[], "").unwrap();
    eventually("it is on its way", || {
        get(balancer.admin, "/metrics").text().contains("ringmaster_requests_total 1\n")
    });
    balancer.signal(Signal::TERM);
    eventually("the shutdown is logged", || {
        balancer.logged("stopping: open requests may end").is_some()
    });
    let begun = std::time::Instant::now();
    let (status, log) = balancer.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(open);
}
