//! Reading and writing a head allocates nothing once it is warm. Alone in its program, since it
//! counts what the whole program does.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::alloc::System;

use ringmaster_http1::{
    Framing, Head, Limits, Method, Scanner, Version,
    body::Body,
    chunk::{self, Event, HEAD_SPACE, TAIL_SPACE, Trailers},
    framing::Asked,
    request, response,
    write::{self, Connection, ToClient, ToReplica},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REQUEST: &[u8] =
    b"GET http://target?a=b HTTP/1.1\r\nHost: example.test\r\nUser-Agent: x/1\r\n\
    Accept: */*\r\nX-Request-ID: 12345\r\nConnection: keep-alive, X-Own\r\nX-Own: a\r\n\
    X-Forwarded-For: 10.0.0.1\r\nCookie:  a=b\r\nTE: trailers\r\nContent-Length: 003\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\n\
    Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";

struct Scratch {
    head: Head,
    out: Vec<u8>,
    trailers: Trailers,
    body: Vec<u8>,
}

/// What a proxy does with a small exchange.
fn exchange(scratch: &mut Scratch) {
    let Scratch { head, out, trailers, body } = scratch;
    out.clear();
    let limits = Limits::default();
    let read = request::read(head, &mut Scanner::request(), REQUEST, &limits);
    assert_eq!(read, Ok(request::Read::Head(REQUEST.len())));
    let known = *head.known();
    let line = known.forwarded_for.unwrap();
    head.append(REQUEST, line, &[b", ", b"10.0.0.2"]).unwrap();
    head.add(b"via", &[b"1.1 ringmaster"]).unwrap();
    let seen = head.over(REQUEST);
    write::request(seen, &ToReplica::as_read(seen), out);

    let asked = Asked::by(Method::Get);
    let read = response::read(head, &mut Scanner::response(), RESPONSE, &asked, &limits);
    assert_eq!(read, Ok(response::Read::Head(RESPONSE.len())));
    head.add(b"via", &[b"1.1 ringmaster"]).unwrap();
    let seen = head.over(RESPONSE);
    write::response(seen, &ToClient::as_read(seen, Version::Http11, Connection::Keep), out);

    let limits = chunk::Limits::default();
    let mut reader = Body::new(Framing::Chunked, &limits).unwrap();
    body.clear();
    body.extend_from_slice(&[b'-'; HEAD_SPACE]);
    body.extend_from_slice(b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n");
    let mut at = HEAD_SPACE;
    while !reader.is_done() {
        let step = reader.next(&mut body[at..], trailers, &limits).unwrap();
        if let Event::Data(range) = step.event {
            let data = at + range.start..at + range.end;
            assert!(body.len() >= data.end + TAIL_SPACE);
            let chunk = chunk::enclose(body, data).unwrap();
            out.extend_from_slice(&body[chunk]);
        }
        at += step.consumed;
    }
    chunk::push_last(Some(trailers), out);
}

#[test]
fn a_warm_exchange_allocates_nothing() {
    let (head, out) = (Head::new(), Vec::new());
    let mut scratch = Scratch { head, out, trailers: Trailers::new(), body: Vec::new() };
    for _ in 0..3 {
        exchange(&mut scratch);
    }
    let text = String::from_utf8_lossy(&scratch.out).into_owned();
    assert!(text.starts_with("GET /?a=b HTTP/1.1\r\nHost: target\r\n"), "{text}");
    assert!(text.ends_with("\r\n5\r\nabcde\r\n0\r\nX-Sum: 1\r\n\r\n"), "{text}");
    // The program around the test may allocate at any time, but not each time.
    let counted: Vec<_> = (0..5)
        .map(|_| {
            let region = Region::new(ALLOCATOR);
            for _ in 0..100 {
                exchange(&mut scratch);
            }
            let change = region.change();
            (change.allocations, change.reallocations, change.deallocations)
        })
        .collect();
    assert!(counted.contains(&(0, 0, 0)), "{counted:?}");
}
