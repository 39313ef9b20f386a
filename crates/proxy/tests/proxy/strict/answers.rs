//! Answers of replicas whose length can be read in two ways never reach a client.

use crate::support::{Client, Proxy, Replica};

/// What a replica answers, whatever it is asked; and the connections that it was asked on.
fn answering(answer: &'static str) -> (Replica, Proxy) {
    let replica = Replica::start(move |mut conversation, _| {
        while conversation.message().is_some() {
            conversation.send(answer);
        }
    });
    let proxy = Proxy::start(&[replica.address]);
    (replica, proxy)
}

#[test]
fn an_answer_with_two_lengths_is_refused_and_its_connection_closed() {
    let chunks = "\r\n5\r\nhello\r\n0\r\n\r\n";
    let heads = [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 15\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: gzip\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    ];
    for head in heads {
        let answer: &str = Box::leak(format!("{head}{chunks}").into_boxed_str());
        let (replica, proxy) = answering(answer);
        let mut client = proxy.client();
        for _ in 0..2 {
            let reply = client.get("/");
            assert_eq!(reply.status(), 502, "{head}: {} {}", reply.head, reply.text());
            assert!(reply.text().contains("could not be understood"), "{head}: {}", reply.text());
        }
        assert_eq!(replica.connections(), 2, "{head}: its connection is not used again");
        assert_eq!(proxy.workers.metrics().bad_answers, 2, "{head}");
    }
}

#[test]
fn one_length_said_twice_is_one_length() {
    let (replica, proxy) =
        answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc");
    let mut client = proxy.client();
    for _ in 0..2 {
        let reply = client.get("/");
        assert_eq!((reply.text(), reply.field("content-length")), ("abc", vec!["3"]));
    }
    assert_eq!(replica.connections(), 1);
}

/// The head of the answer to a request for a head.
fn head_of(client: &mut Client) -> crate::support::Reply {
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    client.bare_reply()
}

#[test]
fn where_no_body_comes_a_length_is_only_told() {
    let (replica, proxy) = answering("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n");
    let mut client = proxy.client();
    assert_eq!(head_of(&mut client).field("content-length"), ["30"]);
    assert_eq!(head_of(&mut client).field("content-length"), ["30"]);
    assert_eq!(replica.connections(), 1);
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (_replica, proxy) = answering(both);
    let reply = head_of(&mut proxy.client());
    assert_eq!((reply.status(), reply.field("transfer-encoding").len()), (200, 0));
    let (_replica, proxy) = answering("HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\n");
    let reply = head_of(&mut proxy.client());
    assert_eq!((reply.status(), reply.field("content-length").len()), (200, 0), "{}", reply.head);
}
