//! What a proxy changes in a head.

use ringmaster_http1::{
    EditError, Fault, FieldId, Head, Known, Limits, Method, Scanner,
    framing::Asked,
    request, response,
    write::{self, ToReplica},
};

const SENT: &[u8] =
    b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: a\r\nX-B: b\r\nConnection: close\r\nX-C: c\r\n\r\n";

fn head() -> Head {
    let mut head = Head::new();
    let read = request::read(&mut head, &mut Scanner::request(), SENT, &Limits::default());
    assert_eq!(read, Ok(request::Read::Head(SENT.len())));
    head
}

fn written(head: &Head) -> String {
    let mut out = Vec::new();
    let seen = head.over(SENT);
    write::request(seen, &ToReplica::as_read(seen), &mut out);
    String::from_utf8(out).unwrap()
}

fn line_of(head: &Head, name: &str) -> u16 {
    head.over(SENT).find(name.as_bytes()).unwrap().line
}

#[test]
fn lines_are_dropped_replaced_and_added() {
    let mut head = head();
    head.drop_line(line_of(&head, "x-a"));
    head.set(line_of(&head, "x-b"), &[b"1", b", ", b"2 "]).unwrap();
    head.add(b"via", &[b"1.1 r"]).unwrap();
    head.add(b"x-empty", &[b" \t"]).unwrap();
    assert_eq!(
        written(&head),
        "GET /a HTTP/1.1\r\nHost: h\r\nX-B: 1, 2\r\nX-C: c\r\nvia: 1.1 r\r\nx-empty: \r\n\r\n"
    );
    // Again, and what was added.
    head.append(SENT, line_of(&head, "x-b"), &[b",", b" 3"]).unwrap();
    head.append(SENT, line_of(&head, "x-c"), &[b", d"]).unwrap();
    head.append(SENT, line_of(&head, "x-c"), &[b", e"]).unwrap();
    assert!(written(&head).contains("\r\nX-B: 1, 2, 3\r\nX-C: c, d, e\r\n"));
    head.set(line_of(&head, "x-c"), &[b"c"]).unwrap();
    head.set(line_of(&head, "x-b"), &[b"3"]).unwrap();
    let via = line_of(&head, "via");
    head.set(via, &[b"1.0 s"]).unwrap();
    head.drop_line(line_of(&head, "x-empty"));
    assert_eq!(
        written(&head),
        "GET /a HTTP/1.1\r\nHost: h\r\nX-B: 3\r\nX-C: c\r\nvia: 1.0 s\r\n\r\n"
    );
}

#[test]
fn what_was_added_and_dropped_leaves_nothing() {
    let mut head = head();
    // Its place among what was added lies behind the end of what was received.
    head.add(b"x-long", &[&[b'a'; 1000]]).unwrap();
    head.add(b"x-d", &[b"d"]).unwrap();
    let line = line_of(&head, "x-d");
    head.drop_line(line);
    assert!(head.over(SENT).find(b"x-d").is_none() && head.over(SENT).value(Some(line)).is_none());
    head.retain(SENT, |field| field.name != b"x-long");
    assert!(written(&head).ends_with("X-C: c\r\n\r\n"));
}

#[test]
fn what_is_not_to_go_on_is_dropped_at_once() {
    let mut head = head();
    head.add(b"x-forwarded-for", &[b"a"]).unwrap();
    head.add(b"x-a", &[b"b"]).unwrap();
    let mut seen = Vec::new();
    head.retain(SENT, |field| {
        seen.push(String::from_utf8(field.name.to_vec()).unwrap());
        !field.id.is_claim() && !field.name.eq_ignore_ascii_case(b"X-A")
    });
    assert_eq!(seen, ["Host", "X-A", "X-B", "X-C", "x-forwarded-for", "x-a"]);
    assert_eq!(written(&head), "GET /a HTTP/1.1\r\nHost: h\r\nX-B: b\r\nX-C: c\r\n\r\n");
    assert_eq!(head.known().forwarded_for, None);
    head.retain(SENT, |field| field.id != FieldId::Host);
    assert_eq!(head.over(SENT).host(), None);
}

#[test]
fn what_is_known_is_said_of_the_lines_that_are_left() {
    let sent = b"PUT / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: a\r\nX-Request-ID: 1\r\n\
                 X_Forwarded_For: t\r\nX-Forwarded-For: b\r\nX-Request-ID: 2\r\nExpect: x\r\n\
                 Expect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    let read = || {
        let mut head = Head::new();
        let read = request::read(&mut head, &mut Scanner::request(), sent, &Limits::default());
        assert_eq!(read, Ok(request::Read::Head(sent.len())));
        head
    };
    let known = |head: &Head| {
        let seen = head.over(sent);
        let value = |line| seen.value(line).map(|value| value.escape_ascii().to_string());
        (value(seen.known().forwarded_for), value(seen.known().request_id))
    };
    let some = |value: &str| Some(value.to_owned());
    let mut head = read();
    assert_eq!(known(&head), (some("a"), some("1")));
    head.drop_line(head.known().forwarded_for.unwrap());
    head.drop_line(head.known().request_id.unwrap());
    assert_eq!(known(&head), (some("b"), some("2")));
    head.drop_line(head.known().forwarded_for.unwrap());
    assert_eq!(known(&head), (None, some("2")));
    head.add(b"x-forwarded-for", &[b"c"]).unwrap();
    head.add(b"x_request_id", &[b"3"]).unwrap();
    head.drop_line(head.known().request_id.unwrap());
    assert_eq!(known(&head), (some("c"), None), "a twin is none");

    let mut head = read();
    head.add(b"x-forwarded-for", &[b"c"]).unwrap();
    head.drop_field(FieldId::XForwardedFor);
    head.drop_field(FieldId::Unknown);
    assert_eq!(known(&head), (None, some("1")));
    let names: Vec<_> = head.over(sent).fields().map(|field| field.name).collect();
    assert_eq!(names, [&b"Host"[..], b"X-Request-ID", b"X-Request-ID", b"Expect", b"Expect"]);
    assert!(head.known().expects_100);
    let expectation = head.over(sent).find(b"expect").unwrap().line;
    head.drop_line(expectation);
    assert!(head.known().expects_100, "the other line says it");
    head.drop_field(FieldId::Expect);
    assert!(!head.known().expects_100);
}

#[test]
fn what_is_appended_to_is_checked_too() {
    // The line of X-A, over bytes of another message.
    let mut other = SENT.to_vec();
    let at = SENT.windows(6).position(|part| part == b"X-A: a").unwrap() + 5;
    other[at] = b'\n';
    let mut head = head();
    let line = line_of(&head, "x-a");
    assert_eq!(head.append(&other, line, &[b", b"]), Err(EditError::Value));
    assert_eq!(head.append(&SENT[..at], line, &[b", b"]), Err(EditError::Line));
    head.append(SENT, line, &[b", b"]).unwrap();
    assert!(written(&head).contains("\r\nX-A: a, b\r\n"));
}

#[test]
fn a_request_without_a_host_gets_one() {
    let mut head = head();
    head.drop_field(FieldId::Host);
    let seen = head.over(SENT);
    let how = ToReplica::as_read(seen);
    assert_eq!(how.with_host(b"a b"), Err(EditError::Value));
    assert_eq!(how.with_host(b"a\r\nb: c"), Err(EditError::Value));
    let mut out = Vec::new();
    write::request(seen, &how.with_host(b"r:80").unwrap(), &mut out);
    assert!(out.starts_with(b"GET /a HTTP/1.1\r\nhost: r:80\r\nX-A: a\r\n"));
    assert!(written(&head).starts_with("GET /a HTTP/1.1\r\nhost: \r\nX-A: a\r\n"));
    head.add(b"host", &[b"i"]).unwrap();
    let (seen, mut out) = (head.over(SENT), Vec::new());
    write::request(seen, &how.with_host(b"r:80").unwrap(), &mut out);
    assert!(out.ends_with(b"X-C: c\r\nhost: i\r\n\r\n"), "its own is meant");
}

#[test]
fn there_is_one_host() {
    let mut head = head();
    head.add(b"HOST", &[b"other:80"]).unwrap();
    assert_eq!(head.over(SENT).host(), Some(&b"other:80"[..]));
    assert!(written(&head).contains("\r\nHost: other:80\r\n"));
    head.drop_line(line_of(&head, "host"));
    assert_eq!(head.over(SENT).host(), None);
    head.add(b"host", &[b"third"]).unwrap();
    assert_eq!(head.over(SENT).host(), Some(&b"third"[..]));
    assert_eq!(head.add(b"host", &[b"a b"]), Err(EditError::Value));
    assert_eq!(head.over(SENT).host(), Some(&b"third"[..]));
}

#[test]
fn nothing_ends_a_line_that_is_added() {
    let mut head = head();
    let before = written(&head);
    let line = line_of(&head, "x-a");
    for value in ["a\r\nb: c", "a\n", "\ra", "a\0", "a\x7f", "a\x1b"] {
        assert_eq!(head.add(b"x", &[b"a", value.as_bytes()]), Err(EditError::Value), "{value:?}");
        assert_eq!(head.set(line, &[value.as_bytes()]), Err(EditError::Value), "{value:?}");
        let appended = head.append(SENT, line, &[b"a", value.as_bytes()]);
        assert_eq!(appended, Err(EditError::Value), "{value:?}");
    }
    for name in ["", "a b", "a:", "a\r\n", "\u{e4}"] {
        assert_eq!(head.add(name.as_bytes(), &[b"a"]), Err(EditError::Name), "{name:?}");
    }
    for name in [
        "Content-Length",
        "content_length",
        "transfer-encoding",
        "Connection",
        "TE",
        "upgrade",
        "expect",
        "keep-alive",
    ] {
        assert_eq!(head.add(name.as_bytes(), &[b"1"]), Err(EditError::Reserved), "{name:?}");
    }
    assert_eq!(head.set(3, &[b"close"]), Err(EditError::Reserved), "the line of Connection");
    let sent = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n";
    let mut asking = Head::new();
    request::read(&mut asking, &mut Scanner::request(), sent, &Limits::default()).unwrap();
    let upgrade = asking.known().upgrade.unwrap();
    assert_eq!(asking.set(upgrade, &[b"h2c"]), Err(EditError::Reserved));
    assert_eq!(asking.append(sent, upgrade, &[b", h2c"]), Err(EditError::Reserved));
    assert_eq!(head.set(99, &[b"a"]), Err(EditError::Line));
    let large = vec![b'a'; usize::from(u16::MAX) + 1];
    assert_eq!(head.add(b"x", &[&large]), Err(EditError::TooLarge));
    assert_eq!(head.set(line, &[&large]), Err(EditError::TooLarge));
    head.drop_line(99);
    assert_eq!(written(&head), before, "a refused edit changes nothing");
    head.drop_line(line);
    assert_eq!(head.set(line, &[b"a"]), Err(EditError::Line), "it does not come back");
}

#[test]
fn there_is_an_end_of_adding() {
    let mut head = head();
    let added = (0..1000).take_while(|_| head.add(b"x", &[b"a"]).is_ok()).count();
    assert!((64..400).contains(&added), "{added}");
    assert_eq!(head.add(b"x", &[b"a"]), Err(EditError::TooLarge));
    assert_eq!(written(&head).matches("\r\nx: a").count(), added);
}

#[test]
fn of_a_head_that_is_refused_nothing_is_left() {
    let late = b"GET /b HTTP/1.1\r\nHost: i\r\nX: a\r\nContent-Length: x\r\n\r\n";
    for (sent, fault) in [(&late[..], Fault::Length), (b"\0", Fault::StartLine)] {
        let mut head = head();
        let read = request::read(&mut head, &mut Scanner::request(), sent, &Limits::default());
        assert_eq!(read, Err(fault));
        let seen = head.over(sent);
        assert!(head.is_empty() && seen.fields().next().is_none());
        assert_eq!((seen.target(), seen.host(), *seen.known()), (&b""[..], None, Known::default()));
    }
}

/// All that can be asked of a head, over bytes that may not be those that it was read from.
fn look_at_all(head: &Head, bytes: &[u8]) -> Vec<u8> {
    let seen = head.over(bytes);
    let mut all = [seen.method_name(), seen.target(), seen.reason()].concat();
    seen.fields().for_each(|field| all.extend([field.name, field.value].concat()));
    all.extend_from_slice(seen.host().unwrap_or_default());
    all.extend_from_slice(seen.upgrade().unwrap_or_default());
    all
}

#[test]
fn a_head_over_other_bytes_is_never_more_than_they_are() {
    let head = head();
    assert!(!look_at_all(&head, SENT).is_empty());
    for end in 0..SENT.len() {
        assert!(look_at_all(&head, &SENT[..end]).len() <= 2 * end);
        let mut out = Vec::new();
        let seen = head.over(&SENT[..end]);
        write::request(seen, &ToReplica::as_read(seen), &mut out);
    }
}

#[test]
fn there_is_no_head_before_it_is_whole() {
    let limits = Limits::default();
    let old = &b"GET http://target.test?a HTTP/1.1\r\nHost: h\r\n\r\n"[..];
    for sent in [
        &b""[..],
        b"G",
        b"GET / HTTP/1.1\r\nHost: i\r\n",
        b"\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut head = Head::new();
        let read = request::read(&mut head, &mut Scanner::request(), old, &limits);
        assert_eq!(read, Ok(request::Read::Head(old.len())));
        let read = request::read(&mut head, &mut Scanner::request(), sent, &limits);
        assert!(!matches!(read, Ok(request::Read::Head(_))), "{sent:?}");
        assert!(head.is_empty() && look_at_all(&head, sent).is_empty(), "{sent:?}");
        assert!(look_at_all(&head, old).is_empty(), "{sent:?}");
    }
}

#[test]
fn a_scanner_begins_anew_by_itself() {
    let limits = Limits::default();
    let (mut head, mut scanner) = (Head::new(), Scanner::request());
    let long: &[u8] = b"\r\nGET /a HTTP/1.1\r\nHost: a.long.name\r\nX-A: a\r\n\r\n";
    let short: &[u8] = b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for _ in 0..2 {
        for sent in [long, short, long, preface, short, b"\0", short, b"GET /a", b"G", short] {
            let alone = request::read(&mut Head::new(), &mut Scanner::request(), sent, &limits);
            assert_eq!(request::read(&mut head, &mut scanner, sent, &limits), alone, "{sent:?}");
        }
    }
    // A limit that shrinks meanwhile counts at once.
    let smaller = Limits { head_bytes_max: 10, ..limits };
    let part = &long[..long.len() - 1];
    assert_eq!(request::read(&mut head, &mut scanner, part, &limits), Ok(request::Read::More));
    assert_eq!(request::read(&mut head, &mut scanner, long, &smaller), Err(Fault::HeadTooLarge));

    let (asked, mut scanner) = (Asked::by(Method::Get), Scanner::response());
    let sent = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let read = response::read(&mut head, &mut scanner, sent, &asked, &limits);
    assert_eq!(read, Ok(response::Read::Head(28)));
    let read = response::read(&mut head, &mut scanner, &sent[28..], &asked, &limits);
    assert_eq!((read, head.over(&sent[28..]).status()), (Ok(response::Read::Head(38)), 200));
}

#[test]
fn a_head_is_used_again_without_what_it_held() {
    let mut head = head();
    head.add(b"via", &[b"1.1 r"]).unwrap();
    let sent = b"GET /b HTTP/1.1\r\nHost: i\r\n\r\n";
    let read = request::read(&mut head, &mut Scanner::request(), sent, &Limits::default());
    assert_eq!(read, Ok(request::Read::Head(sent.len())));
    let mut out = Vec::new();
    write::request(head.over(sent), &ToReplica::as_read(head.over(sent)).closing(), &mut out);
    assert_eq!(out, b"GET /b HTTP/1.1\r\nHost: i\r\nconnection: close\r\n\r\n");
}
