//! What the tests share: a message on its way through the codec, as a proxy would pass it on.

#![allow(dead_code, reason = "not every test uses all of it")]

pub(crate) mod grammar;

use ringmaster_http1::{
    Fault, Framing, Head, Kind, Limits, Scanner, Version,
    body::Body,
    chunk::{self, Event, Trailers},
    framing::Asked,
    request, response,
    write::{self, Connection, ToClient, ToReplica},
};

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is complete.
    Done,
    /// It was not, when there were no more bytes.
    Unfinished,
    /// It is refused.
    Refused(Fault),
    /// It is the preface of HTTP/2.
    Preface,
}

/// A message as it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Its head as it is written.
    pub(crate) head: Vec<u8>,
    pub(crate) framing: Framing,
    pub(crate) persists: bool,
    /// Its body without chunks.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<u8>,
    /// Bytes of the input that belong to it.
    pub(crate) consumed: usize,
    pub(crate) end: End,
}

impl Passed {
    fn new() -> Self {
        Passed {
            head: Vec::new(),
            framing: Framing::None,
            persists: false,
            body: Vec::new(),
            trailers: Vec::new(),
            consumed: 0,
            end: End::Unfinished,
        }
    }

    pub(crate) fn status(&self, kind: Kind) -> Option<u16> {
        match self.end {
            End::Refused(fault) => Some(fault.status(kind)),
            _ => None,
        }
    }

    /// The lines of the head in small letters.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.head).to_ascii_lowercase();
        text.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// All that is written for the next reader.
    pub(crate) fn written(&self) -> Vec<u8> {
        let mut written = self.head.clone();
        if self.framing != Framing::Chunked {
            written.extend_from_slice(&self.body);
            return written;
        }
        // Two chunks where there are enough bytes.
        for part in [&self.body[..self.body.len() / 2], &self.body[self.body.len() / 2..]] {
            let mut buffer = vec![0; chunk::HEAD_SPACE];
            buffer.extend_from_slice(part);
            buffer.resize(buffer.len() + chunk::TAIL_SPACE, 0);
            let data = chunk::HEAD_SPACE..chunk::HEAD_SPACE + part.len();
            if let Some(range) = chunk::enclose(&mut buffer, data) {
                written.extend_from_slice(&buffer[range]);
            }
        }
        written.extend_from_slice(b"0\r\n");
        written.extend_from_slice(&self.trailers);
        written.extend_from_slice(b"\r\n");
        written
    }
}

/// The bytes that are there each time one looks.
fn growing(length: usize, cuts: &[usize]) -> impl Iterator<Item = usize> {
    let mut cuts: Vec<usize> = cuts.iter().copied().filter(|cut| *cut < length).collect();
    cuts.sort_unstable();
    cuts.into_iter().chain([length])
}

/// Passes a request on.
pub(crate) fn pass_request(bytes: &[u8], cuts: &[usize], limits: &Limits) -> Passed {
    let mut head = Head::new();
    let mut scanner = Scanner::request();
    let mut passed = Passed::new();
    for here in growing(bytes.len(), cuts) {
        match request::read(&mut head, &mut scanner, &bytes[..here], limits) {
            Ok(request::Read::More) => {}
            Ok(request::Read::Preface) => {
                passed.end = End::Preface;
                return passed;
            }
            Err(fault) => {
                passed.end = End::Refused(fault);
                return passed;
            }
            Ok(request::Read::Head(length)) => {
                passed.consumed = length;
                passed.framing = head.known().framing;
                passed.persists = head.known().persists;
                let head = head.over(bytes);
                write::request(head, &ToReplica::as_read(head), &mut passed.head);
                pass_body(bytes, cuts, here, passed.framing, &mut passed);
                return passed;
            }
        }
    }
    passed
}

/// Passes a response on to a client in HTTP/1.1.
pub(crate) fn pass_response(
    bytes: &[u8],
    cuts: &[usize],
    asked: &Asked<'_>,
    limits: &Limits,
) -> Passed {
    pass_response_to(Version::Http11, bytes, cuts, asked, limits)
}

pub(crate) fn pass_response_to(
    version: Version,
    bytes: &[u8],
    cuts: &[usize],
    asked: &Asked<'_>,
    limits: &Limits,
) -> Passed {
    let mut head = Head::new();
    let mut scanner = Scanner::response();
    let mut passed = Passed::new();
    for here in growing(bytes.len(), cuts) {
        match response::read(&mut head, &mut scanner, &bytes[..here], asked, limits) {
            Ok(response::Read::More) => {}
            Err(fault) => {
                passed.end = End::Refused(fault);
                return passed;
            }
            Ok(response::Read::Head(length)) => {
                passed.consumed = length;
                passed.persists = head.known().persists;
                let framing = head.known().framing;
                let head = head.over(bytes);
                let how = ToClient::as_read(head, version, Connection::Keep);
                passed.framing = how.framing;
                write::response(head, &how, &mut passed.head);
                pass_body(bytes, cuts, here, framing, &mut passed);
                return passed;
            }
        }
    }
    passed
}

fn pass_body(bytes: &[u8], cuts: &[usize], here: usize, framing: Framing, passed: &mut Passed) {
    let limits = chunk::Limits::default();
    let mut trailers = Trailers::new();
    let mut body = match Body::new(framing, &limits) {
        Ok(body) => body,
        Err(fault) => {
            passed.end = End::Refused(fault);
            return;
        }
    };
    for here in growing(bytes.len(), cuts).filter(|cut| here <= *cut) {
        loop {
            let mut input = bytes[passed.consumed..here].to_vec();
            let step = match body.next(&mut input, &mut trailers, &limits) {
                Ok(step) => step,
                Err(fault) => {
                    // How far it came says nothing: nothing is read any more.
                    passed.consumed = 0;
                    passed.end = End::Refused(fault);
                    return;
                }
            };
            passed.consumed += step.consumed;
            match step.event {
                Event::Data(range) => passed.body.extend_from_slice(&input[range]),
                Event::More => break,
                Event::End => {
                    passed.trailers = trailers.as_lines().to_vec();
                    passed.end = End::Done;
                    return;
                }
            }
        }
    }
    if body.end_of_input().is_ok() {
        passed.end = End::Done;
    }
}

/// Checks that the same comes of bytes however they are cut, and returns it.
pub(crate) fn however_cut(bytes: &[u8], name: &str, pass: impl Fn(&[usize]) -> Passed) -> Passed {
    let whole = pass(&[]);
    let each: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(pass(&each), whole, "{name}: byte by byte");
    for cut in &each {
        assert_eq!(pass(&[*cut]), whole, "{name}: cut at {cut}");
    }
    whole
}
