//! Interim answers and `Expect: 100-continue`, end to end.

use std::{
    io::Read as _,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, Conversation, Proxy, Replica, small};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\
    Connection: x-hop\r\n\r\n";
const ASK: &str = "POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\
    Expect: 100-continue\r\n\r\n";

fn head(client: &mut Client) -> String {
    client.0.head().expect("a head")
}

/// Answers each request after some hints, the second of them in the same write as the answer.
fn hinting() -> Replica {
    Replica::start(|mut conversation, _| {
        while let Some(request) = conversation.message() {
            conversation.send(HINTS);
            thread::sleep(Duration::from_millis(30));
            let target = request.target();
            let length = target.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}");
            conversation.send(format!("HTTP/1.1 102 Processing\r\n\r\n{answer}"));
        }
    })
}

#[test]
fn hints_come_before_the_answer_they_belong_to() {
    let replica = hinting();
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    // All at once: each hint must be between the right two answers.
    client
        .send((0..5).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")).collect::<String>());
    for number in 0..5 {
        let hints = head(&mut client);
        let expected = "http/1.1 103 early hints\r\nlink: </style.css>; rel=preload\r\n\r\n";
        assert_eq!(small([&hints]), [expected]);
        assert_eq!(head(&mut client), "HTTP/1.1 102 Processing\r\n\r\n");
        assert_eq!(client.reply().text(), format!("/{number}"));
    }
    assert_eq!(replica.connections(), 1);
}

#[test]
fn a_client_of_http_1_0_gets_no_hints() {
    let replica = hinting();
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    client.send("GET /old HTTP/1.0\r\nHost: h\r\n\r\n");
    let answer = head(&mut client);
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_replica_decides_whether_the_body_is_sent() {
    let replica = Replica::start(|mut conversation, _| {
        while let Some(head) = conversation.head() {
            assert!(head.to_ascii_lowercase().contains("expect: 100-continue"), "{head}");
            if head.contains(" /no ") {
                conversation.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            // Nothing of the body may come before it is asked for.
            assert!(is_silent(&mut conversation), "the body came unasked");
            conversation.send("HTTP/1.1 100 Continue\r\n\r\n");
            let body = conversation.body(head, false).unwrap();
            conversation.answer(body.text());
        }
    });
    let proxy = Proxy::start(&[replica.address]);
    for method in ["POST", "PUT"] {
        let mut client = proxy.client();
        client.send(ASK.replace("POST", method));
        assert_eq!(head(&mut client), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("body");
        assert_eq!(client.reply().text(), "body");
        // The connection goes on.
        client.send(ASK.replace("/up", "/no"));
        let refused = head(&mut client);
        assert!(refused.starts_with("HTTP/1.1 417"), "it was not asked for its body: {refused}");
    }
}

/// Whether nothing comes for a while.
fn is_silent(conversation: &mut Conversation) -> bool {
    let stream = conversation.reader.get_ref().try_clone().unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let silent = conversation.reader.buffer().is_empty() && (&stream).read(&mut [0]).is_err();
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    silent
}

#[test]
fn a_replica_that_does_not_know_the_question_gets_the_body_all_the_same() {
    let replica = Replica::echo("a");
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    let began = Instant::now();
    client.send(ASK);
    assert_eq!(head(&mut client), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    client.send("body");
    assert_eq!(client.reply().text(), "a /up");
    assert_eq!(client.get("/next").text(), "a /next");
}

#[test]
fn a_body_that_nobody_was_asked_for_is_tried_on_the_next() {
    let replica = Replica::echo("b");
    let proxy = Proxy::start(&[crate::support::refusing(), replica.address]);
    let mut client = proxy.client();
    let query = proxy.query_of(0);
    client.send(ASK.replace("/up", &format!("/up?{query}")));
    assert_eq!(head(&mut client), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body");
    assert_eq!(client.reply().text(), format!("b /up?{query}"));
}

#[test]
fn hints_of_a_replica_that_then_dies_come_before_our_own_words() {
    let replica = Replica::start(|mut conversation, _| {
        let _ = conversation.message();
        // It says something, and never answers.
        conversation.send(HINTS);
    });
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        assert!(head(&mut client).starts_with("HTTP/1.1 103 "));
        assert_eq!(client.reply().status(), 502);
    }
}
