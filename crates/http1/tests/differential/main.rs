//! What is written here, read by others: hyper and kawa see the same messages in it, no more and no
//! fewer. We may accept less than they do, and never frame it differently.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[allow(dead_code, reason = "their statuses and messages are compared by other tests")]
#[path = "../../../proxy/tests/proxy/strict/cases.rs"]
mod cases;
mod hyper_reads;
mod kawa_reads;
#[path = "../support/mod.rs"]
mod support;

use proptest::prelude::*;
use ringmaster_http1::{Framing, Limits, Method, framing::Asked};
use support::{
    End, Passed,
    grammar::{at_least, damaged, damages, requests, responses},
    pass_request, pass_response,
};

/// A message as another reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Method and target, or the status.
    pub(crate) start: String,
    /// Fields in the order of their names, without those that frame the message.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// A message as we have written it.
fn ours(passed: &Passed) -> Seen {
    let text = passed.head.strip_suffix(b"\r\n\r\n").unwrap();
    let mut lines = text.split(|byte| *byte == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    let start = lines.next().unwrap();
    let mut words = start.split(|byte| *byte == b' ').map(String::from_utf8_lossy);
    let (first, second) = (words.next().unwrap(), words.next().unwrap());
    let start =
        if first.starts_with("HTTP/") { second.into() } else { format!("{first} {second}") };
    let mut fields: Vec<(String, Vec<u8>)> = lines
        .map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').unwrap();
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            (name, line[colon + 2..].to_vec())
        })
        .collect();
    settle(&mut fields);
    Seen { start, fields, body: passed.body.clone() }
}

/// Brings fields into the order that is compared, without what frames the message.
pub(crate) fn settle(fields: &mut Vec<(String, Vec<u8>)>) {
    fields.retain(|(name, _)| {
        !["connection", "content-length", "transfer-encoding", "te", "date"].contains(&&name[..])
    });
    fields.sort_by(|one, other| one.0.cmp(&other.0));
}

/// Whether hyper and kawa have the same rules as we, so that they must see the message.
fn is_plain(passed: &Passed) -> bool {
    // kawa has ASCII only in targets, reasons and trailers, and splits cookies.
    let mut bytes = passed.head.iter().chain(&passed.trailers);
    bytes.all(u8::is_ascii) && !passed.lines().iter().any(|l| l.starts_with("cookie"))
}

/// A request behind which another one stands: both are seen, and nothing else. Returns whether there
/// was something to see.
fn check_request(sent: &[u8]) -> bool {
    let passed = pass_request(sent, &[], &Limits::default());
    if passed.end != End::Done {
        return false;
    }
    let mut written = passed.written();
    let message = written.len();
    written.extend_from_slice(b"GET /behind HTTP/1.1\r\nHost: h\r\n\r\n");
    let expected = ours(&passed);
    if is_plain(&passed) {
        let (seen, length) = kawa_reads::request(&written);
        assert_eq!((&seen, length), (&expected, message), "{}", written.escape_ascii());
    }
    let target = expected.start.split(' ').nth(1).unwrap();
    if target.parse::<hyper::Uri>().is_err() {
        // Its type for targets does not know some bytes, such as quotes in a query.
        return false;
    }
    let seen = hyper_reads::requests(&written);
    assert_eq!(seen[0], expected, "{}", written.escape_ascii());
    let behind: Vec<&str> = seen[1..].iter().map(|seen| &seen.start[..]).collect();
    assert_eq!(behind, ["GET /behind"], "{}", written.escape_ascii());
    true
}

/// The bytes as they came, of which we take one request: hyper may refuse them, but sees no other body
/// in them, and no second request. Returns whether it saw the request.
fn check_received(sent: &[u8]) -> bool {
    let passed = pass_request(sent, &[], &Limits::default());
    if passed.end != End::Done {
        return false;
    }
    let received = &sent[..passed.consumed];
    let seen = hyper_reads::requests(received);
    assert!(seen.len() <= 1, "{}: {seen:?}", received.escape_ascii());
    let Some(seen) = seen.first() else { return false };
    assert_eq!(seen.body, passed.body, "{}", received.escape_ascii());
    let method = |start: &str| start.split(' ').next().map(str::to_owned);
    assert_eq!(method(&seen.start), method(&ours(&passed).start), "{}", received.escape_ascii());
    true
}

fn check_response(sent: &[u8], method: Method) {
    let passed = pass_response(sent, &[], &Asked::by(method), &Limits::default());
    let status = passed.lines().first().and_then(|line| line.get(9..12)?.parse::<u16>().ok());
    if passed.end != End::Done {
        return;
    }
    if status.is_some_and(|status| status < 200) {
        // No client sees it as the response, nor a body in it: that is what stands behind it.
        let behind = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na";
        let body = if method == Method::Head { vec![] } else { b"a".to_vec() };
        let length = behind.len() - usize::from(method == Method::Head);
        let seen = hyper_reads::response(&[&passed.head, &behind[..length]].concat(), method);
        let expected = Seen { start: "200".to_owned(), fields: vec![], body };
        assert_eq!(seen, expected, "{}", passed.head.escape_ascii());
        return;
    }
    let mut written = passed.written();
    let message = written.len();
    let expected = ours(&passed);
    assert_eq!(hyper_reads::response(&written, method), expected, "{}", written.escape_ascii());
    // kawa does not know what was asked for.
    let has_body = matches!(passed.framing, Framing::Chunked | Framing::Length(1..));
    if has_body && is_plain(&passed) {
        written.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
        let (seen, length) = kawa_reads::response(&written);
        // It takes Host away from responses, too.
        let mut expected = expected;
        expected.fields.retain(|(name, _)| name != "host");
        assert_eq!((&seen, length), (&expected, message), "{}", written.escape_ascii());
    }
}

#[test]
fn the_strict_cases_are_read_alike() {
    for (name, sent, fate) in cases::CASES {
        let goes_on = matches!(fate, cases::Fate::GoesOn { .. });
        assert_eq!(check_request(sent.as_bytes()), goes_on, "{name}");
        assert_eq!(check_received(sent.as_bytes()), goes_on, "{name}");
    }
}

#[test]
fn responses_are_read_alike() {
    for sent in [
        "HTTP/1.1 200 OK\r\nContent-Length: 003\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        "HTTP/1.0 404\r\nX: a\r\n\r\nuntil the end",
        "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
    ] {
        check_response(sent.as_bytes(), Method::Get);
    }
    check_response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Method::Head);
    check_response(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabc", Method::Get);
    check_response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Method::Head);
}

proptest! {
    #![proptest_config(at_least(1500))]

    #[test]
    fn what_goes_on_of_any_request_is_read_alike(message in requests(), damages in damages()) {
        let bytes = damaged(&message, &damages);
        check_request(&bytes);
        check_received(&bytes);
    }

    #[test]
    fn what_goes_on_of_any_response_is_read_alike(
        message in responses(),
        damages in damages(),
        asks_head in any::<bool>(),
    ) {
        let method = if asks_head { Method::Head } else { Method::Get };
        check_response(&damaged(&message, &damages), method);
    }
}
