//! The key-value front: nodes that are added and removed by address, and keys that stay where they
//! are.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::json;

use crate::{
    harness::{Balancer, Home, LONG, ask, eventually, get, try_ask},
    seeds::support::{Client, Companion, free_address},
};

const ARGUMENTS: [&str; 6] =
    ["--replicas", "0", "--key", "body:/key,query:key,random", "--heartbeat-path", "/health"];

fn form(balancer: &Balancer, path: &str, address: &str) -> (u16, String) {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!("address={}", address.replace(':', "%3A").replace('/', "%2F"));
    let answer = try_ask(balancer.admin, "POST", path, &headers, &body).unwrap();
    (answer.status, answer.text().to_owned())
}

/// The same as `curl -F` sends it.
fn form_of_parts(balancer: &Balancer, path: &str, part: &str, end: &str) -> (u16, String) {
    let headers = [("Content-Type", "multipart/form-data; boundary=----7f3a")];
    let body = format!("------7f3a\r\nContent-Disposition: form-data; {part}\r\n------7f3a{end}");
    let answer = try_ask(balancer.admin, "POST", path, &headers, &body).unwrap();
    (answer.status, answer.text().to_owned())
}

/// Adds a node, and waits until it gets requests.
fn add(balancer: &Balancer, node: &Companion) {
    let before = balancer.rep().len();
    assert_eq!(form(balancer, "/node/add", &node.url()), (200, String::new()));
    eventually("the node is in service", || balancer.rep().len() == before + 1);
}

/// A request as Go's client writes it.
fn from_go(
    to: std::net::SocketAddr,
    method: &str,
    path: &str,
    body: &serde_json::Value,
) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: Go-http-client/1.1\r\n\
         Content-Length: {}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

struct Front {
    client: Client,
    to: std::net::SocketAddr,
}

impl Front {
    fn new(balancer: &Balancer) -> Self {
        Self { client: Client::connect(balancer.traffic), to: balancer.traffic }
    }

    fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &serde_json::Value,
    ) -> (u16, serde_json::Value) {
        let answer = self.client.send(&from_go(self.to, method, path, body));
        (answer.status, answer.json())
    }
}

#[test]
fn nodes_come_and_go_by_address() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let [one, two] = ["one", "two"].map(Companion::start);
    add(&balancer, &one);
    // Twice is once, however it is written.
    assert_eq!(form(&balancer, "/node/add", &format!("{}/", one.url())), (200, String::new()));
    let query = format!("/node/add?address={}", two.url());
    let added = ask(balancer.admin, "POST", &query, "");
    assert_eq!((added.status, added.text()), (200, ""));
    let names = [&one, &two].map(|node| format!("127.0.0.1-{}", node.address.port()));
    eventually("both are in service", || balancer.rep() == names);

    assert_eq!(form(&balancer, "/node/remove", &one.url()), (200, String::new()));
    assert_eq!(balancer.rep(), [names[1].clone()]);
    // One that is not there is gone already.
    assert_eq!(form(&balancer, "/node/remove", &one.url()), (200, String::new()));
    assert_eq!(form(&balancer, "/node/remove", "http://10.255.0.1:1"), (200, String::new()));
    assert_eq!(balancer.rep(), [names[1].clone()]);
    add(&balancer, &one);
    assert_eq!(balancer.rep(), [names[1].clone(), names[0].clone()]);
}

#[test]
fn nodes_come_and_go_by_a_form_in_parts() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let node = Companion::start("one");
    let part = format!("name=\"address\"\r\n\r\n{}", node.url());
    let ask = |path: &str, part: &str, end: &str| form_of_parts(&balancer, path, part, end);
    assert_eq!(ask("/node/add", &part, "--\r\n"), (200, String::new()));
    let name = format!("127.0.0.1-{}", node.address.port());
    eventually("the node is in service", || balancer.rep() == [name.as_str()]);
    // One that ends too early may lack anything: nothing is removed.
    let (status, why) = ask("/node/remove", &part, "");
    assert!(why.starts_with("the form cannot be read: ") && why.ends_with('\n'), "{why}");
    assert_eq!((status, why.lines().count()), (400, 1), "{why}");
    let file = part.replace("name=", "filename=\"x\"; name=");
    let (status, why) = ask("/node/remove", &file, "--\r\n");
    let expected = "'address' is a file in this form, and must be a plain field\n";
    assert_eq!((status, why.as_str()), (400, expected));
    let long = format!("{part}{}", "x".repeat(70_000));
    let (status, why) = ask("/node/remove", &long, "--\r\n");
    assert_eq!((status, why.as_str()), (413, "the body is larger than 65536 bytes\n"));
    assert_eq!(balancer.rep(), [name]);
    assert_eq!(ask("/node/remove", &part, "--\r\n"), (200, String::new()));
    assert!(balancer.rep().is_empty());
}

#[test]
fn a_node_that_many_add_at_once_is_there_once() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let node = Companion::start("one");
    for path in ["/node/add", "/node/remove"] {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    assert_eq!(form(&balancer, path, &node.url()), (200, String::new()), "{path}");
                });
            }
        });
        let expected = usize::from(path == "/node/add");
        assert_eq!(balancer.status()["desired"], expected, "{path}");
    }
}

#[test]
fn what_cannot_be_a_node_is_refused_in_a_line_of_text() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    for path in ["/node/add", "/node/remove"] {
        assert_eq!(form(&balancer, path, ""), (400, "Address is required\n".into()));
        let without = ask(balancer.admin, "POST", path, "");
        assert_eq!((without.status, without.text()), (400, "Address is required\n"));
        assert_eq!(without.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(without.header("x-content-type-options"), Some("nosniff"));
        for method in ["GET", "PUT", "DELETE"] {
            let refused = ask(balancer.admin, method, path, "");
            assert_eq!((refused.status, refused.text()), (405, "Method not allowed\n"));
            assert_eq!(refused.header("allow"), Some("POST"));
        }
        for address in ["nowhere", "ftp://a:1", "http://a:99999", "http://a b:1", "http://a:1/set"]
        {
            let (status, why) = form(&balancer, path, address);
            assert_eq!(status, 400, "{address}");
            assert!(why.starts_with(&format!("'{address}' is not an address like http")), "{why}");
        }
        let (status, why) = form(&balancer, path, &"x".repeat(70_000));
        assert_eq!((status, why.as_str()), (413, "the body is larger than 65536 bytes\n"));
    }
    assert_eq!(balancer.status()["desired"], 0);
    // Without a node there is no answer, and that is said at once.
    assert_eq!(get(balancer.traffic, "/get?key=a").status, 503);
}

#[test]
fn a_key_is_found_where_it_was_set_as_go_asks_for_it() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let nodes = ["a", "b", "c"].map(Companion::start);
    nodes.iter().for_each(|node| add(&balancer, node));
    let mut front = Front::new(&balancer);
    let keys: Vec<String> = (0..120).map(|number| format!("key {number}")).collect();
    for key in &keys {
        let (status, answer) = front.ask("POST", "/set", &json!({ "key": key, "value": key }));
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    }
    // By the body of a GET on other connections, and by the query.
    for key in &keys {
        let (status, answer) = Front::new(&balancer).ask("GET", "/get", &json!({ "key": key }));
        assert_eq!((status, &answer["value"]), (200, &json!(key)), "{answer}");
        let by_query = get(balancer.traffic, &format!("/get?key={}", key.replace(' ', "%20")));
        assert_eq!(by_query.json()["value"], json!(key));
    }
    // Each is on one node only, and all nodes have some.
    let held = nodes.each_ref().map(|node| {
        let at = |key: &&String| {
            get(node.address, &format!("/get?key={}", key.replace(' ', "%20"))).status == 200
        };
        keys.iter().filter(at).count()
    });
    assert_eq!(held.iter().sum::<usize>(), keys.len(), "{held:?}");
    assert!(held.iter().all(|&held| held > 0), "{held:?}");
    for key in &keys {
        let (status, answer) = front.ask("DELETE", "/delete", &json!({ "key": key }));
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
        assert_eq!(front.ask("GET", "/get", &json!({ "key": key })).0, 404);
    }
}

#[test]
fn a_node_that_dies_costs_its_data_and_no_request() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let mut nodes = ["a", "b", "c"].map(Companion::start);
    nodes.iter().for_each(|node| add(&balancer, node));
    let mut front = Front::new(&balancer);
    let keys: Vec<String> = (0..60).map(|number| format!("key{number}")).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Others read all the time, also at the moment of the death.
        let readers = [0, 1].map(|_| {
            let (balancer, keys, stop) = (&balancer, &keys, &stop);
            scope.spawn(move || {
                let mut front = Front::new(balancer);
                let mut asked = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    for key in keys {
                        let (status, answer) = front.ask("GET", "/get", &json!({ "key": key }));
                        assert!(matches!(status, 200 | 404), "{status} {answer}");
                        asked += 1;
                    }
                }
                asked
            })
        });
        let round = |front: &mut Front| {
            for key in &keys {
                for (method, path) in [("POST", "/set"), ("GET", "/get"), ("DELETE", "/delete")] {
                    let (status, answer) =
                        front.ask(method, path, &json!({ "key": key, "value": 1 }));
                    assert!(status < 500, "{method} {key}: {status} {answer}");
                }
            }
        };
        round(&mut front);
        nodes[1].kill();
        // Before it is known to be dead, and after that.
        round(&mut front);
        eventually("the dead one is out", || balancer.rep().len() == 2);
        round(&mut front);
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    // It comes back by itself when it answers again.
    let _again = Companion::start_at("b", nodes[1].address);
    eventually("it is in service again", || balancer.rep().len() == 3);
}

#[test]
fn a_node_that_does_not_answer_is_added_and_gets_requests_when_it_does() {
    let home = Home::new();
    let balancer = home.start(&ARGUMENTS);
    let address = free_address();
    let began = std::time::Instant::now();
    let added = form(&balancer, "/node/add", &format!("http://{address}"));
    assert_eq!(added, (200, String::new()));
    assert!(began.elapsed() < LONG / 3, "{:?}", began.elapsed());
    assert_eq!(balancer.status()["desired"], 1);
    assert!(balancer.rep().is_empty());
    let _node = Companion::start_at("late", address);
    eventually("it is in service", || balancer.rep().len() == 1);
    // An unhealthy one is passed over until it is well.
    assert_eq!(get(address, "/toggle-health").status, 200);
    let other = Companion::start("other");
    add(&balancer, &other);
    eventually("the unhealthy one is out", || {
        balancer.rep() == [format!("127.0.0.1-{}", other.address.port())]
    });
    assert_eq!(get(address, "/toggle-health").status, 200);
    eventually("it is back", || balancer.rep().len() == 2);
}
