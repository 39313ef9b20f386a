//! What only our own codec does, or does in another way than hyper: clients that go, words that must
//! arrive, bodies that are held back on their way. These tests name the engine themselves.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use ringmaster_proxy::{Engine, ProxyConfig};

use crate::support::{Client, Conversation, PATIENCE, Proxy, Replica, eventually, instance};

pub(crate) fn own(replica: &Replica, change: impl FnOnce(&mut ProxyConfig)) -> Proxy {
    let change = |config: &mut ProxyConfig| {
        config.engine = Engine::Own;
        change(config);
    };
    Proxy::with(&[replica.address], change, axum::Router::new())
}

/// A replica that answers when told, and says when it has a request.
pub(crate) fn told() -> (Replica, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (seen, has_request) = mpsc::channel();
    let (answer, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let replica = Replica::start(move |mut conversation, _| {
        while conversation.message().is_some() {
            let _ = seen.send(());
            if wait.lock().unwrap().recv().is_err() {
                return;
            }
            conversation.answer("late");
        }
    });
    (replica, has_request, answer)
}

fn in_flight(proxy: &Proxy) -> u64 {
    proxy.routes.in_flight(instance(1, 1))
}

#[test]
fn a_client_that_has_only_closed_its_half_gets_its_answer() {
    let (replica, has_request, answer) = told();
    let proxy = own(&replica, |_| {});
    // So that there is a connection already: a client that closes while one is made has gone.
    answer.send(()).unwrap();
    assert_eq!(proxy.get("/").text(), "late");
    has_request.recv_timeout(PATIENCE).unwrap();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client.0.reader.get_ref().shutdown(Shutdown::Write).unwrap();
    has_request.recv_timeout(PATIENCE).unwrap();
    thread::sleep(Duration::from_millis(300));
    answer.send(()).unwrap();
    let reply = client.reply();
    assert_eq!((reply.text(), reply.field("connection")), ("late", vec!["close"]));
    assert!(client.0.is_closed());
}

#[test]
fn what_was_sent_before_a_half_was_closed_is_answered() {
    let (replica, has_request, answer) = told();
    let proxy = own(&replica, |_| {});
    (0..4).for_each(|_| answer.send(()).unwrap());
    assert_eq!(proxy.get("/").text(), "late");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3));
    client.0.reader.get_ref().shutdown(Shutdown::Write).unwrap();
    for _ in 0..3 {
        assert_eq!(client.reply().text(), "late");
    }
    assert!(client.0.is_closed());
    assert_eq!(has_request.try_iter().count(), 4);
}

#[test]
fn that_a_client_goes_is_noticed_behind_all_that_it_has_pipelined() {
    let (replica, has_request, _answer) = told();
    let proxy = own(&replica, |config| config.header_bytes_max = 1_024);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1_000));
    has_request.recv_timeout(PATIENCE).unwrap();
    drop(client);
    eventually("it is given up", || in_flight(&proxy) == 0);
}

#[test]
fn a_client_that_goes_is_given_up_and_counted() {
    let (replica, has_request, _answer) = told();
    let proxy = own(&replica, |_| {});
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    has_request.recv_timeout(PATIENCE).unwrap();
    assert_eq!(in_flight(&proxy), 1);
    // It has said nothing more, which may mean that it waits: for two seconds.
    let began = Instant::now();
    drop(client);
    eventually("it is given up", || in_flight(&proxy) == 0);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    // A reset has one meaning only.
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    has_request.recv_timeout(PATIENCE).unwrap();
    let began = Instant::now();
    reset(client);
    eventually("it is given up", || in_flight(&proxy) == 0);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    eventually("both are counted", || proxy.workers.metrics().answered_4xx == 2);
    assert_eq!(proxy.workers.metrics().unserved, 0);
}

/// Closes a connection without reading what is in it, which resets it.
fn reset(client: Client) {
    let stream = client.0.reader.into_inner();
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_refusal_arrives_although_the_client_goes_on_sending() {
    let replica = Replica::echo("a");
    let proxy = own(&replica, |config| config.body_max = Some(1_000));
    for _ in 0..5 {
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n";
        stream.write_all(head).unwrap();
        // All of it is sent before anything is read: closed at once, the kernel would answer with
        // a reset, and that would take the refusal away.
        stream.write_all(&vec![b'x'; 4_000_000]).unwrap();
        let mut client = Client(Conversation::new(stream));
        assert_eq!(client.reply().status(), 413);
        assert!(client.0.is_closed());
    }
}

#[test]
fn what_is_pipelined_waits_and_is_bounded() {
    let (replica, has_request, answer) = told();
    let proxy = own(&replica, |_| {});
    let mut client = proxy.client();
    client.send("GET /first HTTP/1.1\r\nHost: h\r\n\r\n");
    has_request.recv_timeout(PATIENCE).unwrap();
    // Far more than one head: the client is held back until the first is answered.
    let mut socket = client.0.reader.get_ref().try_clone().unwrap();
    let count = 200_000;
    let sender = thread::spawn(move || {
        socket.write_all("GET /more HTTP/1.1\r\nHost: h\r\n\r\n".repeat(count).as_bytes()).is_ok()
    });
    thread::sleep(Duration::from_millis(300));
    assert!(!sender.is_finished(), "more than 6 MB were taken in");
    (0..50).for_each(|_| answer.send(()).unwrap());
    for _ in 0..50 {
        assert_eq!(client.reply().text(), "late");
    }
    client.0.reader.get_ref().shutdown(Shutdown::Both).unwrap();
    assert!(!sender.join().unwrap());
}

/// Each byte of a body both ways is where it was, whatever the sockets take at once.
#[test]
fn a_body_in_chunks_arrives_whole_both_ways_through_narrow_sockets() {
    let replica = Replica::start(|mut conversation, _| {
        while let Some(request) = conversation.message() {
            conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for (number, piece) in request.body.chunks(70_001).enumerate() {
                if number % 7 == 0 {
                    thread::sleep(Duration::from_millis(5));
                }
                conversation.send(format!("{:x};a=b\r\n", piece.len()));
                conversation.send(piece);
                conversation.send("\r\n");
            }
            conversation.send("0\r\n\r\n");
        }
    });
    let proxy = own(&replica, |_| {});
    let whole: Vec<u8> = (0..3_000_000_u32).map(|number| (number / 7 % 251) as u8).collect();
    let mut client = proxy.client();
    let socket = client.0.reader.get_ref().try_clone().unwrap();
    for _ in 0..2 {
        let mut sent = whole.clone();
        let mut socket = socket.try_clone().unwrap();
        let sender = thread::spawn(move || {
            socket
                .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
                .unwrap();
            for size in [1, 2, 900, 65_535, 65_536, 65_537, 100_000].into_iter().cycle() {
                let rest = sent.split_off(size.min(sent.len()));
                socket.write_all(format!("{:x}\r\n", sent.len()).as_bytes()).unwrap();
                socket.write_all(&[&sent[..], b"\r\n"].concat()).unwrap();
                if sent.is_empty() {
                    return;
                }
                sent = rest;
            }
        });
        let reply = client.reply();
        sender.join().unwrap();
        assert!(reply.body == whole, "{} bytes", reply.body.len());
    }
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.0.reader.read(&mut [0]).unwrap(), 0);
    assert_eq!(replica.connections(), 1);
}

#[test]
fn a_replica_cannot_hint_for_ever() {
    let replica = Replica::start(|mut conversation, _| {
        let _ = conversation.message();
        conversation.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(17));
    });
    let proxy = own(&replica, |_| {});
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    for _ in 0..16 {
        assert!(client.0.head().unwrap().starts_with("HTTP/1.1 103 "));
    }
    assert_eq!(client.reply().status(), 502);
}

/// Some servers say so when a connection has rested for too long, and that may cross a request.
#[test]
fn a_timeout_on_a_connection_that_has_rested_is_no_answer() {
    let late = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let replica = Replica::start(move |mut conversation, number| {
        conversation.message().unwrap();
        conversation.answer(&number.to_string());
        if conversation.message().is_some() {
            conversation.send(late);
        }
    });
    let proxy = own(&replica, |_| {});
    let mut client = proxy.client();
    for number in ["0", "1", "2"] {
        assert_eq!(client.get("/").text(), number);
    }
    assert_eq!(proxy.workers.metrics().stale, 2);
    // What may not be done twice is not: the client is told.
    assert_eq!(client.post("POST", "/", "once").status(), 408);
}

#[test]
fn empty_lines_are_no_beginning_of_a_request() {
    let replica = Replica::echo("a");
    let proxy = own(&replica, |config| {
        config.header_read = Duration::from_millis(300);
        config.client_idle = Duration::from_millis(600);
    });
    let mut client = proxy.client();
    assert_eq!(client.get("/").status(), 200);
    client.send("\r\n");
    assert!(client.0.is_closed(), "nothing is said to it");
    assert_eq!(proxy.workers.metrics().header_timeouts, 0);
}

/// What is not served here goes on at the other place with every byte that was read.
#[test]
fn a_connection_with_http_2_is_handed_over_whole() {
    let replica = Replica::answering(|request| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{:05}", request.body.len())
    });
    let proxy = own(&replica, |_| {});
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    // POST / on http://h, of the static table, as far as it has them.
    let head = [&[0x83, 0x86, 0x84, 0x01, 1], &b"h"[..]].concat();
    let data = vec![b'x'; 16_000];
    let mut client = proxy.client();
    // In one write, more of it than hyper reads at first.
    client.send(
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, &[]),
            frame(1, 4, 1, &head),
            frame(0, 0, 1, &data),
            frame(0, 0, 1, &data),
            frame(0, 1, 1, &data),
        ]
        .concat(),
    );
    loop {
        let mut head = [0; 9];
        client.0.reader.read_exact(&mut head).expect("an answer");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        client.0.reader.read_exact(&mut payload).unwrap();
        if head[3] == 0 {
            assert_eq!(payload, b"48000");
            return;
        }
    }
}

/// Nothing else tells a client of HTTP/1.0 that there should have been more.
#[test]
fn a_response_that_ends_with_its_connection_breaks_off_with_a_reset() {
    let (cut, told) = mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let replica = Replica::start(move |mut conversation, _| {
        conversation.message().unwrap();
        conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        told.lock().unwrap().recv().unwrap();
    });
    let proxy = own(&replica, |_| {});
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    client.0.head().unwrap();
    let mut body = [0; 4];
    client.0.reader.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"half");
    cut.send(()).unwrap();
    let error = client.0.reader.read(&mut body).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(proxy.workers.metrics().cut_short, 1);
}
