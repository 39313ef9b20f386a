//! Reads the head of a request.

use httparse::ParserConfig;

use crate::{
    fault::Fault,
    field::{elements, is_protocol},
    framing,
    head::{Head, Line, Span, Start},
    host,
    lines::{self, Said},
    message::{Kind, Method, Version},
    scan::{Found, Limits, Scanner},
    target,
};

/// How far reading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// More bytes are needed.
    More,
    /// The client speaks HTTP/2: these are the first 24 bytes of its preface.
    Preface,
    /// The head is read; it was so many bytes.
    Head(usize),
}

/// Reads a head from all bytes since the last message, with the scanner that saw the first of them.
///
/// After [`Read::Head`] the head can be looked at over these bytes; otherwise it is empty. The scanner
/// is as new unless more bytes are needed.
pub fn read(
    head: &mut Head,
    scanner: &mut Scanner,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Read, Fault> {
    head.clear();
    match scanner.next(bytes, limits)? {
        Found::More => Ok(Read::More),
        Found::Preface => Ok(Read::Preface),
        Found::Head { start, end } => {
            parse(head, &bytes[..end], start).inspect_err(|_| head.clear())?;
            Ok(Read::Head(end))
        }
    }
}

fn parse(head: &mut Head, bytes: &[u8], start: usize) -> Result<(), Fault> {
    let mut room = lines::room();
    let mut parsed = httparse::Request::new(&mut []);
    let tokenised = ParserConfig::default().parse_request_with_uninit_headers(
        &mut parsed,
        &bytes[start..],
        &mut room,
    );
    match tokenised.map_err(lines::fault_of)? {
        httparse::Status::Complete(length) if start + length == bytes.len() => {}
        // The scanner and the tokeniser have the same line ends, so this cannot be.
        _ => return Err(Fault::StartLine),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(Fault::StartLine);
    };
    head.version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let said = lines::read(head, bytes, parsed.headers, Kind::Request)?;
    let authority = start_line(head, bytes, method, target)?;
    settle_host(head, bytes, &said, authority)?;
    settle(head, bytes, &said)?;
    head.length = bytes.len();
    Ok(())
}

/// Takes in the request line. Returns the authority of a target in absolute form.
fn start_line<'b>(
    head: &mut Head,
    bytes: &'b [u8],
    method: &'b str,
    target: &'b str,
) -> Result<Option<&'b [u8]>, Fault> {
    let too_large = Fault::HeadTooLarge;
    let (name, whole) = (method.as_bytes(), target.as_bytes());
    let method = Method::of(name);
    let target = target::read(method, whole)?;
    let name = Span::of(name, bytes).ok_or(too_large)?;
    let whole = Span::of(whole, bytes).ok_or(too_large)?;
    // A space, and a version of eight bytes.
    let end = whole.range().end + 9;
    head.start_line = Span::new(name.range().start..end + 2).ok_or(too_large)?;
    let (span, is_target_added) = if target.missing_start.is_empty() {
        (Span::of(target.path, bytes).ok_or(too_large)?, false)
    } else {
        head.added.extend_from_slice(target.missing_start);
        head.added.extend_from_slice(target.path);
        (Span::new(0..head.added.len()).ok_or(too_large)?, true)
    };
    head.is_start_exact = span == whole
        && !is_target_added
        && head.version == Version::Http11
        && bytes[end..].starts_with(b"\r\n");
    head.start = Start::Request { method, name, target: span, is_target_added };
    Ok(target.authority)
}

/// What the request is for: exactly one Host, which the authority of a target replaces.
fn settle_host(
    head: &mut Head,
    bytes: &[u8],
    said: &Said,
    authority: Option<&[u8]>,
) -> Result<(), Fault> {
    if 1 < said.hosts {
        return Err(Fault::SeveralHosts);
    }
    let Some(index) = head.known.host.map(usize::from) else {
        return match (head.version, authority) {
            (Version::Http11, _) => Err(Fault::NoHost),
            (Version::Http10, Some(authority)) => {
                head.add(b"host", &[authority]).map_err(|_| Fault::HeadTooLarge)
            }
            (Version::Http10, None) => Ok(()),
        };
    };
    let value = &bytes[head.lines[index].value.range()];
    match authority {
        _ if !host::is_host(value) => Err(Fault::BadHost),
        // An empty Host belongs to a target without an authority.
        Some(_) if value.is_empty() => Err(Fault::BadHost),
        Some(authority) if authority != value => {
            let value = Span::of(authority, bytes).ok_or(Fault::HeadTooLarge)?;
            head.lines[index] = Line { value, exact: false, ..head.lines[index] };
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What follows from all fields together.
fn settle(head: &mut Head, bytes: &[u8], said: &Said) -> Result<(), Fault> {
    let Start::Request { method, .. } = head.start else { return Err(Fault::StartLine) };
    let decision = framing::request(method, head.version, said.lengths)?;
    head.known.framing = decision.framing;
    head.settle_persistence(decision.keeps);
    let is_new = head.version == Version::Http11;
    let has_body = !decision.framing.is_empty();
    head.known.te_trailers &= is_new;
    let is_fit = asks_for_protocols(head, bytes);
    head.settle_upgrade(said, is_new && !has_body && is_fit);
    // HTTP/1.0 knows no such question.
    head.settle_expect(said, is_new && has_body);
    Ok(())
}

/// Whether `Upgrade` names protocols and nothing else, and none of them is HTTP/2: a replica that
/// switched to it would take requests that are not looked at here.
fn asks_for_protocols(head: &Head, bytes: &[u8]) -> bool {
    let Some(line) = head.known.upgrade.map(|line| head.lines[usize::from(line)]) else {
        return false;
    };
    let list = &bytes[line.value.range()];
    let is_h2c = |name: &[u8]| name.eq_ignore_ascii_case(b"h2c");
    elements(list).next().is_some()
        && elements(list).all(|protocol| {
            is_protocol(protocol) && !protocol.split(|byte| *byte == b'/').any(is_h2c)
        })
}
