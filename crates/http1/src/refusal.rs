//! Our own answer to a message that is refused, as bytes: the same JSON as all failures.

use crate::{fault::Fault, message::Kind, write::content_length};

/// The methods that are served; CONNECT is not.
const ALLOW: &[u8] = b"allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n";

/// Appends the answer to a request that is refused. The connection closes behind it. `date` is the
/// value of `Date`, if there is a clock.
pub fn write(fault: Fault, date: Option<&[u8]>, out: &mut Vec<u8>) {
    let status = fault.status(Kind::Request);
    // No sentence has a character that JSON would escape; a test holds it to that.
    let (before, after) = (&b"{\"message\":\"<Error> "[..], &b"\",\"status\":\"failure\"}"[..]);
    let sentence = fault.sentence().as_bytes();
    for part in [b"HTTP/1.1 ", reason(status), b"\r\ncontent-type: application/json\r\n"] {
        out.extend_from_slice(part);
    }
    content_length((before.len() + sentence.len() + after.len()) as u64, out);
    if status == 405 {
        out.extend_from_slice(ALLOW);
    }
    if let Some(date) = date {
        for part in [b"date: ", date, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    for part in [b"connection: close\r\n\r\n", before, sentence, after] {
        out.extend_from_slice(part);
    }
}

/// The status with its reason.
fn reason(status: u16) -> &'static [u8] {
    match status {
        405 => b"405 Method Not Allowed",
        413 => b"413 Content Too Large",
        414 => b"414 URI Too Long",
        431 => b"431 Request Header Fields Too Large",
        _ => b"400 Bad Request",
    }
}
