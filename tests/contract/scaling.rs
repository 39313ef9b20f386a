//! The scaling API: the real program, real children, real sockets.

use std::{
    io::Write,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Balancer, Home, LONG, Load, ask, begin, eventually, get, try_ask, within};
use serde_json::{Value, json};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// `server_<6 random digits>`.
fn is_drawn(name: &str) -> bool {
    name.strip_prefix("server_").is_some_and(|digits| {
        digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_digit())
    })
}

fn both(balancer: &Balancer) -> [SocketAddr; 2] {
    [balancer.traffic, balancer.admin]
}

#[test]
fn rep_responds_to_the_byte_on_both_ports() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    let expected = concat!(
        r#"{"message":{"N":3,"replicas":["server_1","server_2","server_3"]},"#,
        r#""status":"successful"}"#
    );
    let absolute = format!("http://{}/rep", balancer.traffic);
    for port in both(&balancer) {
        for target in ["/rep", "/rep?x=1", "/rep?", &absolute] {
            let answer = get(port, target);
            assert_eq!((answer.status, answer.text()), (200, expected), "{target}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{target}");
        }
        // An unexpected body is ignored.
        assert_eq!(ask(port, "GET", "/rep", "{}").text(), expected);
        let head = ask(port, "HEAD", "/rep", "");
        assert_eq!((head.status, head.text()), (200, ""));
        assert_eq!(head.header("content-length"), Some(expected.len().to_string().as_str()));
    }
}

#[test]
fn only_the_exact_paths_and_methods_are_served() {
    let home = Home::new();
    let balancer = home.start_full(1, &[]);
    let cases = [
        ("/rep", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"].as_slice(), "GET, HEAD"),
        ("/add", &["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"], "POST"),
        ("/rm", &["GET", "HEAD", "PUT", "PATCH", "OPTIONS", "BREW"], "DELETE, POST"),
        ("/rm?dry_run=true", &["GET"], "DELETE, POST"),
    ];
    for port in both(&balancer) {
        for (path, methods, allow) in cases {
            for &method in methods {
                let answer = ask(port, method, path, "");
                assert_eq!(answer.status, 405, "{method} {path}");
                assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
                if method != "HEAD" {
                    answer.refusal(405);
                }
            }
        }
        let others = [
            "/rep/",
            "/repx",
            "//rep",
            "/REP",
            "/rep;x",
            "/%72ep",
            "/add/",
            "/rm/x",
            "/rep%3Fx",
            "/./rep",
            "/x/../rep",
            "/",
            "/api/ring/",
        ];
        for path in others {
            let answer = get(port, path);
            let by_replica = answer.text().contains("endpoint does not exist for GET");
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
            assert_eq!(by_replica, port == balancer.traffic, "{path}: {}", answer.text());
            answer.refusal(404);
        }
    }
    // A path that the API does not know goes to a replica on the traffic port.
    assert!(get(balancer.traffic, "/api/ring").text().contains("endpoint does not exist for GET"));
    assert_eq!(balancer.rep(), ["server_1"]);
}

#[test]
fn without_mounts_the_scaling_api_is_on_the_admin_port_only() {
    let home = Home::new();
    let file = home.write("config.toml", "mounts = []\n");
    let balancer = home.start_full(1, &["--config", file.to_str().unwrap()]);
    for (method, path) in [("GET", "/rep"), ("POST", "/add"), ("DELETE", "/rm")] {
        let answer = ask(balancer.traffic, method, path, r#"{"n":1}"#);
        assert!(answer.text().contains("endpoint does not exist for"), "{}", answer.text());
    }
    let added = ask(balancer.admin, "POST", "/add", r#"{"n":1,"hostnames":["S5"]}"#).message();
    assert_eq!(added["replicas"], json!(["server_1", "S5"]));
}

/// A body that must be refused, with a part of the message.
const REFUSED: &[(&str, u16, &str, &str)] = &[
    ("both", 400, r#"{"n":1,"hostnames":["Sa","Sb"]}"#, "Length of hostname list is more than "),
    ("add", 400, r#"{"n":1,"hostnames":["Sa","Sb"]}"#, "=newly added instances"),
    ("rm", 400, r#"{"n":1,"hostnames":["Sa","Sb"]}"#, "=removable instances"),
    ("both", 400, "", "not valid JSON"),
    ("both", 400, "{", "not valid JSON"),
    ("both", 400, "\u{feff}{\"n\":1}", "not valid JSON"),
    ("both", 400, "n=1", "not valid JSON"),
    ("both", 400, "null", "must be a JSON object"),
    ("both", 400, "[]", "must be a JSON object"),
    ("both", 400, "3", "must be a JSON object"),
    ("both", 400, r#"{"n":1}{"n":1}"#, "not valid JSON"),
    ("both", 400, "{}", "'n' is missing"),
    ("both", 400, r#"{"hostnames":["Sa"]}"#, "'n' is missing"),
    ("both", 400, r#"{"n":0}"#, "integer of at least 1"),
    ("both", 400, r#"{"n":-1}"#, "integer of at least 1"),
    ("both", 400, r#"{"n":1.5}"#, "integer of at least 1"),
    ("both", 400, r#"{"n":1e2}"#, "integer of at least 1"),
    ("both", 400, r#"{"n":"1"}"#, "integer of at least 1"),
    ("both", 400, r#"{"n":null}"#, "integer of at least 1"),
    ("both", 400, r#"{"n":true}"#, "integer of at least 1"),
    ("both", 400, r#"{"n":[1]}"#, "integer of at least 1"),
    ("both", 400, r#"{"n":99999999999999999999}"#, "integer of at least 1"),
    ("both", 400, r#"{"n":1,"N":1}"#, "either 'n' or 'N'"),
    ("both", 400, r#"{"n":1,"names":[],"hostnames":[]}"#, "either 'hostnames' or 'names'"),
    ("both", 400, r#"{"n":1,"names":[],"servers":[]}"#, "either 'names' or 'servers'"),
    ("both", 400, r#"{"n":1,"n":2}"#, "'n' is given twice"),
    ("both", 400, r#"{"n":1,"hostnames":[],"hostnames":["Sa"]}"#, "'hostnames' is given twice"),
    ("both", 400, r#"{"n":1,"hostname":["server_1"]}"#, "'hostname' is not one of n, hostnames, "),
    ("rm", 400, r#"{"n":1,"weight":2}"#, "'weight' is not one of n, hostnames, N, names, servers"),
    ("both", 400, r#"{"n":1,"hostnames":"S5"}"#, "list of names"),
    ("both", 400, r#"{"n":1,"hostnames":{"a":1}}"#, "list of names"),
    ("both", 400, r#"{"n":1,"hostnames":[5]}"#, "list of names"),
    ("both", 400, r#"{"n":1,"hostnames":[null]}"#, "list of names"),
    ("both", 400, r#"{"n":1,"hostnames":[""]}"#, "not a valid name"),
    ("both", 400, r#"{"n":1,"hostnames":["-"]}"#, "not a valid name"),
    ("both", 400, r#"{"n":1,"hostnames":["-ab"]}"#, "not a valid name"),
    ("both", 400, r#"{"n":1,"hostnames":["a b"]}"#, "not a valid name"),
    ("both", 400, r#"{"n":1,"hostnames":["a/../b"]}"#, "not a valid name"),
    ("both", 400, r#"{"n":1,"hostnames":["ab\n"]}"#, "not a valid name"),
    ("both", 400, r#"{"n":1,"hostnames":["ab\u0000"]}"#, "not a valid name"),
    ("both", 400, r#"{"n":2,"hostnames":["Sa","Sa"]}"#, "duplicate"),
    ("both", 400, r#"{"n":3,"names":["Sa","Sb","Sa"]}"#, "duplicate"),
    ("both", 400, r#"{"n":2,"hostnames":["Sa","sA"]}"#, "'sA': 'Sa' is the same hostname"),
    ("add", 400, r#"{"n":1,"hostnames":["SERVER_1"]}"#, "exists: 'server_1' is the same hostname"),
    ("add", 400, r#"{"n":1,"hostnames":["server_1"]}"#, "already exists"),
    ("add", 400, r#"{"n":2,"hostnames":["Snew","server_2"]}"#, "already exists"),
    ("rm", 400, r#"{"n":1,"hostnames":["ghost"]}"#, "not a replica"),
    ("rm", 400, r#"{"n":2,"hostnames":["server_1","ghost"]}"#, "not a replica"),
    ("add", 400, r#"{"n":55}"#, "raise `slots`"),
    ("add", 400, r#"{"n":18446744073709551615}"#, "raise `slots`"),
];

#[test]
fn an_impossible_command_is_refused_and_changes_nothing() {
    let home = Home::new();
    let balancer = home.start_full(2, &[]);
    let before = (balancer.ring(), balancer.children());
    for &(path, status, body, expected) in REFUSED {
        for target in ["/add", "/rm"].into_iter().filter(|t| path == "both" || t[1..] == *path) {
            for suffix in ["", "?dry_run=true"] {
                let answer = balancer.command(&format!("{target}{suffix}"), body);
                let why = answer.refusal(status);
                let holds = match expected.strip_prefix('=') {
                    Some(end) => why == format!("Length of hostname list is more than {end}"),
                    None => why.contains(expected),
                };
                assert!(holds, "{target} {body}: {why}");
            }
        }
    }
    let long = format!(r#"{{"n":1,"hostnames":["{}"]}}"#, "a".repeat(64));
    assert!(balancer.command("/add", &long).refusal(400).contains("not a valid name"));
    for query in ["dry_run=maybe", "dry_run=true&dry_run=false", "dry_run=%FF", "dryrun=true"] {
        let answer = balancer.command(&format!("/add?{query}"), r#"{"n":1}"#);
        assert!(answer.refusal(400).contains("dry_run"), "{query}: {}", answer.text());
    }
    assert_eq!((balancer.ring(), balancer.children()), before);
}

#[test]
fn bodies_are_limited_in_size_and_read_with_any_content_type() {
    let home = Home::new();
    let balancer = home.start_full(1, &[]);
    let padded = |length: usize| format!(r#"{{"n":0{}}}"#, " ".repeat(length - 7));
    for port in both(&balancer) {
        let fits = ask(port, "POST", "/add", &padded(64 * 1024));
        assert!(fits.refusal(400).contains("at least 1"));
        let answer = ask(port, "POST", "/add", &padded(64 * 1024 + 1));
        assert!(answer.refusal(413).contains("65536"), "{}", answer.text());
        // The same with chunked encoding, without a length.
        let mut stream =
            begin(port, "POST", "/add", &[("Transfer-Encoding", "chunked")], "").unwrap();
        let chunks = format!("{:x}\r\n{}\r\n0\r\n\r\n", 70_000, " ".repeat(70_000));
        // The refusal may arrive before the whole body has been sent.
        let _ = stream.write_all(chunks.as_bytes());
        answer_of(stream).refusal(413);
    }
    for (number, kind) in
        ["text/plain", "application/x-www-form-urlencoded", "garbage", "multipart/form-data"]
            .into_iter()
            .enumerate()
    {
        let body = format!(r#"{{"n":1,"hostnames":["S{}x"]}}"#, number);
        let headers = [("Content-Type", kind), ("Accept", "text/html")];
        let answer = try_ask(balancer.traffic, "POST", "/add", &headers, &body).unwrap();
        assert_eq!(answer.message()["N"], number + 2, "{kind}");
    }
}

#[test]
fn additions_and_removals_name_the_replicas() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);

    let added = balancer.add(r#"{"n":4,"hostnames":["S5","S4"]}"#);
    let list = names(&added["added"]);
    assert_eq!(list[..2], ["S5", "S4"]);
    assert!(list[2..].iter().all(|name| is_drawn(name)), "{list:?}");
    let all = [&["server_1", "server_2", "server_3"], &list[..]].concat();
    assert_eq!(names(&added["replicas"]), all);
    assert_eq!(added, json!({"N": 7, "added": list, "replicas": all}));
    assert_eq!(balancer.rep(), all);
    // Replicas in service get requests at once.
    for replica in balancer.ring()["replicas"].as_array().unwrap() {
        assert!(replica["share"].as_f64().unwrap() > 0.0, "{replica}");
    }

    // Named ones first, then the newest.
    let removed = ask(balancer.traffic, "DELETE", "/rm", r#"{"n":3,"hostnames":["server_2"]}"#);
    let removed = removed.message();
    assert_eq!(removed["removed"], json!(["server_2", list[3], list[2]]));
    assert_eq!(removed["replicas"], json!(["server_1", "server_3", "S5", "S4"]));
    assert_eq!(removed["N"], 4);
    let alive: Vec<String> = balancer.children().into_iter().map(|child| child.name).collect();
    assert_eq!(alive, ["server_1", "server_3", "S5", "S4"]);

    // The aliases of the keys, and a name that was removed just before.
    let added = balancer.add(r#"{"N":1,"servers":["server_2"]}"#);
    assert_eq!(added["replicas"], json!(["server_1", "server_3", "S5", "S4", "server_2"]));
    let removed = balancer.rm(r#"{"N":2,"names":[]}"#);
    assert_eq!(removed["removed"], json!(["server_2", "S4"]));
    let added = balancer.add(r#"{"n":1,"hostnames":null}"#);
    assert!(is_drawn(names(&added["added"])[0]));

    // A larger number removes all; a fleet of zero is valid and can grow again.
    let removed = balancer.rm(r#"{"n":18446744073709551615}"#);
    assert_eq!((&removed["N"], names(&removed["removed"]).len()), (&json!(0), 4));
    assert_eq!(removed["replicas"], json!([]));
    assert_eq!(balancer.children(), []);
    let again = balancer.rm(r#"{"n":1}"#);
    assert_eq!(again, json!({"N": 0, "removed": [], "replicas": []}));
    let added = balancer.add(r#"{"n":2,"hostnames":["server_1"]}"#);
    assert_eq!((&added["N"], &added["added"][0]), (&json!(2), &json!("server_1")));
    assert_eq!(get(balancer.traffic, "/home").status, 200);
}

#[test]
fn removing_the_newest_undoes_an_addition_exactly() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    let shape = |balancer: &Balancer| {
        let ring = balancer.ring();
        (ring["digest"].clone(), ring["replicas"].clone())
    };
    let before = shape(&balancer);
    let load = Load::start(balancer.traffic, 2);
    for n in [1, 3] {
        balancer.add(&format!(r#"{{"n":{n}}}"#));
        assert_ne!(shape(&balancer), before);
        balancer.rm(&format!(r#"{{"n":{n}}}"#));
        assert_eq!(shape(&balancer), before);
    }
    load.all_answered();
}

#[test]
fn the_ring_holds_as_many_replicas_as_documented() {
    let home = Home::new();
    let arguments = ["--slots", "32", "--virtual-servers", "9"];
    let balancer = home.start_full(1, &arguments);
    let why = balancer.command("/add", r#"{"n":3}"#).refusal(400);
    assert!(why.contains("at most 3") && why.contains("`slots`"), "{why}");
    assert_eq!(balancer.add(r#"{"n":2}"#)["N"], 3);
    let why = balancer.command("/add", r#"{"n":1}"#).refusal(400);
    assert!(why.contains("at most 3"), "{why}");
    assert_eq!(balancer.rm(r#"{"n":1}"#)["N"], 2);
    assert_eq!(balancer.add(r#"{"n":1}"#)["N"], 3);
}

/// A command of the replicas whose behaviour depends on the name.
const MOODS: &str = r#"case "$SERVER_ID" in
  *bad) echo "no licence found" >&2; exit 7 ;;
  *mute) exec sleep 1000 ;;
  *late) sleep 0.3; exit 9 ;;
  *slow) sleep 1 ;;
esac"#;

#[test]
fn an_addition_is_all_or_nothing() {
    let home = Home::new();
    let command = home.command(MOODS);
    let balancer = home.start_full(2, &["--command", &command, "--start-deadline", "1500ms"]);
    let before = (balancer.ring(), balancer.rep());
    let load = Load::start(balancer.traffic, 1);
    let cases = [
        (r#"{"n":3,"hostnames":["S1","S.bad"]}"#, "S.bad", "no licence found"),
        (r#"{"n":2,"hostnames":["S.mute","S1"]}"#, "S.mute", "within 1.5s"),
        (r#"{"n":2,"hostnames":["S1","S.late"]}"#, "S.late", "code 9"),
    ];
    for (body, who, expected) in cases {
        let answer = balancer.command("/add", body);
        let why = answer.refusal(503);
        assert!(why.contains(who) && why.contains(expected), "{why}");
        assert!(answer.header("retry-after").is_some(), "{why}");
        assert_eq!((balancer.ring(), balancer.rep()), before, "{body}");
        assert_eq!(balancer.children().len(), 2, "{body}");
    }
    load.all_answered();
    // The names of a failed addition are free, and it has no effect on the next one.
    assert_eq!(balancer.add(r#"{"n":2,"names":["S1","S2"]}"#)["added"], json!(["S1", "S2"]));
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let home = Home::new();
    let balancer =
        home.start(&["--replicas", "0", "--command", "/nowhere/program --with arguments"]);
    let why = balancer.command("/add", r#"{"n":1}"#).refusal(503);
    assert!(why.contains("'/nowhere/program' cannot be started"), "{why}");
    let why = get(balancer.traffic, "/home").refusal(503);
    assert!(why.contains("No replica"), "{why}");
}

#[test]
fn replicas_that_are_not_in_service_are_removed_before_the_newest() {
    let home = Home::new();
    // The second replica is never admitted.
    let command = home.command(r#"[ "$RINGMASTER_REPLICA" != 2 ] || exit 1"#);
    let balancer = home.start(&["--replicas", "4", "--command", &command]);
    eventually("three are in service", || balancer.rep().len() == 3);
    assert_eq!(balancer.rep(), ["server_1", "server_3", "server_4"]);
    let status = balancer.status();
    let second = &status["replicas"][1];
    assert_eq!((&status["desired"], &second["id"]), (&json!(4), &json!(2)));
    let last_name = second["name"].as_str().unwrap().to_owned();
    let preview = balancer.command("/rm?dry_run=true", r#"{"n":2}"#).message();
    let after = preview["after"]["replicas"].as_array().unwrap();
    let left: Vec<&Value> = after.iter().map(|replica| &replica["id"]).collect();
    assert_eq!(left, [1, 3]);
    let removed = balancer.rm(r#"{"n":3,"hostnames":["server_1"]}"#);
    assert_eq!(removed["removed"], json!(["server_1", last_name, "server_4"]));
    assert_eq!(removed["replicas"], json!(["server_3"]));
    // N stays 1: no replica comes back.
    assert_eq!(balancer.status()["desired"], 1);
}

#[test]
fn a_replacement_takes_its_predecessors_place_and_slots() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    let before = balancer.ring();
    let child = balancer.child("server_2");
    child.kill();
    eventually("server_2 is gone", || !balancer.rep().contains(&"server_2".to_owned()));
    let rep = balancer.wait_for(3);
    assert_eq!((rep[0].as_str(), rep[2].as_str()), ("server_1", "server_3"));
    assert!(is_drawn(&rep[1]), "{rep:?}");
    let after = balancer.ring();
    assert_eq!(after["digest"], before["digest"]);
    assert_eq!(after["generation"], before["generation"]);
    for (old, new) in
        before["replicas"].as_array().unwrap().iter().zip(after["replicas"].as_array().unwrap())
    {
        assert_eq!((&old["id"], &old["slots"]), (&new["id"], &new["slots"]));
    }
    assert_eq!(after["replicas"][1]["name"], json!(rep[1]));
    let successor = balancer.child(&rep[1]);
    assert_eq!((successor.id, successor.incarnation), (child.id, child.incarnation + 1));

    // The old name is free again, and a replaced replica is removed by its last name.
    let why = balancer.command("/rm", r#"{"n":1,"hostnames":["server_2"]}"#).refusal(400);
    assert!(why.contains("not a replica"), "{why}");
    let added = balancer.add(r#"{"n":1,"hostnames":["server_2"]}"#);
    assert_eq!(added["N"], 4);
    let removed = balancer.rm(&format!(r#"{{"n":1,"hostnames":["{}"]}}"#, rep[1]));
    assert_eq!(removed["replicas"], json!(["server_1", "server_3", "server_2"]));

    // N stays 3 when a replica is replaced.
    balancer.child("server_2").kill();
    eventually("it is replaced", || {
        let rep = balancer.rep();
        rep.len() == 3 && !rep.contains(&"server_2".to_owned())
    });
}

#[test]
fn commands_wait_only_for_each_other() {
    let home = Home::new();
    let command = home.command(MOODS);
    let balancer = home.start_full(2, &["--command", &command, "--workers", "1"]);
    let load = Load::start(balancer.traffic, 1);
    let (traffic, began) = (balancer.traffic, Instant::now());
    let one = |path: &'static str, body: &'static str| {
        let stream = begin(traffic, "POST", path, &[], body).unwrap();
        let path = path.trim_start_matches('/');
        eventually("the command is begun or waits", || {
            let status = balancer.status();
            status["operation"] == path || status["commands_waiting"] != 0
        });
        stream
    };
    let adding = one("/add", r#"{"n":1,"hostnames":["A.slow"]}"#);
    let removing = one("/rm", r#"{"n":1,"hostnames":["A.slow"]}"#);
    // Neither /rep nor traffic waits, although there is only one worker.
    let asked = Instant::now();
    assert_eq!(balancer.rep(), ["server_1", "server_2"]);
    assert_eq!(get(traffic, "/home?id=1").status, 200);
    assert!(asked.elapsed() < Duration::from_millis(700), "{:?}", asked.elapsed());
    let (added, removed) = (answer_of(adding).message(), answer_of(removing).message());
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(added["replicas"], json!(["server_1", "server_2", "A.slow"]));
    assert_eq!(removed["replicas"], json!(["server_1", "server_2"]));
    load.all_answered();
}

fn answer_of(stream: std::net::TcpStream) -> crate::harness::Response {
    crate::harness::finish(stream).unwrap()
}

#[test]
fn a_command_ends_although_its_client_goes_away() {
    let home = Home::new();
    let command = home.command(MOODS);
    let balancer = home.start_full(1, &["--command", &command]);
    for (port, name) in both(&balancer).into_iter().zip(["A.slow", "B.slow"]) {
        let body = format!(r#"{{"n":1,"hostnames":["{name}"]}}"#);
        let stream = begin(port, "POST", "/add", &[], &body).unwrap();
        eventually("it is begun", || balancer.status()["operation"] == "add");
        drop(stream);
        eventually("it ends nevertheless", || balancer.rep().contains(&name.to_owned()));
    }
    // An incomplete request changes nothing.
    let headers = [("Content-Length", "100")];
    let mut stream = begin(balancer.traffic, "POST", "/add", &headers, "").unwrap();
    stream.write_all(br#"{"n":1}"#).unwrap();
    drop(stream);
    assert_eq!(balancer.rm(r#"{"n":1}"#)["replicas"], json!(["server_1", "A.slow"]));
}

#[test]
fn more_than_sixteen_waiting_commands_are_refused() {
    let home = Home::new();
    let command = home.command(MOODS);
    let balancer = home.start_full(1, &["--command", &command]);
    let running = begin(balancer.traffic, "POST", "/add", &[], r#"{"n":1,"names":["A.slow"]}"#);
    eventually("it runs", || balancer.status()["operation"] == "add");
    let send = |path| begin(balancer.traffic, "POST", path, &[], r#"{"n":1}"#).unwrap();
    let waiting: Vec<_> = (0..16).map(|_| send("/rm")).collect();
    eventually("sixteen wait", || balancer.status()["commands_waiting"] == 16);
    for port in both(&balancer) {
        let answer = ask(port, "POST", "/rm", r#"{"n":1}"#);
        let why = answer.refusal(503);
        assert!(why.contains("too many commands are waiting"), "{why}");
        assert!(answer.header("retry-after").is_some());
    }
    // A dry run does not wait.
    assert_eq!(balancer.command("/rm?dry_run=true", r#"{"n":1}"#).status, 200);
    assert_eq!(answer_of(running.unwrap()).message()["N"], 2);
    let sizes: Vec<usize> = waiting
        .into_iter()
        .map(|stream| names(&answer_of(stream).message()["removed"]).len())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 2, "{sizes:?}");
}

#[test]
fn dry_runs_change_nothing_and_are_exact() {
    for placement in ["hash", "polynomial"] {
        let home = Home::new();
        let balancer = home.start_full(3, &["--placement", placement]);
        let before = balancer.ring();
        for (path, body) in [
            ("/add", r#"{"n":2,"hostnames":["S5","S6"]}"#),
            ("/rm", r#"{"n":2,"hostnames":["server_2"]}"#),
            ("/add", r#"{"n":1,"hostnames":["server_2"]}"#),
            ("/rm", r#"{"n":9}"#),
            ("/add", r#"{"n":1,"hostnames":["S9"]}"#),
        ] {
            exact_dry_run(&balancer, path, body);
        }
        assert_ne!(balancer.ring()["generation"], before["generation"]);
    }
}

fn exact_dry_run(balancer: &Balancer, path: &str, body: &str) {
    let before = balancer.ring();
    let children = balancer.children();
    for port in both(balancer) {
        let preview = ask(port, "POST", &format!("{path}?dry_run=true"), body).message();
        assert_eq!(preview["before"], before, "{path} {body}");
        check_moves(&preview, path, body);
    }
    assert_eq!((balancer.ring(), balancer.children()), (before, children), "it was dry");
    let preview = balancer.command(&format!("{path}?dry_run=1"), body).message();
    balancer.command(path, body).message();
    assert_eq!(preview["after"], balancer.ring(), "{path} {body}");
}

/// The parts of a dry run are consistent, and no key moves without need.
fn check_moves(preview: &Value, path: &str, body: &str) {
    let number = |value: &Value| value.as_f64().unwrap();
    let moved = number(&preview["moved_share"]);
    let sum: f64 =
        preview["moves"].as_array().unwrap().iter().map(|one| number(&one["share"])).sum();
    assert!((moved - sum).abs() < 1e-9, "{path} {body}: {preview}");
    assert!((moved - number(&preview["minimum_share"])).abs() < 1e-9, "{path} {body}: {preview}");
    assert!((0.0..=1.0).contains(&moved), "{path} {body}: {moved}");
    let shares = |ring: &Value| -> f64 {
        ring["replicas"].as_array().unwrap().iter().map(|one| number(&one["share"])).sum()
    };
    for ring in [&preview["before"], &preview["after"]] {
        let total = shares(ring);
        assert!(total.abs() < 1e-9 || (total - 1.0).abs() < 1e-9, "{path} {body}: {total}");
    }
}

#[test]
fn a_drained_request_is_finished_before_its_replica_goes() {
    let home = Home::new();
    let balancer = home.start_full(2, &["--drain", "10s"]);
    // Each replica has a request in flight while both are removed.
    let open: Vec<_> = (0..8)
        .map(|id| {
            let target = format!("/process?delay_ms=900&id={id}");
            begin(balancer.traffic, "GET", &target, &[], "").unwrap()
        })
        .collect();
    eventually("all are on their way", || {
        let metrics = get(balancer.admin, "/metrics");
        let in_flight =
            metrics.text().lines().filter(|l| l.starts_with("ringmaster_replica_in_flight{"));
        in_flight
            .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
            .sum::<usize>()
            == 8
    });
    let began = Instant::now();
    assert_eq!(balancer.rm(r#"{"n":2}"#)["N"], 0);
    assert!(began.elapsed() > Duration::from_millis(300), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for stream in open {
        assert_eq!(answer_of(stream).status, 200);
    }
}

#[test]
fn concurrent_commands_never_contradict_each_other() {
    let home = Home::new();
    let balancer = home.start_full(1, &[]);
    let traffic = balancer.traffic;
    let clients: Vec<_> = (0..4)
        .map(|client| {
            thread::spawn(move || {
                for round in 0..3 {
                    let name = format!("C{client}.{round}");
                    let body = format!(r#"{{"n":1,"hostnames":["{name}"]}}"#);
                    let added = ask(traffic, "POST", "/add", &body).message();
                    assert!(names(&added["replicas"]).contains(&name.as_str()), "{added}");
                    let removed = ask(traffic, "DELETE", "/rm", &body).message();
                    assert_eq!(removed["removed"], json!([name]));
                    assert!(!names(&removed["replicas"]).contains(&name.as_str()), "{removed}");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    within(LONG, "all are gone again", || balancer.rep() == ["server_1"]);
    assert_eq!(balancer.children().len(), 1);
}
