//! What must hold for any bytes at all: one function each, called by the fuzz targets in `fuzz/` and,
//! with the seeds that are kept there, by the tests. Nothing of a program calls them, so nothing of
//! them is in one.

mod bodies;
mod edits;
mod heads;

pub use bodies::{http1_chunks, http1_trailers};
pub use edits::http1_edits;
pub use heads::{http1_framing, http1_request_head, http1_response_head};

use crate::{
    fault::Fault,
    field::{FieldId, is_token, is_twin, is_value_byte, names},
    framing::Asked,
    head::{Head, HeadRef},
    request, response,
    scan::{Limits, Scanner},
};

/// A function that panics where something does not hold.
pub type Check = fn(&[u8]);

/// All of them by the name of their target, which is that of its corpus.
pub const CHECKS: [(&str, Check); 6] = [
    ("http1_chunks", http1_chunks),
    ("http1_edits", http1_edits),
    ("http1_framing", http1_framing),
    ("http1_request_head", http1_request_head),
    ("http1_response_head", http1_response_head),
    ("http1_trailers", http1_trailers),
];

/// What is read of bytes, and how many of them were needed to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A head of so many bytes.
    Head(usize),
    /// The preface of HTTP/2.
    Preface,
    /// It is refused.
    Refused(Fault),
    /// All of them are not enough.
    Unfinished,
}

/// Reads a request from bytes of which each time as many are there as the cuts say, and at last all.
pub fn read_request(head: &mut Head, bytes: &[u8], cuts: &[usize], limits: &Limits) -> Outcome {
    let mut scanner = Scanner::request();
    for end in cuts.iter().copied().filter(|cut| *cut < bytes.len()).chain([bytes.len()]) {
        match request::read(head, &mut scanner, &bytes[..end], limits) {
            Ok(request::Read::More) => {}
            Ok(request::Read::Preface) => return Outcome::Preface,
            Ok(request::Read::Head(length)) => return Outcome::Head(length),
            Err(fault) => return Outcome::Refused(fault),
        }
    }
    Outcome::Unfinished
}

/// Reads a response like [`read_request`].
pub fn read_response(
    head: &mut Head,
    bytes: &[u8],
    cuts: &[usize],
    asked: &Asked<'_>,
    limits: &Limits,
) -> Outcome {
    let mut scanner = Scanner::response();
    for end in cuts.iter().copied().filter(|cut| *cut < bytes.len()).chain([bytes.len()]) {
        match response::read(head, &mut scanner, &bytes[..end], asked, limits) {
            Ok(response::Read::More) => {}
            Ok(response::Read::Head(length)) => return Outcome::Head(length),
            Err(fault) => return Outcome::Refused(fault),
        }
    }
    Outcome::Unfinished
}

/// A message as it goes on.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What a field of a head that was written is. A twin is none: only requests must not have one.
fn id_of(name: &[u8]) -> FieldId {
    let id = FieldId::of(name);
    if is_twin(id, name) { FieldId::Unknown } else { id }
}

/// The fields that a head has when it is written: a request without a Host gets an empty one.
fn fields_written(head: HeadRef<'_>) -> Fields {
    let mut all = fields(head);
    if head.status() == 0 && head.host().is_none() {
        all.insert(0, (b"host".to_vec(), Vec::new()));
    }
    all
}

/// What is known of a head is said of fields that go on.
fn assert_known(head: HeadRef<'_>) {
    let first = |id| head.fields().find(|field| field.id == id).map(|field| field.line);
    let known = head.known();
    assert_eq!(known.host, first(FieldId::Host));
    assert_eq!(known.request_id, first(FieldId::RequestId));
    assert_eq!(known.forwarded_for, first(FieldId::XForwardedFor));
    assert_eq!(known.upgrade, first(FieldId::Upgrade));
    let mut expectations = head.fields().filter(|field| field.id == FieldId::Expect);
    let expects_100 = expectations.any(|field| names(field.value, b"100-continue"));
    assert_eq!(known.expects_100, expects_100);
    assert!(head.upgrade().is_none_or(|list| !names(list, b"h2c")));
}

fn fields(head: HeadRef<'_>) -> Fields {
    head.fields().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

/// The lines of a head that was written, split as the strictest reader would.
fn written_lines(written: &[u8]) -> Vec<(&[u8], &[u8])> {
    let text = written.strip_suffix(b"\r\n\r\n").expect("it ends with an empty line");
    let mut lines = text.split(|byte| *byte == b'\n').peekable();
    let start = lines.next().expect("there is a first line");
    assert!(start.strip_suffix(b"\r").unwrap_or(start).iter().all(|b| is_value_byte(*b)));
    let mut fields = Vec::new();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        let line = if is_last { line } else { line.strip_suffix(b"\r").expect("CRLF") };
        let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let value = value.strip_prefix(b" ").expect("one space");
        assert!(is_token(name) && value.iter().all(|byte| is_value_byte(*byte)));
        let is_trimmed = |end: Option<&u8>| !matches!(end, Some(b' ' | b'\t'));
        assert!(is_trimmed(value.first()) && is_trimmed(value.last()));
        fields.push((name, value));
    }
    fields
}

/// What no head that goes on may have.
fn assert_unambiguous(fields: &[(&[u8], &[u8])]) {
    let count = |id| fields.iter().filter(|(name, _)| id_of(name) == id).count();
    let (coding, length) = (count(FieldId::TransferEncoding), count(FieldId::ContentLength));
    assert!(coding + length <= 1, "{coding} codings and {length} lengths");
    assert!(count(FieldId::Connection) <= 1 && count(FieldId::Te) <= 1);
    assert!(count(FieldId::KeepAlive) + count(FieldId::ProxyConnection) == 0);
    for (name, value) in fields {
        match id_of(name) {
            FieldId::TransferEncoding => assert_eq!(value, b"chunked"),
            FieldId::ContentLength => assert!(value.iter().all(u8::is_ascii_digit)),
            _ => {}
        }
    }
}
