//! What can be read in two ways: bytes in, and what the replica may see of them.
//!
//! Each case is either refused, with its status and without a word to the replica, or goes on in one
//! form that no two parsers can read differently. After every refusal the connection closes.

mod answers;
mod cases;
mod claims;

use std::sync::{Arc, Mutex};

use self::cases::{
    CASES,
    Fate::{self, GoesOn, Refused},
};
use crate::support::{Client, Proxy, Replica, eventually};

/// What a replica got: whole requests, with the lines of their heads in small letters.
type Seen = Arc<Mutex<Vec<(Vec<String>, String)>>>;

fn watching() -> (Replica, Seen) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let replica = Replica::start(move |mut conversation, _| {
        while let Some(request) = conversation.message() {
            let lines = request.head.lines().map(str::to_ascii_lowercase).collect();
            noted.lock().unwrap().push((lines, request.text().to_owned()));
            conversation.answer("ok");
        }
    });
    (replica, seen)
}

fn check(name: &str, sent: &str, fate: &Fate, proxy: &Proxy, seen: &Seen) {
    seen.lock().unwrap().clear();
    let mut client: Client = proxy.client();
    client.send(sent);
    let status = client.reply().status();
    match fate {
        Refused(expected) => {
            assert_eq!(status, *expected, "{name}");
            assert!(client.0.is_closed(), "{name}: the connection lives on");
            let seen = seen.lock().unwrap();
            assert!(seen.is_empty(), "{name}: a whole request went on: {seen:?}");
        }
        GoesOn { with, without, body } => {
            assert_eq!(status, 200, "{name}");
            let seen = seen.lock().unwrap();
            let [(lines, text)] = &seen[..] else { panic!("{name}: {seen:?}") };
            assert_eq!(text, body, "{name}");
            let begins = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
            for line in *with {
                assert_eq!(begins(line), 1, "{name}: {line} in {lines:?}");
            }
            for line in *without {
                assert_eq!(begins(line), 0, "{name}: {line} in {lines:?}");
            }
            assert!(begins("content-length") + begins("transfer-encoding") <= 1, "{lines:?}");
        }
    }
}

#[test]
fn nothing_can_be_read_in_two_ways() {
    let (replica, seen) = watching();
    let proxy = Proxy::start(&[replica.address]);
    for (name, sent, fate) in CASES {
        check(name, sent, fate, &proxy, &seen);
    }
}

/// The same again byte by byte: how a message is cut changes nothing.
#[test]
fn how_a_message_is_cut_changes_nothing() {
    let (replica, seen) = watching();
    let proxy = Proxy::start(&[replica.address]);
    for (name, sent, fate) in CASES {
        let (head, rest) = sent.split_at(sent.len() / 2);
        seen.lock().unwrap().clear();
        let mut client = proxy.client();
        client.send(head);
        std::thread::sleep(std::time::Duration::from_millis(2));
        client.send(rest);
        let status = client.reply().status();
        let expected = match fate {
            Refused(status) => *status,
            GoesOn { .. } => 200,
        };
        assert_eq!(status, expected, "{name}");
    }
}

#[test]
fn what_breaks_in_the_middle_of_a_body_is_not_finished_for_the_replica() {
    let (replica, seen) = watching();
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    eventually("the replica is reached", || replica.connections() == 1);
    client.send("zz\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.reply().status(), 400);
    assert!(client.0.is_closed());
    assert!(seen.lock().unwrap().is_empty(), "no whole request came");
    // Its connection is not used again.
    assert_eq!(proxy.get("/next").status(), 200);
    assert_eq!(replica.connections(), 2);
}

#[test]
fn trailers_cannot_say_what_belongs_in_a_head() {
    let replica = Replica::start(|mut conversation, _| {
        while let Some(request) = conversation.message() {
            let got = request.trailers.join(";");
            let length = got.len();
            conversation.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, set-cookie\r\n\
                 \r\n{length:x}\r\n{got}\r\n0\r\nSet-Cookie: a=b\r\nContent-Length: 9\r\n\
                 X-Sum: 2\r\n\r\n"
            ));
        }
    });
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
         Trailer: x-sum, authorization, host, content-length\r\n\r\n3\r\nabc\r\n0\r\n\
         Authorization: Basic x\r\nHost: evil\r\nContent-Length: 7\r\nX-Sum: 1\r\n\r\n",
    );
    let reply = client.reply();
    assert_eq!(reply.text().to_ascii_lowercase(), "x-sum: 1");
    let trailers: Vec<_> = reply.trailers.iter().map(|line| line.to_ascii_lowercase()).collect();
    assert_eq!(trailers, ["x-sum: 2"]);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Fields as HPACK literals, which can say anything.
fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// What comes back for a stream with these fields: a status, or `None` when it is reset.
fn over_http2(proxy: &Proxy, fields: &[(&str, &str)], data: Option<&str>) -> Option<String> {
    use std::io::Read as _;
    let pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "h")];
    let head = literals(&[&pseudo[..], fields].concat());
    let flags = if data.is_some() { 4 } else { 5 };
    let mut client = proxy.client();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send([frame(4, 0, 0, &[]), frame(1, flags, 1, &head)].concat());
    if let Some(data) = data {
        client.send(frame(0, 1, 1, data.as_bytes()));
    }
    loop {
        let mut head = [0; 9];
        client.0.reader.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        client.0.reader.read_exact(&mut payload).ok()?;
        match (head[3], head[8]) {
            // A head: the status is the first field, from the static table or as a literal.
            (1, 1) => {
                return Some(match payload[0] {
                    0x88 => "200".into(),
                    0x8c => "400".into(),
                    other => format!("{other:x}"),
                });
            }
            (3, 1) | (7, _) => return None,
            _ => {}
        }
    }
}

#[test]
fn nothing_is_smuggled_through_http_2() {
    let (replica, seen) = watching();
    let proxy = Proxy::start(&[replica.address]);
    assert_eq!(over_http2(&proxy, &[("x", "a")], None).as_deref(), Some("200"));
    assert_eq!(over_http2(&proxy, &[("content-length", "3")], Some("abc")).as_deref(), Some("200"));
    let head = seen.lock().unwrap().pop().unwrap();
    assert_eq!((head.1.as_str(), seen.lock().unwrap().len()), ("abc", 1));
    seen.lock().unwrap().clear();
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>);
    let refused: [Case<'_>; 12] = [
        ("a line in a value", &[("x", "a\r\nHost: evil")], None),
        ("a line feed in a value", &[("x", "a\nb")], None),
        ("a null byte in a value", &[("x", "a\0b")], None),
        ("a line in a name", &[("x\r\ny", "a")], None),
        ("a name in capitals", &[("X", "a")], None),
        ("a colon in a name", &[("x: y", "a")], None),
        ("connection", &[("connection", "close")], None),
        ("transfer-encoding", &[("transfer-encoding", "chunked")], Some("abc")),
        ("te of another kind", &[("te", "gzip")], None),
        ("a body longer than it says", &[("content-length", "2")], Some("abc")),
        ("a body shorter than it says", &[("content-length", "4")], Some("abc")),
        ("a path given twice", &[(":path", "/b")], None),
    ];
    for (name, fields, data) in refused {
        let answer = over_http2(&proxy, fields, data);
        assert!(answer.is_none() || answer.as_deref() == Some("400"), "{name}: {answer:?}");
        assert!(seen.lock().unwrap().is_empty(), "{name}: {:?}", seen.lock().unwrap());
    }
    let hosts = over_http2(&proxy, &[("host", "another")], None);
    assert_eq!(hosts.as_deref(), Some("400"), "a host that contradicts the authority");
}
