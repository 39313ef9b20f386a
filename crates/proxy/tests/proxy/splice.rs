//! Long answers pass inside the kernel, to the byte, and nobody can tell but by the count.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::support::{Client, Conversation, Proxy, Replica, eventually, splices};
use ringmaster_proxy::ProxyConfig;

/// As long as answers must be to pass inside the kernel, where a test says nothing else.
const LEAST: usize = 64 * 1024;

/// Bytes that differ from place to place.
fn payload(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// The length that a target asks for: `/1000`.
fn asked(target: &str) -> usize {
    target[1..].parse().unwrap()
}

fn head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")
}

/// Answers with as many bytes as the target asks for.
fn replica() -> Replica {
    Replica::start(|mut conversation, _| {
        while let Some(request) = conversation.message() {
            let body = payload(asked(request.target()));
            conversation.send([head(body.len()).as_bytes(), &body].concat());
        }
    })
}

fn proxy(replica: &Replica) -> Proxy {
    Proxy::start(&[replica.address])
}

fn with(replica: &Replica, change: impl FnOnce(&mut ProxyConfig)) -> Proxy {
    Proxy::with(&[replica.address], change, axum::Router::new())
}

fn spliced(proxy: &Proxy) -> u64 {
    proxy.workers.metrics().spliced
}

/// Whether a long answer is on its way: inside the kernel, where answers pass there.
fn is_passing(proxy: &Proxy) -> bool {
    let totals = proxy.workers.metrics();
    if splices() { totals.spliced == 1 } else { totals.bytes_down > 0 }
}

#[test]
fn every_length_arrives_on_connections_that_last() {
    let replica = replica();
    let proxy = proxy(&replica);
    let mut client = proxy.client();
    let mut long = 0;
    for length in [0, 1, LEAST - 1, LEAST, LEAST + 1, 100_000, 1 << 20, 5, 3_000_001, LEAST] {
        long += u64::from(length >= LEAST);
        let reply = client.get(&format!("/{length}"));
        assert_eq!(reply.status(), 200);
        assert!(reply.body == payload(length), "{length} bytes");
    }
    // Of some, hyper has read the larger part before anybody could take over.
    let expected = if splices() { long / 2..=long } else { 0..=0 };
    assert!(expected.contains(&spliced(&proxy)), "{} of {long}", spliced(&proxy));
    assert_eq!(replica.connections(), 1);
    let totals = proxy.workers.metrics();
    assert_eq!((totals.connections_accepted, totals.cut_short), (1, 0));
    let sum = LEAST * 4 + 100_000 + (1 << 20) + 5 + 3_000_001 + 1;
    assert_eq!(totals.bytes_down, sum as u64);
    assert!(
        proxy.is_drained(crate::support::instance(1, 1), Duration::ZERO) || in_flight(&proxy) == 0
    );
}

fn in_flight(proxy: &Proxy) -> u64 {
    proxy.workers.metrics().instances.iter().map(|(_, totals)| totals.in_flight).sum()
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let replica = replica();
    let proxy = proxy(&replica);
    let mut client = proxy.client();
    let lengths = [200_000, 10, LEAST, 300_000, 0, 7];
    let all: String =
        lengths.iter().map(|length| format!("GET /{length} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    client.send(all);
    for length in lengths {
        assert!(client.reply().body == payload(length), "{length} bytes");
    }
    assert_eq!(spliced(&proxy) > 0, splices());
}

#[test]
fn what_cannot_be_taken_apart_is_not() {
    let lines = ["", "Connection: close\r\n"];
    let replica = Replica::start(move |mut conversation, number| {
        let Some(request) = conversation.message() else { return };
        let body = payload(asked(request.target()));
        let head =
            format!("HTTP/1.1 200 OK\r\n{}Content-Length: {LEAST}\r\n\r\n", lines[number % 2]);
        conversation.send(head);
        if !request.head.starts_with("HEAD") {
            conversation.send(body);
        }
        // The conversation ends with each answer, so that every other one says so.
    });
    let proxy = proxy(&replica);
    let whole = payload(LEAST);
    let target = format!("/{LEAST}");
    let mut client = proxy.client();
    client.send(format!("HEAD {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(client.bare_reply().field("content-length"), [LEAST.to_string()]);
    assert!(client.get(&target).body == whole, "a replica that closes");
    for (version, line) in [("1.0", ""), ("1.1", "Connection: close\r\n")] {
        let mut client = proxy.client();
        client.send(format!("GET {target} HTTP/{version}\r\nHost: h\r\n{line}\r\n"));
        let head = client.0.head().unwrap();
        assert!(client.0.body(head, true).unwrap().body == whole, "HTTP/{version} {line}");
        assert!(client.0.is_closed());
    }
    let mut client = proxy.client();
    assert!(client.post("POST", &target, "a body").body == whole);
    assert_eq!(spliced(&proxy), 0);
}

#[test]
fn it_can_be_turned_off_and_down() {
    let replica = replica();
    for (least, expected) in [(0, 0), (20_000, 1)] {
        let proxy = with(&replica, |config| config.splice_min = least);
        let mut client = proxy.client();
        assert!(client.get("/30000").body == payload(30_000));
        assert!(client.get("/10000").body == payload(10_000));
        assert_eq!(spliced(&proxy), if splices() { expected } else { 0 });
    }
}

#[test]
fn each_piece_arrives_before_the_next_is_sent() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let replica = Replica::start(move |mut conversation, _| {
        let wait = wait.lock().unwrap();
        while conversation.message().is_some() {
            conversation.send(head(LEAST));
            for piece in payload(LEAST).chunks(LEAST / 4) {
                wait.recv().unwrap();
                conversation.send(piece);
            }
        }
    });
    let proxy = proxy(&replica);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client.0.head().unwrap();
    for piece in payload(LEAST).chunks(LEAST / 4) {
        go.send(()).unwrap();
        let mut came = vec![0; piece.len()];
        client.0.reader.read_exact(&mut came).unwrap();
        assert!(came == piece);
    }
    assert_eq!(spliced(&proxy), u64::from(splices()));
}

#[test]
fn a_replica_that_dies_in_the_middle_ends_the_clients_connection() {
    let replica = Replica::start(|mut conversation, number| {
        while conversation.message().is_some() {
            let whole = payload(LEAST * 4);
            conversation.send(head(whole.len()));
            conversation.send(&whole[..if number == 0 { LEAST * 3 } else { LEAST * 4 }]);
            if number == 0 {
                return;
            }
        }
    });
    let proxy = proxy(&replica);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client.0.head().unwrap();
    let mut came = Vec::new();
    let _ = client.0.reader.read_to_end(&mut came);
    assert!(came == payload(LEAST * 3));
    eventually("the count", || proxy.workers.metrics().cut_short == 1);
    assert!(proxy.get("/").body == payload(LEAST * 4));
    assert_eq!(replica.connections(), 2);
}

#[test]
fn what_a_replica_sends_behind_the_body_reaches_nobody() {
    let replica = Replica::start(|mut conversation, _| {
        while conversation.message().is_some() {
            let body = payload(LEAST);
            let behind = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            conversation.send([head(body.len()).as_bytes(), &body, behind].concat());
        }
    });
    let proxy = proxy(&replica);
    let mut client = proxy.client();
    for _ in 0..5 {
        let reply = client.get("/");
        assert!(reply.status() == 200 && reply.body == payload(LEAST));
    }
}

#[test]
fn a_client_that_does_not_read_holds_its_replica_back_and_nothing_else() {
    let sent = Arc::new(AtomicUsize::new(0));
    let replica = {
        let sent = Arc::clone(&sent);
        Replica::start(move |mut conversation, number| {
            let piece = payload(LEAST);
            while conversation.message().is_some() {
                conversation.send(head(1 << 30));
                while number == 0 && conversation.reader.get_mut().write_all(&piece).is_ok() {
                    sent.fetch_add(piece.len(), Ordering::SeqCst);
                }
                if number == 0 {
                    sent.store(usize::MAX, Ordering::SeqCst);
                    return;
                }
            }
        })
    };
    let proxy = with(&replica, |config| config.body_idle = Duration::from_secs(2));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client.0.head().unwrap();
    eventually("the splice", || is_passing(&proxy));
    // What fits into the buffers of four sockets and a pipe, and then no more until the deadline.
    eventually("the deadline", || sent.load(Ordering::SeqCst) == usize::MAX);
    assert!(proxy.workers.metrics().bytes_down < 64 << 20);
    // Our own deadline did it: nothing was cut short by the replica.
    assert_eq!(proxy.workers.metrics().cut_short, 0);
    eventually("its end", || in_flight(&proxy) == 0);
}

#[test]
fn a_client_that_goes_frees_the_replica() {
    let (gone, seen) = mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let replica = Replica::start(move |mut conversation, _| {
        let gone = gone.lock().unwrap().clone();
        conversation.message();
        conversation.send(head(1 << 30));
        let piece = payload(LEAST);
        while conversation.reader.get_mut().write_all(&piece).is_ok() {}
        gone.send(()).unwrap();
    });
    let proxy = proxy(&replica);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client.0.head().unwrap();
    eventually("the splice", || is_passing(&proxy));
    drop(client);
    seen.recv_timeout(crate::support::PATIENCE).expect("the replica's connection is closed");
    eventually("its end", || in_flight(&proxy) == 0);
}

#[test]
fn the_last_request_of_a_connection_may_have_a_long_answer() {
    let replica = replica();
    let proxy = with(&replica, |config| config.requests_per_connection = Some(2));
    let mut client = proxy.client();
    assert!(client.get("/100000").body == payload(100_000));
    let reply = client.get("/100000");
    assert!(reply.body == payload(100_000));
    assert_eq!(reply.field("connection"), ["close"]);
    assert!(client.0.is_closed());
}

#[test]
fn a_shutdown_waits_for_what_passes() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let replica = Replica::start(move |mut conversation, _| {
        let wait = wait.lock().unwrap();
        conversation.message();
        conversation.send(head(LEAST));
        conversation.send(&payload(LEAST)[..LEAST / 2]);
        wait.recv().unwrap();
        conversation.send(&payload(LEAST)[LEAST / 2..]);
    });
    let mut proxy = proxy(&replica);
    let mut client =
        Client(Conversation::new(std::net::TcpStream::connect(proxy.address).unwrap()));
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("the splice", || is_passing(&proxy));
    let reading = thread::spawn(move || (client.reply(), client.0.is_closed()));
    let address = proxy.address;
    let later = thread::spawn(move || {
        // Refused: the shutdown has begun.
        eventually("the shutdown", || std::net::TcpStream::connect(address).is_err());
        go.send(()).unwrap();
    });
    proxy.shutdown(crate::support::PATIENCE);
    later.join().unwrap();
    let (reply, is_closed) = reading.join().unwrap();
    assert!(reply.body == payload(LEAST));
    assert!(is_closed);
}
