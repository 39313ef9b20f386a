//! Clients that say nothing, or never to the end: they keep nobody else out.

use std::{
    io::Read as _,
    time::{Duration, Instant},
};

use http::StatusCode;
use ringmaster_proxy::ProxyConfig;

use super::{connect, get, run, text};
use crate::support::{Client, Proxy, Replica, eventually};

const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_READ: Duration = Duration::from_secs(1);
/// Half as long again as what a head may take, and time for a busy machine.
const SOON: Duration = Duration::from_millis(4_500);

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The header block of a request to a path: literals, as HPACK has them.
fn block(method: &str, path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [(":method", method), (":scheme", "http"), (":path", path), (":authority", "h")]
        .iter()
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect()
}

/// What comes first, and then what a kind of silent client sends.
fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let head = block("POST", "/body");
    let begin = |more: &[u8]| [PREFACE.as_bytes(), &frame(4, 0, 0, &[]), more].concat();
    vec![
        ("nothing", Vec::new()),
        ("half a preface", PREFACE.as_bytes()[..8].to_vec()),
        ("a preface", PREFACE.as_bytes().to_vec()),
        ("half of the settings", begin(&[])[..30].to_vec()),
        ("settings", begin(&[])),
        ("settings and a ping", begin(&frame(6, 0, 0, &[7; 8]))),
        ("half of a frame's head", begin(&frame(1, 4, 1, &head)[..5])),
        ("half of a frame", begin(&frame(1, 4, 1, &head)[..20])),
        ("half of a header block", begin(&frame(1, 0, 1, &head))),
        ("a block that goes on", begin(&[frame(1, 0, 1, &head), frame(9, 0, 1, b"")].concat())),
        ("a stream without its body", begin(&frame(1, 4, 1, &head))),
        (
            "half of a body's frame",
            begin(&[frame(1, 4, 1, &head), frame(0, 0, 1, &[0; 100])[..50].to_vec()].concat()),
        ),
        ("a stream without an answer", begin(&frame(1, 5, 1, &block("GET", "/never")))),
    ]
}

fn replica() -> Replica {
    Replica::start(|mut conversation, _| {
        while let Some(request) = conversation.message() {
            if request.target() == "/never" {
                let _ = conversation.is_closed();
                return;
            }
            conversation.answer("a");
        }
    })
}

fn proxy(replica: &Replica, change: impl FnOnce(&mut ProxyConfig)) -> Proxy {
    let all = |config: &mut ProxyConfig| {
        config.header_read = HEADER_READ;
        config.connections_max = 50;
        change(config);
    };
    Proxy::with(&[replica.address], all, axum::Router::new())
}

/// Whether a stranger is served.
fn is_served(proxy: &Proxy) -> bool {
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client.0.message().is_some_and(|reply| reply.status() == 200)
}

#[test]
fn sixty_silent_connections_of_each_kind_shut_nobody_out_for_long() {
    let replica = replica();
    let one = |name: &'static str, bytes: Vec<u8>| {
        let proxy = proxy(&replica, |_| {});
        let began = Instant::now();
        let silent: Vec<Client> = (0..60)
            .map(|_| {
                let mut client = proxy.client();
                client.send(&bytes);
                client
            })
            .collect();
        eventually("they are all there", || {
            let totals = proxy.workers.metrics();
            totals.connections_accepted + totals.connections_shed == 60
        });
        assert!(!is_served(&proxy), "{name}: the test has not begun to be one");
        while !is_served(&proxy) {
            assert!(began.elapsed() < SOON, "{name}: nobody is served");
            std::thread::sleep(Duration::from_millis(20));
        }
        while proxy.workers.open_connections() > 0 {
            assert!(began.elapsed() < SOON, "{name}: some are open");
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(silent);
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = kinds()
            .into_iter()
            .map(|(name, bytes)| (name, scope.spawn(move || one(name, bytes))))
            .collect();
        let failed: Vec<_> = running
            .into_iter()
            .filter_map(|(name, one)| one.join().is_err().then_some(name))
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
    });
}

#[test]
fn a_header_block_that_trickles_ends_the_connection_in_time() {
    let replica = replica();
    let proxy = proxy(&replica, |_| {});
    let mut client = proxy.client();
    client.send(
        [PREFACE.as_bytes(), &frame(4, 0, 0, &[]), &frame(1, 1, 1, &block("GET", "/"))].concat(),
    );
    let began = Instant::now();
    while proxy.workers.open_connections() > 0 || began.elapsed() < HEADER_READ / 2 {
        client.send(frame(9, 0, 1, b""));
        assert!(began.elapsed() < SOON, "it goes on for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn one_that_was_told_to_go_and_does_not_is_closed() {
    let replica = replica();
    let proxy = proxy(&replica, |config| config.client_idle = Duration::from_millis(300));
    let mut client = proxy.client();
    let request = frame(1, 5, 1, &block("GET", "/"));
    client.send([PREFACE.as_bytes(), &frame(4, 0, 0, &[]), &request].concat());
    let began = Instant::now();
    let mut all = Vec::new();
    // Until the other side closes: the answer to our request, and the notice.
    client.0.reader.read_to_end(&mut all).unwrap();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(all.windows(9).any(|head| head[3] == 7 && head[5..] == [0; 4]), "there was a GOAWAY");
}

#[test]
fn who_answers_pings_may_wait_and_who_reads_an_answer_need_not() {
    const LONG: Duration = Duration::from_millis(3_500);
    let replica = Replica::start(|mut conversation, _| {
        while let Some(request) = conversation.message() {
            if request.target() == "/late" {
                std::thread::sleep(LONG);
                conversation.answer("late");
                continue;
            }
            conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
            for _ in 0..7 {
                std::thread::sleep(LONG / 7);
                conversation.send("x");
            }
        }
    });
    let proxy = proxy(&replica, |_| {});
    std::thread::scope(|scope| {
        scope.spawn(|| {
            run(async {
                let mut sender = connect(proxy.address).await;
                let answer = text(sender.send_request(get("/late")).await.unwrap()).await;
                assert_eq!(answer, (StatusCode::OK, "late".into()));
                let answer = text(sender.send_request(get("/slow")).await.unwrap()).await;
                assert_eq!(answer, (StatusCode::OK, "xxxxxxx".into()), "on the same connection");
            });
        });
        // This one never answers a ping, and is sent something all the time.
        let mut client = proxy.client();
        let request = frame(1, 5, 1, &block("GET", "/slow"));
        client.send([PREFACE.as_bytes(), &frame(4, 0, 0, &[]), &request].concat());
        let mut read = 0;
        while read < 7 {
            let mut head = [0; 9];
            client.0.reader.read_exact(&mut head).unwrap();
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            client.0.reader.read_exact(&mut payload).unwrap();
            assert_ne!(head[3], 7, "a GOAWAY after {read} bytes");
            read += if head[3] == 0 { payload.len() } else { 0 };
        }
    });
    assert_eq!(proxy.workers.metrics().connections_accepted, 2);
}

#[test]
fn who_reads_no_answers_over_http_1_is_closed() {
    let replica = Replica::start(|mut conversation, _| {
        while conversation.message().is_some() {
            conversation.answer(&"x".repeat(30_000));
        }
    });
    let proxy = proxy(&replica, |config| {
        config.client_idle = Duration::from_millis(300);
        config.body_idle = Duration::from_millis(300);
        config.first_byte = Duration::from_millis(600);
    });
    let mut client = proxy.client();
    for _ in 0..2_000 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    let began = Instant::now();
    while proxy.workers.open_connections() > 0 {
        assert!(began.elapsed() < SOON, "it is open for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
}
