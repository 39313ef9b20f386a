//! What reading a head and writing it on costs, in nanoseconds: `cargo run --release --example
//! heads -p ringmaster-http1`. The best of several rounds, for a busy machine only adds to it.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use ringmaster_http1::{
    Fault, Head, Limits, Method, Scanner, Version,
    framing::Asked,
    request, response,
    write::{self, Connection, ToClient, ToReplica},
};

const REPEATS: u32 = 20_000;
const ROUNDS: usize = 25;

const REQUEST: &[u8] = b"GET /process?id=12345 HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0)\r\nAccept: */*\r\n\
    X-Request-ID: 123456\r\nAccept-Encoding: gzip, br\r\nConnection: keep-alive\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
    Content-Length: 70\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: x\r\n\r\n";

/// Reads a request, changes what a proxy changes, and writes it.
fn forward_request(head: &mut Head, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    out.clear();
    let limits = Limits { fields_max: u8::MAX, ..Limits::default() };
    request::read(head, &mut Scanner::request(), black_box(bytes), &limits)?;
    let added = head
        .add(b"x-forwarded-for", &[b"127.0.0.1"])
        .and_then(|()| head.add(b"x-forwarded-proto", &[b"http"]))
        .and_then(|()| head.add(b"via", &[b"1.1 ringmaster"]));
    added.map_err(|_| Fault::HeadTooLarge)?;
    let seen = head.over(bytes);
    write::request(seen, &ToReplica::as_read(seen), out);
    black_box(out);
    Ok(())
}

fn forward_response(head: &mut Head, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    out.clear();
    let asked = Asked::by(Method::Get);
    let limits = Limits::default();
    response::read(head, &mut Scanner::response(), black_box(bytes), &asked, &limits)?;
    head.add(b"via", &[b"1.1 ringmaster"]).map_err(|_| Fault::HeadTooLarge)?;
    let seen = head.over(bytes);
    write::response(seen, &ToClient::as_read(seen, Version::Http11, Connection::Keep), out);
    black_box(out);
    Ok(())
}

fn best_of(mut work: impl FnMut() -> Result<(), Fault>) -> Result<Duration, Fault> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..REPEATS {
            work()?;
        }
        best = best.min(began.elapsed());
    }
    Ok(best / REPEATS)
}

fn main() -> Result<(), Fault> {
    let (mut head, mut out) = (Head::new(), Vec::new());
    let mut large = b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec();
    for index in 0..99 {
        large.extend_from_slice(format!("X-Field-{index}: {}\r\n", "v".repeat(30)).as_bytes());
    }
    large.extend_from_slice(b"\r\n");
    let small = best_of(|| forward_request(&mut head, REQUEST, &mut out))?;
    println!("a request of 6 fields:    {small:?}");
    let response = best_of(|| forward_response(&mut head, RESPONSE, &mut out))?;
    println!("a response of 4 fields:   {response:?}");
    let large = best_of(|| forward_request(&mut head, &large, &mut out))?;
    println!("a request of 100 fields:  {large:?}");
    Ok(())
}
