//! Every limit has a status and a count of its own, and harms nobody else.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, Proxy, Replica, eventually};
use ringmaster_proxy::{ProxyConfig, Totals};

fn with(change: impl FnOnce(&mut ProxyConfig)) -> (Proxy, Replica) {
    let replica = Replica::echo("a");
    (Proxy::with(&[replica.address], change, axum::Router::new()), replica)
}

/// The status of an answer after which the connection ends.
fn last_status(client: &mut Client) -> u16 {
    let reply = client.reply();
    let why = reply.text().to_owned();
    assert!(why.is_empty() || why.contains("<Error> "), "{why}");
    assert_eq!(reply.field("connection"), ["close"], "{}", reply.head);
    assert!(client.0.is_closed());
    reply.status()
}

fn counted(proxy: &Proxy, what: &str, part: impl Fn(&Totals) -> u64) {
    eventually(what, || part(&proxy.workers.metrics()) == 1);
}

#[test]
fn a_long_target_is_414() {
    let (proxy, replica) = with(|config| config.uri_max = 100);
    let mut client = proxy.client();
    let target = format!("/{}", "x".repeat(99));
    assert_eq!(client.get(&target).status(), 200, "exactly as long as it may be");
    client.send(format!("GET {target}y HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(last_status(&mut client), 414);
    counted(&proxy, "the count", |totals| totals.uris_too_long);
    assert_eq!(replica.connections(), 1);
}

#[test]
fn a_large_body_is_413_announced_or_not() {
    let (proxy, _replica) = with(|config| config.body_max = Some(1_000));
    let mut client = proxy.client();
    assert_eq!(client.post("POST", "/", &"x".repeat(1_000)).status(), 200);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n");
    assert_eq!(last_status(&mut client), 413);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(format!("3e8\r\n{}\r\n", "x".repeat(1_000)));
    client.send("1\r\ny\r\n0\r\n\r\n");
    assert_eq!(last_status(&mut client), 413);
    eventually("both are counted", || proxy.workers.metrics().bodies_too_large == 2);
    assert_eq!(proxy.get("/next").text(), "a /next");
}

#[test]
fn a_body_that_is_read_for_its_key_is_limited_too() {
    let (proxy, _replica) = with(|config| {
        config.body_max = Some(1_000);
        config.keys = "body:/id".parse().unwrap();
        config.key_body_max = 500;
    });
    let chunk = |length: usize| format!("{length:x}\r\n{}\r\n", "x".repeat(length));
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    // Within the limit, though beyond what is read for a key.
    let mut client = proxy.client();
    client.send(format!("{head}{}{}0\r\n\r\n", chunk(600), chunk(400)));
    assert_eq!(client.reply().status(), 200);
    for beyond in [format!("{}{}", chunk(600), chunk(401)), chunk(1_001)] {
        let mut client = proxy.client();
        client.send(format!("{head}{beyond}0\r\n\r\n"));
        assert_eq!(last_status(&mut client), 413);
    }
    eventually("both are counted", || proxy.workers.metrics().bodies_too_large == 2);
    assert_eq!(proxy.get("/next").text(), "a /next");
}

#[test]
fn a_large_head_is_431() {
    let (proxy, replica) = with(|config| {
        config.header_bytes_max = 8 * 1024;
        config.headers_max = 10;
    });
    let mut client = proxy.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(9_000)));
    assert_eq!(last_status(&mut client), 431);
    let mut client = proxy.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: 1\r\n".repeat(10)));
    assert_eq!(last_status(&mut client), 431);
    eventually("both are counted", || proxy.workers.metrics().heads_too_large == 2);
    assert_eq!(replica.connections(), 0);
}

#[test]
fn a_head_that_is_not_http_is_400() {
    let (proxy, replica) = with(|_| {});
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost : h\r\n\r\n");
    assert_eq!(last_status(&mut client), 400);
    counted(&proxy, "the count", |totals| totals.heads_malformed);
    assert_eq!(replica.connections(), 0);
}

#[test]
fn a_connection_carries_only_so_many_requests() {
    let (proxy, replica) = with(|config| config.requests_per_connection = Some(3));
    let mut client = proxy.client();
    for number in 0..2 {
        let reply = client.get(&format!("/{number}"));
        assert!(reply.field("connection").is_empty(), "{}", reply.head);
    }
    let last = client.get("/2");
    assert_eq!((last.text(), last.field("connection")), ("a /2", vec!["close"]));
    assert!(client.0.is_closed());
    counted(&proxy, "the count", |totals| totals.connections_worn);
    assert_eq!(proxy.get("/3").text(), "a /3");
    assert_eq!(replica.connections(), 1, "the replica's connection lives on");
}

#[test]
fn a_whole_request_has_a_deadline() {
    let replica = Replica::start(|mut conversation, _| {
        while let Some(request) = conversation.message() {
            if request.target() == "/silent" {
                let _ = conversation.is_closed();
                return;
            }
            conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
            for _ in 0..1_000 {
                conversation.send("x");
                thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let change = |config: &mut ProxyConfig| {
        config.request_timeout = Some(Duration::from_millis(300));
        config.first_byte = Duration::from_secs(60);
    };
    let proxy = Proxy::with(&[replica.address], change, axum::Router::new());
    let began = Instant::now();
    assert_eq!(proxy.get("/silent").status(), 504);
    // An answer that trickles is cut, since its head has gone already.
    let mut client = proxy.client();
    client.send("GET /trickle HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.0.head().unwrap();
    assert!(client.0.body(head, false).is_none(), "it broke off");
    assert!(began.elapsed() < Duration::from_secs(5));
    eventually("both are counted", || proxy.workers.metrics().whole_timeouts == 2);
}

#[test]
fn a_client_that_does_not_read_holds_only_its_own_connection() {
    const LARGE: usize = 64 << 20;
    let replica = Replica::start(|mut conversation, _| {
        while let Some(request) = conversation.message() {
            if request.target() != "/large" {
                conversation.answer("small");
                continue;
            }
            conversation.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..64 {
                conversation.send(&piece);
            }
        }
    });
    let change = |config: &mut ProxyConfig| {
        config.workers = 1;
        config.body_idle = Duration::from_millis(300);
    };
    let proxy = Proxy::with(&[replica.address], change, axum::Router::new());
    let mut stuck = proxy.client();
    stuck.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
    for _ in 0..20 {
        assert_eq!(proxy.get("/small").text(), "small");
    }
    eventually("it is closed", || proxy.workers.metrics().connections_closed == 21);
    let read = proxy.workers.metrics().bytes_down;
    assert!(read < LARGE as u64 / 4, "{read} bytes were read for nobody");
}

#[test]
fn a_body_that_trickles_is_408_where_a_rate_is_asked_for() {
    let replica = Replica::start(|mut conversation, _| {
        while let Some(message) = conversation.message() {
            conversation.answer(&message.body.len().to_string());
        }
    });
    let rate = |config: &mut ProxyConfig| config.body_rate_min = Some(1_000);
    let proxy = Proxy::with(&[replica.address], rate, axum::Router::new());
    // Sends so many bytes ten times a second until there is an answer.
    let trickle = |head: &str, piece: &str, most: usize| {
        let mut client = proxy.client();
        client.send(format!("{head} / HTTP/1.1\r\nHost: h\r\nContent-Length: {most}\r\n\r\n"));
        let began = Instant::now();
        client.0.reader.get_ref().set_nonblocking(true).unwrap();
        let mut sent = 0;
        while sent < most && client.0.reader.get_ref().peek(&mut [0]).is_err() {
            client.send(&piece[..piece.len().min(most - sent)]);
            sent += piece.len();
            assert!(began.elapsed() < Duration::from_secs(9), "no end of {head}");
            thread::sleep(Duration::from_millis(100));
        }
        client.0.reader.get_ref().set_nonblocking(false).unwrap();
        client
    };
    thread::scope(|scope| {
        let slow = |head, most| last_status(&mut trickle(head, &"x".repeat(50), most));
        let streamed = scope.spawn(move || slow("POST", 1_000_000));
        let kept = scope.spawn(move || slow("PUT", 10_000));
        let quick =
            scope.spawn(|| trickle("POST", &"x".repeat(400), 24_000).reply().text().to_owned());
        assert_eq!((streamed.join().unwrap(), kept.join().unwrap()), (408, 408));
        assert_eq!(quick.join().unwrap(), "24000");
    });
    // One whose replica takes its time is not slow.
    let late = Replica::start(|mut conversation, _| {
        let head = conversation.head().unwrap();
        thread::sleep(Duration::from_millis(6_000));
        conversation.body(head, false).unwrap();
        conversation.answer("late");
    });
    let proxy = Proxy::with(&[late.address], rate, axum::Router::new());
    assert_eq!(proxy.client().post("POST", "/", &"x".repeat(8 << 20)).text(), "late");
}
