//! Writes a head as it goes on. Framing and `Connection` are said from what was decided; no line of
//! them is ever copied.

use crate::{
    framing::Framing,
    head::{EditError, Head, HeadRef, Line, Start, State},
    host::is_host,
    message::Version,
    number::push_decimal,
};

/// How a request goes to a replica. How its body is framed is no choice: that is what was decided
/// when its head was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToReplica<'a> {
    te_trailers: bool,
    closes: bool,
    host: &'a [u8],
}

impl<'a> ToReplica<'a> {
    /// As the request came. HTTP/1.1 has a Host always: where the request has none, which HTTP/1.0
    /// may, it gets an empty one (RFC 9112, 3.2).
    pub fn as_read(head: HeadRef<'_>) -> Self {
        ToReplica { te_trailers: head.known().te_trailers, closes: false, host: b"" }
    }

    /// Says that the connection serves no other request.
    pub fn closing(self) -> Self {
        ToReplica { closes: true, ..self }
    }

    /// With this host where the request has none.
    pub fn with_host(self, host: &'a [u8]) -> Result<Self, EditError> {
        if is_host(host) { Ok(ToReplica { host, ..self }) } else { Err(EditError::Value) }
    }
}

/// What a response says of the client's connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// It serves another request: said to HTTP/1.0, which expects the contrary.
    #[default]
    Keep,
    /// It ends with this response.
    Close,
}

/// How a response goes to a client. What of this would contradict itself is not written: a body that
/// ends with the connection closes it, HTTP/1.0 gets no chunks, and a body that follows has an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToClient {
    /// The client's version.
    pub version: Version,
    /// How the body is framed, for this version.
    pub framing: Framing,
    /// The length of a body that does not follow: to HEAD, and with 304.
    pub announced_length: Option<u64>,
    /// What becomes of the connection.
    pub connection: Connection,
}

impl ToClient {
    /// As the response came, to a client of this version. Where only the end of the connection ends
    /// the body, it closes.
    pub fn as_read(head: HeadRef<'_>, version: Version, connection: Connection) -> Self {
        let known = head.known();
        let framing = known.framing.toward(version);
        let closes = framing == Framing::UntilClose;
        let connection = if closes { Connection::Close } else { connection };
        ToClient { version, framing, announced_length: known.announced_length, connection }
    }

    /// How the body is framed in what is written.
    fn framing_of(&self, head: HeadRef<'_>) -> Framing {
        let framing = match self.framing {
            // A client would wait for the next response, and get this body as one.
            Framing::None => head.known().framing,
            framing => framing,
        };
        match (framing, self.version) {
            (Framing::Chunked, Version::Http10) => Framing::UntilClose,
            (framing, _) => framing,
        }
    }
}

/// Appends the head of a request, in HTTP/1.1. A head that is not one of a request is a mistake of the
/// caller: of it nothing is written.
pub fn request(head: HeadRef<'_>, how: &ToReplica<'_>, out: &mut Vec<u8>) {
    let is_request = matches!(head.head().start, Start::Request { .. });
    debug_assert!(is_request, "only a request goes to a replica");
    if !is_request {
        return;
    }
    let mut run = Run::default();
    if head.head().is_start_exact {
        run.add(head.head().start_line.range(), head.bytes(), out);
    } else {
        let parts = [head.method_name(), b" ", head.target(), b" HTTP/1.1\r\n"];
        parts.iter().for_each(|part| out.extend_from_slice(part));
    }
    if head.host().is_none() {
        run.end(head.bytes(), out);
        for part in [b"host: ", how.host, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    lines(head, run, out);
    match head.known().framing {
        Framing::None => {}
        Framing::Length(length) => content_length(length, out),
        Framing::Chunked | Framing::UntilClose => out.extend_from_slice(CHUNKED),
    }
    if how.te_trailers {
        out.extend_from_slice(b"te: trailers\r\n");
    }
    let options: [(&[u8], bool); 3] = [
        (b"close", how.closes),
        (b"te", how.te_trailers),
        (b"upgrade", head.known().upgrade.is_some()),
    ];
    connection(&options, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a response, an interim one too, in the version of its client. A head that is not
/// one of a response is a mistake of the caller: of it nothing is written.
pub fn response(head: HeadRef<'_>, how: &ToClient, out: &mut Vec<u8>) {
    let is_response = head.status() != 0;
    debug_assert!(is_response, "only a response goes to a client");
    if !is_response {
        return;
    }
    let mut run = Run::default();
    if head.head().is_start_exact && how.version == Version::Http11 {
        run.add(head.head().start_line.range(), head.bytes(), out);
    } else {
        out.extend_from_slice(version(how.version));
        out.push(b' ');
        push_decimal(head.status().into(), out);
        out.push(b' ');
        out.extend_from_slice(head.reason());
        out.extend_from_slice(b"\r\n");
    }
    lines(head, run, out);
    let is_interim = head.status() < 200;
    let framing = how.framing_of(head);
    match framing {
        _ if is_interim || head.status() == 204 => {}
        Framing::Length(length) => content_length(length, out),
        Framing::Chunked => out.extend_from_slice(CHUNKED),
        Framing::None => {
            how.announced_length.into_iter().for_each(|length| content_length(length, out))
        }
        Framing::UntilClose => {}
    }
    let closes = how.connection == Connection::Close || framing == Framing::UntilClose;
    let options: [(&[u8], bool); 3] = [
        (b"close", closes && !is_interim),
        (b"keep-alive", !closes && how.version == Version::Http10 && !is_interim),
        (b"upgrade", head.known().upgrade.is_some()),
    ];
    connection(&options, out);
    out.extend_from_slice(b"\r\n");
}

const CHUNKED: &[u8] = b"transfer-encoding: chunked\r\n";

pub(crate) fn version(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
    }
}

pub(crate) fn content_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    push_decimal(length, out);
    out.extend_from_slice(b"\r\n");
}

/// `Connection` with the options that are meant, if any is.
fn connection(options: &[(&[u8], bool)], out: &mut Vec<u8>) {
    let mut separator: &[u8] = b"connection: ";
    for (option, _) in options.iter().filter(|(_, is_meant)| *is_meant) {
        out.extend_from_slice(separator);
        out.extend_from_slice(option);
        separator = b", ";
    }
    if separator == b", " {
        out.extend_from_slice(b"\r\n");
    }
}

/// The lines that go on.
fn lines(head: HeadRef<'_>, mut run: Run, out: &mut Vec<u8>) {
    let Head { lines, .. } = head.head();
    for line in lines.iter().filter(|line| line.state != State::Dropped) {
        if line.exact && line.state == State::Kept {
            run.add(line.name.range().start..line.value.range().end + 2, head.bytes(), out);
        } else {
            run.end(head.bytes(), out);
            rewritten(head, line, out);
        }
    }
    run.end(head.bytes(), out);
}

fn rewritten(head: HeadRef<'_>, line: &Line, out: &mut Vec<u8>) {
    out.extend_from_slice(head.name_of(line));
    out.extend_from_slice(b": ");
    out.extend_from_slice(head.value_of(line));
    out.extend_from_slice(b"\r\n");
}

/// Lines that stand side by side and are copied as one piece.
#[derive(Debug, Default)]
struct Run {
    start: usize,
    end: usize,
}

impl Run {
    fn add(&mut self, line: std::ops::Range<usize>, bytes: &[u8], out: &mut Vec<u8>) {
        if line.start != self.end {
            self.end(bytes, out);
            self.start = line.start;
        }
        self.end = line.end;
    }

    fn end(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(bytes.get(self.start..self.end).unwrap_or_default());
        self.start = self.end;
    }
}
