//! Requests.

use ringmaster_http1::{Fault, Framing, Head, Kind, Limits, Method, Scanner, refusal, request};

use crate::{
    cases::{
        CASES,
        Fate::{self, GoesOn, Refused},
    },
    support::{End, Passed, however_cut, pass_request},
};

fn passed(name: &str, sent: &[u8], limits: &Limits) -> Passed {
    however_cut(sent, name, |cuts| pass_request(sent, cuts, limits))
}

fn check(name: &str, sent: &[u8], fate: &Fate) {
    let passed = passed(name, sent, &Limits::default());
    match fate {
        Refused(expected) => {
            assert_eq!(passed.status(Kind::Request), Some(*expected), "{name}: {passed:?}");
        }
        GoesOn { with, without, body } => {
            assert_eq!(passed.end, End::Done, "{name}");
            assert_eq!(passed.consumed, sent.len(), "{name}");
            assert_eq!(passed.body, body.as_bytes(), "{name}");
            let lines = passed.lines();
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
    for (name, sent, fate) in CASES {
        check(name, sent.as_bytes(), fate);
    }
}

/// Requests that are refused, with what is said to be wrong.
const REFUSED: &[(&[u8], Fault)] = &[
    // The request line.
    (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::StartLine),
    (b"GET /  HTTP/1.1\r\nHost: h\r\n\r\n", Fault::Version),
    (b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::StartLine),
    (b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", Fault::StartLine),
    (b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", Fault::FieldValue),
    (b"GET\r\nHost: h\r\n\r\n", Fault::StartLine),
    (b"G(T / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::StartLine),
    (b"GET / http/1.1\r\nHost: h\r\n\r\n", Fault::Version),
    (b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", Fault::Version),
    (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", Fault::Version),
    (b"GET / HTTP/1.10\r\nHost: h\r\n\r\n", Fault::FieldValue),
    (b"\x16\x03\x01\x02\x00\x01\x00", Fault::StartLine),
    (b"\r\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::StartLine),
    (b"\0", Fault::StartLine),
    // Targets.
    (b"GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n", Fault::StartLine),
    (b"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n", Fault::StartLine),
    (b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", Fault::StartLine),
    (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", Fault::Target),
    (b"GET a HTTP/1.1\r\nHost: h\r\n\r\n", Fault::Target),
    (b"GET #a HTTP/1.1\r\nHost: h\r\n\r\n", Fault::Target),
    (b"GET https://h/ HTTP/1.1\r\nHost: h\r\n\r\n", Fault::Target),
    (b"GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", Fault::Target),
    (b"GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", Fault::Target),
    (b"CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::Connect),
    // Hosts.
    (b"GET http://h/ HTTP/1.1\r\n\r\n", Fault::NoHost),
    (b"GET http://h/ HTTP/1.1\r\nHost:\r\n\r\n", Fault::BadHost),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Fault::BadHost),
    (b"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", Fault::BadHost),
    (b"GET / HTTP/1.1\r\nHost: h:80:80\r\n\r\n", Fault::BadHost),
    (b"GET / HTTP/1.1\r\nHost: h/a\r\n\r\n", Fault::BadHost),
    (b"GET http://h/ HTTP/1.1\r\nHost: a b\r\n\r\n", Fault::BadHost),
    (b"GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", Fault::SeveralHosts),
    (b"GET / HTTP/1.1\r\nHost: h\r\nhost: i\r\n\r\n", Fault::SeveralHosts),
    // Fields.
    (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", Fault::FieldName),
    (b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", Fault::FieldName),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX\x80: a\r\n\r\n", Fault::FieldName),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x7f\r\n\r\n", Fault::FieldValue),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x0b\r\n\r\n", Fault::FieldValue),
    (b"GET / HTTP/1.1\nHost: h\n\r\r\n\n", Fault::FieldValue),
    // Framing.
    (b"GET / HTTP/1.0\r\nTransfer-Encoding: identity\r\n\r\n", Fault::Coding),
    (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n", Fault::Coding),
    (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", Fault::Coding),
    (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked,\r\n\r\n", Fault::Coding),
    (
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        Fault::Length,
    ),
    (
        b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1,1\r\n\r\n",
        Fault::Length,
    ),
    (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 9223372036854775808\r\n\r\n", Fault::Length),
    (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1_0\r\n\r\n", Fault::Length),
    (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3 3\r\n\r\n", Fault::Length),
];

#[test]
fn what_is_wrong_is_said() {
    for (sent, expected) in REFUSED {
        let name = sent.escape_ascii().to_string();
        assert_eq!(passed(&name, sent, &Limits::default()).end, End::Refused(*expected), "{name}");
    }
}

/// Requests, and all of the head that goes on.
const GOES_ON: &[(&str, &str)] = &[
    ("\r\n\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("GET / HTTP/1.1\nHost:h\nX: \t a \t\n\n", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\r\n"),
    ("GET / HTTP/1.1\r\nHost:\r\nX:\r\n\r\n", "GET / HTTP/1.1\r\nHost: \r\nX: \r\n\r\n"),
    (
        "PURGE /\u{e4}?a\u{f6} HTTP/1.1\r\nHost: h\r\nX: \u{e4}\r\n\r\n",
        "PURGE /\u{e4}?a\u{f6} HTTP/1.1\r\nHost: h\r\nX: \u{e4}\r\n\r\n",
    ),
    // Targets.
    ("GET /a?b#c HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n"),
    (
        "GET http://t HTTP/1.1\r\nHost: h\r\nX: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: t\r\nX: a\r\n\r\n",
    ),
    ("GET hTTp://t:8_0?b HTTP/1.1\r\nHost: h\r\n\r\n", ""),
    ("GET http://t_t:80?b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /?b HTTP/1.1\r\nHost: t_t:80\r\n\r\n"),
    ("GET http://t/ HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nhost: t\r\n\r\n"),
    // HTTP/1.0 needs no Host, HTTP/1.1 does.
    ("GET / HTTP/1.0\r\nX: a\r\n\r\n", "GET / HTTP/1.1\r\nhost: \r\nX: a\r\n\r\n"),
    ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("OPTIONS http://t HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("GET / HTTP/1.0\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    // Lengths are printed from the number.
    (
        "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 000\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: h\r\ncontent-length: 0\r\n\r\n",
    ),
    (
        "PUT / HTTP/1.1\r\nContent-length: 00\r\nHost: h\r\ncontent-Length: 0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: h\r\ncontent-length: 0\r\n\r\n",
    ),
    // What belongs to one connection, and what is named to.
    (
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nKeep-Alive: a\r\n\
      Proxy-Connection: close\r\nX: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nX-A: a\r\nConnection: x-A ;q, x-b\r\nConnection: ,, x-c,\r\n\
      X-B: b\r\nX-D: d\r\nx-c: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX-D: d\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: host, x-forwarded-for, via\r\nVia: v\r\n\
      X-Forwarded-For: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: a\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nTE: gzip, trailers;q=1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nte: trailers\r\nconnection: te\r\n\r\n",
    ),
    ("GET / HTTP/1.0\r\nHost: h\r\nTE: trailers\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    // An underscore where a hyphen means something.
    (
        "GET / HTTP/1.1\r\nHost: h\r\nContent_Length: 3\r\nTransfer_Encoding: chunked\r\n\
      X_Forwarded_For: a\r\nx_request-id: a\r\nX_Own: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX_Own: a\r\n\r\n",
    ),
    // Another protocol.
    (
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: a, b\r\nconnection: upgrade\r\n\r\n",
    ),
    ("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a, H2C\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a\r\nUpgrade: h2c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "GET / HTTP/1.0\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a\r\n\
      Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\ntransfer-encoding: chunked\r\n\r\n",
    ),
    // What is no protocol.
    (
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a/1, ,b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: a/1, ,b\r\nconnection: upgrade\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a, h2c;q=1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: H2C/1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: ,\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    // Who waits to be asked for a body, and has one.
    (
        "PUT / HTTP/1.1\r\nHost: h\r\nConnection: expect\r\nExpect: 100-continue\r\n\
      Content-Length: 1\r\n\r\na",
        "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\ncontent-length: 1\r\n\r\n",
    ),
    // Another expectation is for the replica to refuse.
    (
        "PUT / HTTP/1.1\r\nHost: h\r\nExpect: a\r\nExpect: 100-continue\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: h\r\nExpect: a\r\n\r\n",
    ),
    (
        "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\na",
        "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\ncontent-length: 1\r\n\r\n",
    ),
    (
        "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "PUT / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
        "PUT / HTTP/1.1\r\nHost: h\r\ncontent-length: 1\r\n\r\n",
    ),
];

#[test]
fn what_goes_on_is_written_in_one_form() {
    for (sent, expected) in GOES_ON {
        let passed = passed(sent, sent.as_bytes(), &Limits::default());
        assert_eq!(String::from_utf8_lossy(&passed.head), *expected, "{sent:?}: {:?}", passed.end);
        assert_eq!(passed.end == End::Done, !expected.is_empty(), "{sent:?}: {:?}", passed.end);
    }
}

#[test]
fn a_connection_is_kept_where_both_its_ends_know_that() {
    for (head, expected) in [
        ("HTTP/1.1\r\nHost: h\r\n", true),
        ("HTTP/1.1\r\nHost: h\r\nConnection: close\r\n", false),
        ("HTTP/1.1\r\nHost: h\r\nConnection: x\r\nConnection: y, CLOSE\r\n", false),
        ("HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, close\r\n", false),
        ("HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n", true),
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n", true),
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n", false),
        ("HTTP/1.0\r\nHost: h\r\n", false),
        ("HTTP/1.0\r\nHost: h\r\nConnection: Keep-Alive\r\n", true),
        ("HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nConnection: close\r\n", false),
    ] {
        let sent = format!("GET / {head}\r\n0\r\n\r\n");
        let passed = passed(head, sent.as_bytes(), &Limits::default());
        assert_eq!(passed.persists, expected, "{head:?}");
    }
}

#[test]
fn what_is_beyond_a_limit_is_refused_before_it_ends() {
    let limits = Limits { head_bytes_max: 100, fields_max: 3, target_bytes_max: 20 };
    let fate = |sent: &str| passed(sent, sent.as_bytes(), &limits).end;
    let target = |length: usize| format!("GET /{}", "a".repeat(length - 1));
    let rest = " HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(fate(&(target(20) + rest)), End::Done);
    assert_eq!(fate(&(target(21) + rest)), End::Refused(Fault::TargetTooLong));
    assert_eq!(fate(&target(20)), End::Unfinished);
    assert_eq!(fate(&target(21)), End::Refused(Fault::TargetTooLong));
    assert_eq!(fate(&"A".repeat(99)), End::Unfinished);
    assert_eq!(fate(&"A".repeat(100)), End::Refused(Fault::HeadTooLarge));
    assert_eq!(fate(&"\r\n".repeat(50)), End::Refused(Fault::HeadTooLarge));
    let exactly = |length: usize| {
        let begin = "GET / HTTP/1.1\r\nHost: h\r\nX: ";
        format!("{begin}{}\r\n\r\n", "x".repeat(length - begin.len() - 4))
    };
    assert_eq!(fate(&exactly(100)), End::Done);
    assert_eq!(fate(&exactly(101)), End::Refused(Fault::HeadTooLarge));
    let fields =
        |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}", "X:\r\n".repeat(count - 1));
    assert_eq!(fate(&(fields(3) + "\r\n")), End::Done);
    assert_eq!(fate(&(fields(4) + "\r\n")), End::Refused(Fault::TooManyFields));
    assert_eq!(fate(&fields(4)), End::Refused(Fault::TooManyFields));
    // A line without a target, and one long word behind it.
    let word = format!("GET\r\nHost: {}\r\n\r\n", "h".repeat(50));
    assert_eq!(fate(&word), End::Refused(Fault::StartLine));
    for (fault, status) in [
        (Fault::TargetTooLong, 414),
        (Fault::HeadTooLarge, 431),
        (Fault::TooManyFields, 431),
        (Fault::BodyTooLarge, 413),
    ] {
        assert_eq!((fault.status(Kind::Request), fault.status(Kind::Response)), (status, 502));
    }
}

#[test]
fn all_fields_of_a_head_that_a_limit_allows_are_read() {
    let limits = Limits { head_bytes_max: u16::MAX, fields_max: u8::MAX, ..Limits::default() };
    let mut sent = "GET / HTTP/1.1\r\nHost: h\r\n".to_owned();
    for index in 0..254 {
        sent += &format!("X-{index}: {}\r\n", "v".repeat(240));
    }
    sent += "\r\n";
    let passed = pass_request(sent.as_bytes(), &[], &limits);
    assert_eq!((passed.end, passed.head.len()), (End::Done, sent.len()));
    let more = sent.replace("Host: h", "Host: h\r\nX: a");
    let passed = pass_request(more.as_bytes(), &[], &limits);
    assert_eq!(passed.end, End::Refused(Fault::TooManyFields));
}

#[test]
fn too_many_names_in_connection_are_refused() {
    let end = |lines: &[String]| {
        let sent = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", lines.concat());
        pass_request(sent.as_bytes(), &[], &Limits::default()).end
    };
    let line = |list: String| format!("Connection: {list}\r\n");
    // Behind the last comma there is one more, though empty.
    for element in ["a,", ",", "close,", "keep-alive ,"] {
        assert_eq!(end(&[line(element.repeat(31))]), End::Done, "{element}");
        let refused = End::Refused(Fault::ConnectionOptions);
        assert_eq!(end(&[line(element.repeat(32))]), refused, "{element}");
        assert_eq!(end(&[line(element.repeat(31)), line(String::new())]), refused, "{element}");
    }
}

#[test]
fn the_preface_of_http_2_is_told_from_a_request() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let limits = Limits::default();
    assert_eq!(passed("preface", preface, &limits).end, End::Preface);
    let more = [&preface[..], &[0, 0, 0, 4]].concat();
    assert_eq!(passed("preface and frames", &more, &limits).end, End::Preface);
    for length in 0..preface.len() {
        assert_eq!(passed("a part", &preface[..length], &limits).end, End::Unfinished);
    }
    let other = passed("another", b"PRI * HTTP/2.0\r\n\r\nXM\r\n\r\n", &limits);
    assert_eq!(other.end, End::Refused(Fault::Version));
    let later = passed("behind an empty line", &[b"\r\n", &preface[..]].concat(), &limits);
    assert_eq!(later.end, End::Refused(Fault::Version));
    let put = passed("P", b"PUT / HTTP/1.1\r\nHost: h\r\n\r\n", &limits);
    assert_eq!(put.end, End::Done);
}

#[test]
fn empty_lines_begin_nothing() {
    let mut head = Head::new();
    for (sent, expected) in
        [("", false), ("\r", false), ("\r\n\n", false), ("\r\nP", true), ("P", true), ("GE", true)]
    {
        let mut scanner = Scanner::request();
        let read = request::read(&mut head, &mut scanner, sent.as_bytes(), &Limits::default());
        assert_eq!((read, scanner.has_begun()), (Ok(request::Read::More), expected), "{sent:?}");
    }
}

#[test]
fn the_next_request_is_left_alone() {
    let one = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    let two = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
    let sent = format!("{one}{two}");
    let first = passed("both", sent.as_bytes(), &Limits::default());
    assert_eq!((first.consumed, &first.body[..]), (one.len(), &b"abc"[..]));
    let second = passed("the second", &sent.as_bytes()[first.consumed..], &Limits::default());
    assert_eq!((second.consumed, &second.head[..]), (two.len(), two.as_bytes()));
}

#[test]
fn what_a_proxy_looks_for_is_known() {
    let sent = b"POST http://t/a HTTP/1.1\r\nhost: h\r\nx-request-ID: 7\r\nX-Forwarded-For: a\r\n\
                 X-Request-Id: 8\r\nExpect: 100-continue\r\nTE: trailers\r\nContent-Length: 1\r\n\r\n";
    let mut head = Head::new();
    let read = request::read(&mut head, &mut Scanner::request(), sent, &Limits::default());
    assert_eq!(read, Ok(request::Read::Head(sent.len())));
    let seen = head.over(sent);
    let known = seen.known();
    assert_eq!((seen.method(), seen.method_name()), (Method::Post, &b"POST"[..]));
    assert_eq!((seen.target(), seen.host()), (&b"/a"[..], Some(&b"t"[..])));
    assert_eq!(seen.value(known.request_id), Some(&b"7"[..]));
    assert_eq!(seen.value(known.forwarded_for), Some(&b"a"[..]));
    assert_eq!(seen.find(b"X-REQUEST-ID").map(|field| field.value), Some(&b"7"[..]));
    assert!(seen.find(b"te").is_none(), "only the writer says it");
    assert_eq!(known.framing, Framing::Length(1));
    assert!(known.expects_100 && known.te_trailers && known.persists);
    let names: Vec<&[u8]> = seen.fields().map(|field| field.name).collect();
    assert_eq!(
        names,
        [&b"host"[..], b"x-request-ID", b"X-Forwarded-For", b"X-Request-Id", b"Expect"]
    );

    let named = b"GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: 7\r\nConnection: x-request-id\r\n\r\n";
    let read = request::read(&mut head, &mut Scanner::request(), named, &Limits::default());
    assert_eq!(read, Ok(request::Read::Head(named.len())));
    assert_eq!(head.known().request_id, None, "it belongs to the connection");
    let twin = b"GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: 7\r\nConnection: x_request_id\r\n\r\n";
    let read = request::read(&mut head, &mut Scanner::request(), twin, &Limits::default());
    assert_eq!(read, Ok(request::Read::Head(twin.len())));
    let seen = head.over(twin);
    assert_eq!(seen.value(seen.known().request_id), Some(&b"7"[..]), "another name was named");
}

#[test]
fn a_refusal_is_the_json_of_all_failures() {
    let faults = REFUSED.iter().map(|(_, fault)| *fault);
    let others = [Fault::TargetTooLong, Fault::TooManyFields, Fault::BodyTooLarge, Fault::ChunkEnd];
    for fault in faults.chain(others) {
        let mut written = Vec::new();
        refusal::write(fault, DATE, &mut written);
        check_refusal(&written, fault.status(Kind::Request), fault.sentence());
        let mut written = Vec::new();
        refusal::write_for(fault, Kind::Response, DATE, &mut written);
        check_refusal(&written, 502, fault.sentence());
    }
}

const DATE: Option<&[u8]> = Some(b"Thu, 01 Jan 1970 00:00:00 GMT");

fn check_refusal(written: &[u8], status: u16, sentence: &str) {
    let text = str::from_utf8(written).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
    assert!(head.contains("\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"), "{head}");
    assert!(head.ends_with("\r\nconnection: close"), "{head}");
    assert_eq!(head.contains("\r\nallow: GET, "), status == 405, "{head}");
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(json["message"], format!("<Error> {sentence}"));
    assert_eq!(json["status"], "failure");
}

#[test]
fn each_status_of_our_own_has_its_reason() {
    let codes = refusal::Status::ALL.map(refusal::Status::code);
    assert_eq!(codes, [400, 405, 408, 413, 414, 431, 501, 502, 503, 504]);
    for status in refusal::Status::ALL {
        for sentence in ["It took too long", "a \"b\" \\ \u{1f}\r\n \u{e4}", ""] {
            let mut written = Vec::new();
            refusal::write_status(status, sentence, DATE, &mut written);
            check_refusal(&written, status.code(), sentence);
        }
        let mut written = Vec::new();
        refusal::write_status(status, "a", Some(b"1\r\nX: a"), &mut written);
        let text = String::from_utf8(written).unwrap();
        assert!(!text.contains("X: a") && !text.contains("date"), "{text}");
        // The same words as the library that the rest of the server has.
        let known = hyper::StatusCode::from_u16(status.code()).unwrap();
        let reason = known.canonical_reason().unwrap().replace("Payload", "Content");
        assert!(text.starts_with(&format!("HTTP/1.1 {} {reason}\r\n", status.code())), "{text}");
    }
}
