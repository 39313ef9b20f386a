//! Responses.

use ringmaster_http1::{
    Fault, Framing, Head, Kind, Limits, Method, Scanner, Version,
    framing::Asked,
    interim::CONTINUE,
    request, response,
    write::{self, Connection, ToClient, ToReplica},
};

use crate::support::{End, Passed, however_cut, pass_response, pass_response_to};

const GET: Asked<'static> = Asked { method: Method::Get, upgrade: None };
const HEAD: Asked<'static> = Asked { method: Method::Head, upgrade: None };
const SOCKET: Asked<'static> = Asked { method: Method::Get, upgrade: Some(b"a/1, WebSocket") };

fn passed(name: &str, sent: &str, asked: &Asked<'_>) -> Passed {
    let limits = Limits::default();
    however_cut(sent.as_bytes(), name, |cuts| pass_response(sent.as_bytes(), cuts, asked, &limits))
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let cases = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            Fault::TwoLengths,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            Fault::TwoLengths,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: gzip\r\n", Fault::Coding),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n", Fault::Length),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n", Fault::Length),
        ("HTTP/1.1 200 OK\r\nContent-Length: +3\r\n", Fault::Length),
        ("HTTP/1.1 200 OK\r\nContent-Length: \r\n", Fault::Length),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n", Fault::Coding),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n", Fault::Coding),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n", Fault::Coding),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Fault::Coding,
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n", Fault::Coding),
        // The status line.
        ("\r\nHTTP/1.1 200 OK\r\n", Fault::StartLine),
        ("HTTP/2.0 200 OK\r\n", Fault::StartLine),
        ("HTTP/1.2 200 OK\r\n", Fault::Version),
        ("HTTP/1.1  200 OK\r\n", Fault::StartLine),
        ("HTTP/1.1 20 OK\r\n", Fault::StartLine),
        ("HTTP/1.1 2000 OK\r\n", Fault::StartLine),
        ("HTTP/1.1 099 OK\r\n", Fault::Status),
        ("HTTP/1.1 600 OK\r\n", Fault::Status),
        ("HTTP/1.1 200 O\x01K\r\n", Fault::StartLine),
        ("HTTP/1.1 200 O\rK\r\n", Fault::StartLine),
        ("HTTP/1.1\r\n", Fault::Version),
        // Fields.
        ("HTTP/1.1 200 OK\r\nX : a\r\n", Fault::FieldName),
        ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n", Fault::FieldName),
        ("HTTP/1.1 200 OK\r\nX\r\n", Fault::FieldName),
        ("HTTP/1.1 200 OK\r\nX: a\rb\r\n", Fault::FieldValue),
        ("HTTP/1.1 200 OK\r\nX: a\0b\r\n", Fault::FieldValue),
        // Protocols that were not asked for.
        ("HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n", Fault::Switch),
    ];
    for (head, fault) in cases {
        let passed = passed(head, &format!("{head}\r\n5\r\nhello\r\n0\r\n\r\n"), &GET);
        assert_eq!(passed.end, End::Refused(fault), "{head:?}");
        assert_eq!(passed.status(Kind::Response), Some(502), "{head:?}");
    }
}

/// What comes, for which request, the head that goes on, whether the replica's connection is kept,
/// and the body.
type Case = (&'static str, Asked<'static>, &'static str, bool, &'static str);

const GOES_ON: &[Case] = &[
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 003\r\nContent-Length: 3\r\n\r\nabc",
        GET,
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n",
        true,
        "abc",
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        GET,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        true,
        "abc",
    ),
    // Without a length it ends with the connection, and goes on in chunks.
    (
        "HTTP/1.1 200 OK\r\nX: a\r\n\r\nabc",
        GET,
        "HTTP/1.1 200 OK\r\nX: a\r\ntransfer-encoding: chunked\r\n\r\n",
        false,
        "abc",
    ),
    (
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
        GET,
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n",
        false,
        "a",
    ),
    (
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
        GET,
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n",
        true,
        "a",
    ),
    (
        "HTTP/1.1 200 OK\r\nConnection: close, X-A\r\nX-A: a\r\nContent-Length: 1\r\n\r\na",
        GET,
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n",
        false,
        "a",
    ),
    // Where no body comes, a length is only announced.
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n",
        HEAD,
        "HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n",
        true,
        "",
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD,
        "HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n",
        true,
        "",
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        HEAD,
        "HTTP/1.1 200 OK\r\n\r\n",
        true,
        "",
    ),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\n", HEAD, "HTTP/1.1 200 OK\r\n\r\n", true, ""),
    (
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 30\r\n\r\n",
        GET,
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 30\r\n\r\n",
        true,
        "",
    ),
    (
        "HTTP/1.1 204 No Content\r\nContent-Length: 30\r\n\r\n",
        GET,
        "HTTP/1.1 204 No Content\r\n\r\n",
        true,
        "",
    ),
    (
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: gzip\r\nContent-Length: x\r\n\r\n",
        GET,
        "HTTP/1.1 204 No Content\r\n\r\n",
        true,
        "",
    ),
    // Interim ones.
    (
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 3\r\nConnection: x\r\n\r\n",
        GET,
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        true,
        "",
    ),
    ("HTTP/1.1 100 Continue\r\n\r\n", GET, "HTTP/1.1 100 Continue\r\n\r\n", true, ""),
    // Reasons.
    (
        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        GET,
        "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n",
        true,
        "",
    ),
    (
        "HTTP/1.1 200 \nContent-Length: 0\n\n",
        GET,
        "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n",
        true,
        "",
    ),
    (
        "HTTP/1.1 200 Sch\u{f6}n\tso\r\nContent-Length: 0\r\n\r\n",
        GET,
        "HTTP/1.1 200 Sch\u{f6}n\tso\r\ncontent-length: 0\r\n\r\n",
        true,
        "",
    ),
    // What belongs to one connection.
    (
        "HTTP/1.1 426 X\r\nUpgrade: a\r\nKeep-Alive: a\r\nTE: a\r\nProxy-Connection: a\r\n\
      Content_Length: 1\r\nContent-Length: 0\r\n\r\n",
        GET,
        "HTTP/1.1 426 X\r\nContent_Length: 1\r\ncontent-length: 0\r\n\r\n",
        true,
        "",
    ),
    // Another protocol.
    (
        "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 3\r\n\r\n",
        SOCKET,
        "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        false,
        "",
    ),
    (
        "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        SOCKET,
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        true,
        "",
    ),
];

#[test]
fn what_goes_on_is_written_in_one_form() {
    for (sent, asked, head, persists, body) in GOES_ON {
        let passed = passed(sent, sent, asked);
        assert_eq!(passed.end, End::Done, "{sent:?}");
        assert_eq!(String::from_utf8_lossy(&passed.head), *head, "{sent:?}");
        assert_eq!(passed.persists, *persists, "{sent:?}");
        assert_eq!((passed.body.as_slice(), passed.consumed), (body.as_bytes(), sent.len()));
    }
}

#[test]
fn the_protocol_must_be_one_that_was_asked_for() {
    let end = |fields: &str| {
        let sent = format!("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n{fields}\r\n");
        passed(fields, &sent, &SOCKET).end
    };
    assert_eq!(end("Upgrade: WEBSOCKET\r\n"), End::Done);
    assert_eq!(end("Upgrade: a/1\r\n"), End::Done);
    for odd in [
        "",
        "Upgrade:\r\n",
        "Upgrade: a\r\n",
        "Upgrade: b/1\r\n",
        "Upgrade: a/1, websocket\r\n",
        "Upgrade: a/1\r\nUpgrade: websocket\r\n",
    ] {
        assert_eq!(end(odd), End::Refused(Fault::Switch), "{odd:?}");
    }
    // Said as only HTTP/1.1 says it.
    for odd in [
        "HTTP/1.0 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n",
    ] {
        assert_eq!(passed(odd, odd, &SOCKET).end, End::Refused(Fault::Switch), "{odd:?}");
    }
}

#[test]
fn http_1_0_gets_no_chunks() {
    let limits = Limits::default();
    let to_old = |sent: &str| {
        let version = Version::Http10;
        let passed = pass_response_to(version, sent.as_bytes(), &[], &GET, &limits);
        (String::from_utf8(passed.head).unwrap(), passed.framing)
    };
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let closing = "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n".to_owned();
    assert_eq!(to_old(chunked), (closing.clone(), Framing::UntilClose));
    assert_eq!(to_old("HTTP/1.1 200 OK\r\n\r\na"), (closing, Framing::UntilClose));
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
    let kept = "HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n".to_owned();
    assert_eq!(to_old(sized), (kept, Framing::Length(1)));
}

/// A response as it is written in a way that was not derived from it.
fn written(sent: &str, asked: &Asked<'_>, how: &ToClient) -> String {
    let (mut head, limits) = (Head::new(), Limits::default());
    let read = response::read(&mut head, &mut Scanner::response(), sent.as_bytes(), asked, &limits);
    assert_eq!(read, Ok(response::Read::Head(sent.len())));
    let mut out = Vec::new();
    write::response(head.over(sent.as_bytes()), how, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_contradicts_itself_is_not_written() {
    let how = |version, framing| ToClient {
        version,
        framing,
        announced_length: Some(7),
        connection: Connection::Keep,
    };
    let (new, old) = (Version::Http11, Version::Http10);
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    for (sent, asked, how, rest) in [
        (sized, GET, how(new, Framing::UntilClose), "connection: close\r\n"),
        (sized, GET, how(old, Framing::UntilClose), "connection: close\r\n"),
        (sized, GET, how(old, Framing::Chunked), "connection: close\r\n"),
        // A body that follows has an end.
        (sized, GET, how(new, Framing::None), "content-length: 3\r\n"),
        (sized, HEAD, how(new, Framing::None), "content-length: 7\r\n"),
        ("HTTP/1.1 200 OK\r\n\r\n", GET, how(new, Framing::None), "connection: close\r\n"),
        ("HTTP/1.1 204 OK\r\n\r\n", GET, how(new, Framing::None), ""),
        ("HTTP/1.1 204 OK\r\n\r\n", GET, how(new, Framing::Length(3)), ""),
        ("HTTP/1.1 204 OK\r\n\r\n", GET, how(new, Framing::Chunked), ""),
        ("HTTP/1.1 103 OK\r\n\r\n", GET, how(new, Framing::Length(3)), ""),
        ("HTTP/1.1 103 OK\r\n\r\n", GET, how(new, Framing::UntilClose), ""),
    ] {
        let text = written(sent, &asked, &how);
        let (_, fields) = text.split_once("\r\n").unwrap();
        assert_eq!(fields, format!("{rest}\r\n"), "{sent:?}, {how:?}");
    }
}

#[test]
fn an_interim_head_says_nothing_of_the_connection() {
    for status in [100, 102, 103, 199] {
        let sent = format!("HTTP/1.1 {status} A\r\nConnection: close\r\nX: a\r\n\r\n");
        for version in [Version::Http10, Version::Http11] {
            for connection in [Connection::Keep, Connection::Close] {
                let how = ToClient {
                    version,
                    framing: Framing::None,
                    announced_length: None,
                    connection,
                };
                let text = written(&sent, &GET, &how);
                assert!(text.ends_with(" A\r\nX: a\r\n\r\n"), "{text:?}");
            }
        }
    }
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "only a response goes to a client"))]
fn a_request_is_not_written_as_a_response() {
    let (mut head, sent) = (Head::new(), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    request::read(&mut head, &mut Scanner::request(), sent, &Limits::default()).unwrap();
    let mut out = Vec::new();
    let how = ToClient::as_read(head.over(sent), Version::Http11, Connection::Keep);
    write::response(head.over(sent), &how, &mut out);
    assert!(out.is_empty(), "without assertions it is nothing");
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "only a request goes to a replica"))]
fn a_response_is_not_written_as_a_request() {
    let (mut head, sent) = (Head::new(), b"HTTP/1.1 200 OK\r\n\r\n");
    let limits = Limits::default();
    response::read(&mut head, &mut Scanner::response(), sent, &GET, &limits).unwrap();
    let mut out = Vec::new();
    write::request(head.over(sent), &ToReplica::as_read(head.over(sent)), &mut out);
    assert!(out.is_empty(), "without assertions it is nothing");
}

#[test]
fn what_is_behind_a_response_is_left_alone() {
    for (sent, asked, length) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc", GET, 39),
        ("HTTP/1.1 204 No Content\r\n\r\nabc", GET, 27),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", HEAD, 38),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", GET, CONTINUE.len()),
    ] {
        assert_eq!(passed(sent, sent, &asked).consumed, length, "{sent:?}");
    }
}

#[test]
fn a_body_that_breaks_off_is_not_complete() {
    for sent in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(passed(sent, sent, &GET).end, End::Unfinished, "{sent:?}");
    }
    let failed = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab";
    assert_eq!(passed(failed, failed, &GET).end, End::Refused(Fault::ChunkEnd));
}
