//! What our own codec makes of peers that break off, hold back or send too much: what is passed on,
//! what is counted, and what another client or the next request sees of it.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use ringmaster_proxy::{AccessLogSettings, LogFormat, ProxyConfig, TrustedProxies};
use serde_json::{Value, json};

use crate::{
    exchange::{own, told},
    log::LogFile,
    support::{PATIENCE, Proxy, Replica, eventually},
};

/// The end of the connection is the end of such a body; a reset is not.
#[test]
fn a_body_without_a_length_whose_connection_breaks_is_not_finished() {
    let (cut, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let replica = Replica::start(move |mut conversation, _| {
        conversation.message().unwrap();
        conversation.send("HTTP/1.1 200 OK\r\n\r\nhalf");
        told.lock().unwrap().recv().unwrap();
        let stream = conversation.reader.into_inner();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    let proxy = own(&replica, |_| {});
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client.0.head().unwrap();
    assert_eq!(client.0.chunk().unwrap(), b"half");
    cut.send(()).unwrap();
    let mut rest = Vec::new();
    // With an end or a reset, but with no last chunk.
    let _ = client.0.reader.read_to_end(&mut rest);
    assert_eq!(rest.escape_ascii().to_string(), "");
    assert_eq!(proxy.workers.metrics().cut_short, 1);
}

/// The key may be in the body, but not in one as large as this.
#[test]
fn a_client_that_waits_to_be_asked_for_a_large_body_is_asked_by_the_replica() {
    let replica = Replica::start(|mut conversation, _| {
        while let Some(head) = conversation.head() {
            if head.to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n") {
                conversation.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            let request = conversation.body(head, false).unwrap();
            conversation.answer(&request.body.len().to_string());
        }
    });
    let proxy = own(&replica, |config| {
        config.keys = "body:/id".parse().unwrap();
        config.key_body_max = 1_000;
    });
    let mut client = proxy.client();
    client
        .send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n");
    assert!(client.0.head().unwrap().starts_with("HTTP/1.1 100 "));
    client.send("x".repeat(1_001));
    assert_eq!(client.reply().text(), "1001");
}

/// The replica takes its time for a body that is not passed on: that is nothing to the client.
#[test]
fn an_answer_of_our_own_does_not_wait_for_the_one_that_it_replaces() {
    let (go_on, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let replica = Replica::start(move |mut conversation, number| {
        while conversation.message().is_some() {
            if number > 0 {
                conversation.answer("x");
                continue;
            }
            conversation.send("HTTP/1.1 404 Not Found\r\nContent-Length: 8\r\n\r\nhalf");
            // Far longer than such a body is waited for.
            let _ = told.lock().unwrap().recv_timeout(PATIENCE);
        }
    });
    let proxy = own(&replica, |config| config.not_found_as_400 = true);
    let mut client = proxy.client();
    let began = std::time::Instant::now();
    assert_eq!(client.get("/a").status(), 400);
    // And neither does the next request, on another connection.
    assert_eq!(client.get("/b").text(), "x");
    assert!(began.elapsed() < Duration::from_millis(800), "{:?}", began.elapsed());
    assert_eq!(replica.connections(), 2);
    go_on.send(()).unwrap();
}

fn logging(file: &LogFile, config: &mut ProxyConfig) {
    let file = Some(file.0.clone());
    config.access_log = Some(AccessLogSettings { format: LogFormat::Json, file, sample: 1.0 });
}

fn logged(file: &LogFile, count: usize) -> Vec<(Value, Value, Value)> {
    let lines = file.wait_for(count).into_iter().map(|line| {
        let mut line: Value = serde_json::from_str(&line).unwrap();
        (line["method"].take(), line["target"].take(), line["status"].take())
    });
    lines.collect()
}

#[test]
fn a_request_that_is_refused_is_logged_with_its_first_line() {
    let (file, replica) = (LogFile::new(), Replica::echo("a"));
    let proxy = own(&replica, |config| {
        logging(&file, config);
        config.uri_max = 100;
    });
    let long = format!("/{}", "x".repeat(5_000));
    for (number, (line, status)) in [
        ("GET /a?b HTTP/1.1\r\n".to_owned(), 400),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n".to_owned(), 405),
        (format!("PUT {long} HTTP/1.1\r\nHost: h\r\n"), 414),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = proxy.client();
        client.send(format!("{line}\r\n"));
        assert_eq!(client.reply().status(), status);
        file.wait_for(number + 1);
    }
    assert_eq!(
        logged(&file, 3),
        [
            (json!("GET"), json!("/a?b"), json!(400)),
            (json!("CONNECT"), json!("h:80"), json!(405)),
            (json!("PUT"), json!(long[..2_048]), json!(414)),
        ]
    );
}

/// A head that has no room for what we add to it.
#[test]
fn a_head_that_becomes_too_large_is_one_request_with_one_answer() {
    let (file, replica) = (LogFile::new(), Replica::echo("a"));
    let proxy = own(&replica, |config| {
        logging(&file, config);
        config.trusted_proxies = TrustedProxies::parse(["127.0.0.0/8"]).unwrap();
        config.header_bytes_max = 65_535;
        config.forwarded = true;
    });
    let (names, ips) = ("for=a;by=".to_owned() + &"b".repeat(32_650), "c".repeat(32_700));
    let host = "h".repeat(100);
    let head = format!("Host: {host}\r\nForwarded: {names}\r\nX-Forwarded-For: {ips}\r\n");
    let mut client = proxy.client();
    client.send(format!("GET /a HTTP/1.1\r\n{head}\r\n"));
    assert_eq!(client.reply().status(), 431);
    assert_eq!(logged(&file, 1), [(json!("GET"), json!("/a"), json!(431))]);
    let metrics = proxy.workers.metrics();
    let counted = (metrics.requests, metrics.answered_4xx, metrics.heads_too_large);
    assert_eq!(counted, (1, 1, 1));
}

/// As much is read ahead as one head may have: here sixteen whole requests.
#[test]
fn all_that_was_sent_before_a_half_was_closed_is_answered_wherever_it_waits() {
    let (replica, has_request, answer) = told();
    let proxy = own(&replica, |config| config.header_bytes_max = 1_024);
    let one = "GET / HTTP/1.1\r\nHost: h\r\nX-Pad: 0123456789012345678901234567\r\n\r\n";
    assert_eq!(one.len(), 64);
    let mut client = proxy.client();
    client.send(one);
    has_request.recv_timeout(PATIENCE).unwrap();
    client.send(one.repeat(100));
    client.0.reader.get_ref().shutdown(Shutdown::Write).unwrap();
    // For some sweeps, so that it is known that the half is closed.
    thread::sleep(Duration::from_millis(300));
    (0..101).for_each(|_| answer.send(()).unwrap());
    for number in 0..101 {
        assert_eq!(client.0.message().map(|reply| reply.status()), Some(200), "{number}");
    }
    assert!(client.0.is_closed());
}

/// A replica that answers at once, and reads on.
fn early(change: impl FnOnce(&mut ProxyConfig)) -> (Replica, Proxy) {
    let replica = Replica::start(|mut conversation, _| {
        conversation.head().unwrap();
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
        let _ = conversation.reader.read_to_end(&mut Vec::new());
    });
    let proxy = own(&replica, change);
    (replica, proxy)
}

#[test]
fn what_is_wrong_with_a_body_behind_an_early_response_is_counted() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n";
    for (rest, large, refused) in [("4\r\nabcd\r\n", 1, 0), ("no size\r\n", 0, 1)] {
        let (_replica, proxy) = early(|config| config.body_max = Some(6));
        let mut client = proxy.client();
        client.send(head);
        client.0.head().unwrap();
        client.0.reader.get_mut().write_all(rest.as_bytes()).unwrap();
        eventually("it is counted", || {
            let metrics = proxy.workers.metrics();
            (metrics.bodies_too_large, metrics.refused_requests) == (large, refused)
        });
    }
}
