//! Our own answer in place of a message that is refused or does not come, as bytes: the same JSON as
//! all failures. The connection closes behind it.

pub use crate::message::Status;
use crate::{fault::Fault, field::is_value_byte, message::Kind, write::content_length};

/// The methods with a meaning of their own that are served; CONNECT is not.
const ALLOW: &[u8] = b"allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, TRACE\r\n";

/// Appends the answer to a request that is refused. `date` is the value of `Date`, if there is a
/// clock.
pub fn write(fault: Fault, date: Option<&[u8]>, out: &mut Vec<u8>) {
    write_for(fault, Kind::Request, date, out);
}

/// Appends the answer to a request, when this is wrong with it or with its response.
pub fn write_for(fault: Fault, of: Kind, date: Option<&[u8]>, out: &mut Vec<u8>) {
    write_status(fault.answer(of), fault.sentence(), date, out);
}

/// Appends an answer with this status, which says why in a sentence without its full stop.
pub fn write_status(status: Status, sentence: &str, date: Option<&[u8]>, out: &mut Vec<u8>) {
    let (before, after) = (&b"{\"message\":\"<Error> "[..], &b"\",\"status\":\"failure\"}"[..]);
    for part in [b"HTTP/1.1 ", status.line(), b"\r\ncontent-type: application/json\r\n"] {
        out.extend_from_slice(part);
    }
    let length: usize = sentence.bytes().map(escaped_length).sum();
    content_length((before.len() + length + after.len()) as u64, out);
    if status == Status::MethodNotAllowed {
        out.extend_from_slice(ALLOW);
    }
    // What could end the line is no date.
    if let Some(date) = date.filter(|date| date.iter().copied().all(is_value_byte)) {
        for part in [b"date: ", date, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"connection: close\r\n\r\n");
    out.extend_from_slice(before);
    sentence.bytes().for_each(|byte| push_escaped(byte, out));
    out.extend_from_slice(after);
}

/// Bytes that a byte of a text has in JSON.
fn escaped_length(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' => 2,
        0..=0x1f => 6,
        _ => 1,
    }
}

fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        0..=0x1f => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
        _ => out.push(byte),
    }
}
