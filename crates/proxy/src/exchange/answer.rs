//! What we say ourselves, as bytes: failures, and the heads of the control router's responses.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ringmaster_http1::{Framing, Version, write::Connection};

use super::super::errors::Failure;

/// How an answer of ours is framed.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) version: Version,
    pub(super) framing: Framing,
    pub(super) connection: Connection,
}

/// Appends a head of ours.
pub(super) fn head(status: StatusCode, headers: &HeaderMap, how: How, out: &mut Vec<u8>) {
    let version = match how.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    };
    let reason = status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(format!("{version} {} {reason}\r\n", status.as_u16()).as_bytes());
    for (name, value) in headers {
        line(name, value.as_bytes(), out);
    }
    if !headers.contains_key(http::header::DATE) {
        let now = httpdate::fmt_http_date(SystemTime::now());
        line(&http::header::DATE, now.as_bytes(), out);
    }
    match how.framing {
        Framing::Length(length) => {
            line(&http::header::CONTENT_LENGTH, length.to_string().as_bytes(), out);
        }
        Framing::Chunked => line(&http::header::TRANSFER_ENCODING, b"chunked", out),
        Framing::None | Framing::UntilClose => {}
    }
    match (how.connection, how.version) {
        (Connection::Close, _) => line(&http::header::CONNECTION, b"close", out),
        (Connection::Keep, Version::Http10) => {
            line(&http::header::CONNECTION, b"keep-alive", out);
        }
        (Connection::Keep, Version::Http11) => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Values of these types hold nothing that could end a line.
fn line(name: &HeaderName, value: &[u8], out: &mut Vec<u8>) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// To whom a failure is said.
pub(super) struct Audience<'a> {
    pub(super) version: Version,
    pub(super) is_head: bool,
    pub(super) connection: Connection,
    /// What is said as plain text where no replica is in service.
    pub(super) no_replica_text: Option<&'a str>,
    /// What else is said in the head.
    pub(super) told: HeaderMap,
}

/// Appends the answer to a request that gets none of a replica. Returns the bytes of its body.
pub(super) fn failure(failure: &Failure, to: Audience<'_>, out: &mut Vec<u8>) -> u64 {
    let (text, kind) = failure.body(to.no_replica_text);
    let mut headers = to.told;
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if failure.passes() {
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    let length = text.len() as u64;
    let Audience { version, connection, .. } = to;
    let how = How { version, framing: Framing::Length(length), connection };
    head(failure.status(), &headers, how, out);
    if !to.is_head {
        out.extend_from_slice(text.as_bytes());
    }
    length
}
