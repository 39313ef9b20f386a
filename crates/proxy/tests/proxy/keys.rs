//! Where keys come from, and that what was read to find one still arrives.

use std::net::SocketAddr;

use crate::support::{Client, Proxy, Replica, eventually, refusing, small};
use ringmaster_proxy::{ProxyConfig, TrustedProxies};

/// A proxy with key sources before replicas that answer with their number and what they got.
struct Keyed {
    proxy: Proxy,
    _replicas: Vec<Replica>,
}

const REPLICAS: usize = 5;

impl Keyed {
    fn by(sources: &str) -> Self {
        Self::with(sources, |_| {})
    }

    fn with(sources: &str, change: impl FnOnce(&mut ProxyConfig)) -> Self {
        let replicas: Vec<Replica> = (0..REPLICAS).map(mirror).collect();
        let addresses: Vec<SocketAddr> = replicas.iter().map(|replica| replica.address).collect();
        let keys = sources.parse().unwrap();
        let proxy = Proxy::with(
            &addresses,
            |config| {
                config.keys = keys;
                change(config);
            },
            axum::Router::new(),
        );
        Self { proxy, _replicas: replicas }
    }

    /// The number of the replica that the ring names for a key.
    fn owner(&self, key: &str) -> usize {
        let ring = self.proxy.routes.current().ring;
        ring.owner(ring.slot_of(key.as_bytes())).unwrap().0.into()
    }

    /// Sends requests made from many keys, each of which must reach its owner.
    fn leads(&self, request: impl Fn(&str) -> String) {
        let mut client = self.proxy.client();
        for number in 0..20 {
            let key = format!("key-{number}");
            client.send(request(&key));
            let reply = client.reply();
            assert_eq!(served_by(&reply), self.owner(&key), "{}", request(&key));
        }
    }
}

/// Answers with its number in a header, and with the request as it came in the body.
fn mirror(number: usize) -> Replica {
    Replica::start(move |mut conversation, _| {
        while let Some(request) = conversation.message() {
            let trailers = small(&request.trailers).join("\n");
            let head = format!(
                "HTTP/1.1 200 OK\r\nX-Served-By: {number}\r\nX-Trailers: {trailers}\r\n\
                 X-Framing: {}{}\r\nX-Forwarded-Seen: {}\r\nContent-Length: {}\r\n\r\n",
                request.field("content-length").join("+"),
                request.field("transfer-encoding").join("+"),
                ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
                    .map(|name| request.field(name).join("+"))
                    .join(" | "),
                request.body.len()
            );
            conversation.send([head.as_bytes(), &request.body].concat());
        }
    })
}

fn served_by(reply: &crate::support::Reply) -> usize {
    assert_eq!(reply.status(), 200, "{}", reply.head);
    reply.field("x-served-by")[0].parse().unwrap()
}

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

#[test]
fn keys_in_the_head_lead_to_their_owner() {
    Keyed::by("header:X-User").leads(|key| get("/", &format!("x-user: {key}\r\n")));
    Keyed::by("cookie:sid")
        .leads(|key| get("/", &format!("Cookie: a=b\r\nCookie: sid2=x; sid={key}; z=1\r\n")));
    Keyed::by("query:user").leads(|key| get(&format!("/a?b=c&user={key}"), ""));
    Keyed::by("path:2").leads(|key| get(&format!("/users/{key}/orders?a=b"), ""));
    Keyed::by("path:3,path:1").leads(|key| get(&format!("/{key}"), ""));
    let by_host = Keyed::by("host");
    by_host
        .leads(|key| format!("GET / HTTP/1.1\r\nHost: {}:8080\r\n\r\n", key.to_ascii_uppercase()));
    by_host.leads(|key| format!("GET http://{key}:81/a HTTP/1.1\r\nHost: claimed\r\n\r\n"));
    let by_path = Keyed::by("path");
    let reply = by_path.proxy.get("/a/b?c=d");
    assert_eq!(served_by(&reply), by_path.owner("/a/b"));
}

#[test]
fn the_first_present_source_wins_and_none_is_counted_as_random() {
    let keyed = Keyed::by("header:X-User,cookie:sid,path:2");
    let mut client = keyed.proxy.client();
    let mut served = |target: &str, lines: &str| {
        client.send(get(target, lines));
        served_by(&client.reply())
    };
    let all = "X-User: alpha\r\nCookie: sid=beta\r\n";
    assert_eq!(served("/a/gamma", all), keyed.owner("alpha"));
    assert_eq!(served("/a/gamma", "Cookie: sid=beta\r\n"), keyed.owner("beta"));
    let long = format!("X-User: {}\r\nCookie: sid=\r\n", "k".repeat(1025));
    assert_eq!(served("/a/gamma", &long), keyed.owner("gamma"));
    assert_eq!(keyed.proxy.workers.metrics().keys_random, 0);
    served("/a", "");
    let totals = keyed.proxy.workers.metrics();
    assert_eq!((totals.keys_too_long, totals.keys_random), (1, 1));
}

fn document(key: &str, padding: usize) -> String {
    let text = format!(r#"{{"user": {{"ids": [0, "{key}"]}}, "pad": ""#);
    format!("{text}{}\"}}", "x".repeat(padding.saturating_sub(text.len() + 2)))
}

fn sized(method: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} / HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn chunked(method: &str, body: &str, pieces: usize) -> String {
    let mut text = format!(
        "{method} / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    for piece in body.as_bytes().chunks(body.len().div_ceil(pieces)) {
        let piece = std::str::from_utf8(piece).unwrap();
        text.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    text + "0\r\nX-Sum: 1\r\n\r\n"
}

const LIMIT: usize = 4096;

#[test]
fn a_key_in_a_body_leads_to_its_owner_and_the_body_arrives_untouched() {
    let keyed = Keyed::with("body:/user/ids/1,header:X-User", |config| config.key_body_max = LIMIT);
    let mut client = keyed.proxy.client();
    for (number, size) in [0, 100, LIMIT - 1, LIMIT].into_iter().enumerate() {
        for method in ["POST", "PUT", "GET"] {
            let key = format!("{method}-{number}");
            let body = document(&key, size);
            client.send(sized(method, &body));
            let reply = client.reply();
            assert_eq!(served_by(&reply), keyed.owner(&key));
            assert_eq!(reply.text(), body);
            assert_eq!(reply.field("x-framing"), [body.len().to_string()]);
            for pieces in [1, 3, 50] {
                client.send(chunked(method, &body, pieces));
                let reply = client.reply();
                assert_eq!(served_by(&reply), keyed.owner(&key));
                assert_eq!(reply.text(), body);
                assert_eq!(reply.field("x-framing"), ["chunked"]);
                assert_eq!(reply.field("x-trailers"), ["x-sum: 1"]);
            }
        }
    }
    assert_eq!(keyed.proxy.workers.metrics().keys_unreadable, 0);
}

#[test]
fn a_body_without_a_readable_key_falls_to_the_next_source_and_arrives_untouched() {
    let keyed = Keyed::with("body:/user/ids/1,header:X-User", |config| config.key_body_max = LIMIT);
    let mut client = keyed.proxy.client();
    let mut unreadable = 0;
    let mut goes_on = |request: String, body: &str| {
        let request = request.replacen("Host: h\r\n", "Host: h\r\nX-User: me\r\n", 1);
        client.send(request);
        let reply = client.reply();
        assert_eq!(served_by(&reply), keyed.owner("me"));
        assert!(reply.text() == body, "{} of {} bytes", reply.body.len(), body.len());
        unreadable += 1;
        assert_eq!(keyed.proxy.workers.metrics().keys_unreadable, unreadable);
        reply
    };
    for size in [LIMIT + 1, 3 * LIMIT, 1 << 20] {
        let large = document("other", size);
        assert_eq!(large.len(), size);
        goes_on(sized("POST", &large), &large);
        goes_on(sized("PUT", &large), &large);
        let reply = goes_on(chunked("POST", &large, 7), &large);
        assert_eq!(reply.field("x-framing"), ["chunked"]);
        assert_eq!(reply.field("x-trailers"), ["x-sum: 1"]);
        goes_on(chunked("POST", &large, 900), &large);
    }
    let half = document("other", 100);
    for body in ["user=me", "{}", r#"{"user":{"ids":[0,{}]}}"#, &half[..50]] {
        goes_on(sized("POST", body), body);
        goes_on(chunked("POST", body, 2), body);
    }
}

#[test]
fn a_body_is_not_waited_for_where_the_key_is_known_without_it() {
    let keyed = Keyed::by("header:X-User,body:/a");
    let mut client = keyed.proxy.client();
    let head = "POST / HTTP/1.1\r\nHost: h\r\nX-User: me\r\nContent-Length: 3\r\n\r\n";
    client.send(head);
    let owner = ringmaster_core::fleet::ids::InstanceId {
        replica: ringmaster_core::fleet::ids::ReplicaId(keyed.owner("me") as u32 + 1),
        incarnation: ringmaster_core::fleet::ids::Incarnation(1),
    };
    eventually("the request is with its replica", || keyed.proxy.routes.in_flight(owner) == 1);
    client.send("abc");
    assert_eq!(client.reply().text(), "abc");
    let empty = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    client.send(empty);
    assert_eq!(client.reply().status(), 200);
    assert_eq!(keyed.proxy.workers.metrics().keys_unreadable, 0, "no body is no failure");
}

#[test]
fn a_body_that_was_read_for_its_key_can_be_sent_again() {
    let good = mirror(0);
    let lost = Replica::start(|mut conversation, _| {
        conversation.message();
    });
    for bad in [refusing(), lost.address] {
        let keys = "body:/id".parse().unwrap();
        let change = |config: &mut ProxyConfig| config.keys = keys;
        let proxy = Proxy::with(&[good.address, bad], change, axum::Router::new());
        let key = proxy.query_of(1).trim_start_matches("id=").to_owned();
        let body = format!(r#"{{"id":"{key}"}}"#);
        let mut client = proxy.client();
        for request in [sized("PUT", &body), chunked("PUT", &body, 2)] {
            client.send(request);
            let reply = client.reply();
            assert_eq!((served_by(&reply), reply.text()), (0, body.as_str()));
        }
        assert_eq!(proxy.workers.metrics().retries, 2);
        client.send(sized("POST", &body));
        let expected = if bad == lost.address { 502 } else { 200 };
        assert_eq!(client.reply().status(), expected);
    }
}

/// What Go's client sends for a request with a JSON body.
fn from_go(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:5000\r\nUser-Agent: Go-http-client/1.1\r\n\
         Content-Length: {length}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{body}"
    )
}

const VERBS: [(&str, &str); 3] = [("GET", "/get"), ("POST", "/set"), ("DELETE", "/delete")];

#[test]
fn a_store_is_reached_by_the_key_in_the_body_of_a_get_and_of_a_delete_too() {
    let keyed = Keyed::by("body:/key,query:key");
    let mut client = keyed.proxy.client();
    for number in 0..20 {
        let key = format!("user {number}");
        let owner = keyed.owner(&key);
        let body = format!("{{\"key\":\"{key}\",\"value\":\"v\"}}\n");
        for (method, path) in VERBS {
            client.send(from_go(method, path, &body));
            let reply = client.reply();
            assert_eq!((served_by(&reply), reply.text()), (owner, body.as_str()), "{method}");
            let framing = format!("{}", body.len());
            assert_eq!(reply.field("x-framing"), [framing], "{method}");
        }
        // The same key without a body.
        let reply = client.get(&format!("/get?key=user+{number}"));
        assert_eq!((served_by(&reply), reply.text()), (owner, ""));
    }
    let totals = keyed.proxy.workers.metrics();
    assert_eq!((totals.keys_random, totals.keys_unreadable), (0, 0));
}

#[test]
fn the_body_of_a_get_goes_with_it_to_the_next_replica() {
    let good = mirror(0);
    let lost = Replica::start(|mut conversation, _| {
        conversation.message();
    });
    for (bad, is_seen) in [(refusing(), false), (lost.address, true)] {
        let keys = "body:/key,query:key".parse().unwrap();
        let change = |config: &mut ProxyConfig| config.keys = keys;
        let proxy = Proxy::with(&[good.address, bad], change, axum::Router::new());
        let key = proxy.query_of(1).trim_start_matches("id=").to_owned();
        let body = format!(r#"{{"key":"{key}","value":1}}"#);
        let mut client = proxy.client();
        let mut retries = 0;
        for (method, path) in VERBS {
            client.send(from_go(method, path, &body));
            let reply = client.reply();
            if is_seen && method == "POST" {
                assert_eq!(reply.status(), 502, "what it did once must not be done twice");
                continue;
            }
            retries += 1;
            assert_eq!((served_by(&reply), reply.text()), (0, body.as_str()), "{method}");
            assert_eq!(proxy.workers.metrics().retries, retries, "{method}");
        }
    }
}

#[test]
fn who_asks_before_sending_a_body_is_told_to_go_on() {
    let keyed = Keyed::by("body:/id");
    let ask = |client: &mut Client| {
        client.send(
            "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n",
        );
    };
    let mut client = keyed.proxy.client();
    ask(&mut client);
    assert_eq!(client.0.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send(r#"{"id":"a"}"#);
    let reply = client.reply();
    assert_eq!((served_by(&reply), reply.text()), (keyed.owner("a"), r#"{"id":"a"}"#));
    let keys = "body:/id".parse().unwrap();
    let nobody = Proxy::with(&[], |config| config.keys = keys, axum::Router::new());
    let mut client = nobody.client();
    ask(&mut client);
    assert_eq!(client.reply().status(), 503, "the body is not even asked for");
}

#[test]
fn a_body_that_breaks_off_or_stands_still_before_its_key_is_the_clients_fault() {
    let keyed =
        Keyed::with("body:/id", |config| config.first_byte = std::time::Duration::from_millis(200));
    let mut client = keyed.proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n{\"id\"");
    assert_eq!(client.reply().status(), 408);
    assert!(client.0.is_closed());
    let mut client = keyed.proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n");
    assert_eq!(client.reply().status(), 400);
    assert!(client.0.is_closed());
}

fn trusting(networks: &[&str]) -> Keyed {
    let trusted = TrustedProxies::parse(networks.iter().copied()).unwrap();
    Keyed::with("client_ip", |config| config.trusted_proxies = trusted)
}

const FORWARDED: &str = "X-Forwarded-For: 6.6.6.6, 9.8.7.6\r\nX-Forwarded-For: 127.0.0.2\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Host: outside\r\n";

#[test]
fn a_trusted_proxy_is_believed_and_added_to() {
    let keyed = trusting(&["10.0.0.0/8", "127.0.0.0/8"]);
    let mut client = keyed.proxy.client();
    client.send(get("/", FORWARDED));
    let reply = client.reply();
    assert_eq!(served_by(&reply), keyed.owner("9.8.7.6"));
    assert_eq!(
        reply.field("x-forwarded-seen"),
        ["6.6.6.6, 9.8.7.6, 127.0.0.2, 127.0.0.1 | https | outside"]
    );
    client.send(get("/", ""));
    let reply = client.reply();
    assert_eq!(served_by(&reply), keyed.owner("127.0.0.1"));
    assert_eq!(reply.field("x-forwarded-seen"), ["127.0.0.1 | http | h"]);
    for number in 0..20 {
        let address = format!("9.8.7.{number}");
        client.send(get("/", &format!("X-Forwarded-For: {address}\r\n")));
        assert_eq!(served_by(&client.reply()), keyed.owner(&address));
    }
}

#[test]
fn anybody_else_is_replaced() {
    for keyed in [trusting(&[]), trusting(&["10.0.0.0/8", "127.0.0.2", "::1"])] {
        let mut client = keyed.proxy.client();
        client.send(get("/", FORWARDED));
        let reply = client.reply();
        assert_eq!(served_by(&reply), keyed.owner("127.0.0.1"));
        assert_eq!(reply.field("x-forwarded-seen"), ["127.0.0.1 | http | h"]);
    }
}

#[test]
fn an_ipv4_peer_on_an_ipv6_socket_is_an_ipv4_peer() {
    let trusted = TrustedProxies::parse(["127.0.0.1"]).unwrap();
    let keyed = Keyed::with("client_ip", |config| {
        config.listen = "[::]:0".parse().unwrap();
        config.trusted_proxies = trusted;
    });
    let mut client = Client::connect(([127, 0, 0, 1], keyed.proxy.address.port()).into());
    client.send(get("/", FORWARDED.split_inclusive("\r\n").next().unwrap()));
    let reply = client.reply();
    assert_eq!(served_by(&reply), keyed.owner("9.8.7.6"));
    assert_eq!(reply.field("x-forwarded-seen"), ["6.6.6.6, 9.8.7.6, 127.0.0.1 | http | h"]);
}
