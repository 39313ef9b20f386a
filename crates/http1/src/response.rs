//! Reads the head of a response, interim ones too.

use httparse::ParserConfig;

use crate::{
    fault::Fault,
    field::{is_protocol, trimmed},
    framing::{self, Asked},
    head::{Head, Span, Start},
    lines::{self, Said},
    message::{Kind, Version},
    scan::{Found, Limits, Scanner},
};

/// `HTTP/1.1 200`.
const STATUS_END: usize = 12;

/// How far reading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// More bytes are needed.
    More,
    /// The head is read; it was so many bytes. After an interim response another one follows.
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
    asked: &Asked<'_>,
    limits: &Limits,
) -> Result<Read, Fault> {
    head.clear();
    match scanner.next(bytes, limits)? {
        Found::More => Ok(Read::More),
        Found::Preface => Err(Fault::StartLine),
        Found::Head { end, .. } => {
            parse(head, &bytes[..end], asked).inspect_err(|_| head.clear())?;
            Ok(Read::Head(end))
        }
    }
}

fn parse(head: &mut Head, bytes: &[u8], asked: &Asked<'_>) -> Result<(), Fault> {
    let mut room = lines::room();
    let mut parsed = httparse::Response::new(&mut []);
    let tokenised =
        ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut room);
    match tokenised.map_err(lines::fault_of)? {
        httparse::Status::Complete(length) if length == bytes.len() => {}
        // The scanner and the tokeniser have the same line ends, so this cannot be.
        _ => return Err(Fault::StartLine),
    }
    let Some(status) = parsed.code.filter(|status| (100..600).contains(status)) else {
        return Err(Fault::Status);
    };
    head.version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let said = lines::read(head, bytes, parsed.headers, Kind::Response)?;
    start_line(head, bytes, status)?;
    settle(head, bytes, &said, status, asked)?;
    head.length = bytes.len();
    Ok(())
}

/// Takes in the status line. The tokeniser has checked it, but leaves out a reason with obs-text.
fn start_line(head: &mut Head, bytes: &[u8], status: u16) -> Result<(), Fault> {
    let line_end = memchr::memchr(b'\n', bytes).ok_or(Fault::StartLine)?;
    let line = &bytes[..line_end];
    let is_crlf = line.ends_with(b"\r");
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    let has_space = text.get(STATUS_END) == Some(&b' ');
    let reason_start = text.len().min(STATUS_END + usize::from(has_space));
    let reason = Span::new(reason_start..text.len()).ok_or(Fault::HeadTooLarge)?;
    head.start_line = Span::new(0..line_end + 1).ok_or(Fault::HeadTooLarge)?;
    head.is_start_exact = has_space && is_crlf && head.version == Version::Http11;
    head.start = Start::Response { status, reason };
    Ok(())
}

/// What follows from all fields together.
fn settle(
    head: &mut Head,
    bytes: &[u8],
    said: &Said,
    status: u16,
    asked: &Asked<'_>,
) -> Result<(), Fault> {
    let decision = framing::response(asked, head.version, status, said.lengths)?;
    head.known.framing = decision.framing;
    head.known.announced_length = decision.announced_length;
    head.settle_persistence(decision.keeps);
    if status != 101 {
        head.settle_upgrade(said, false);
        return Ok(());
    }
    // Only its client can know what follows, so it must be what was asked for, and said as only
    // HTTP/1.1 says it (RFC 9110, 7.8).
    let is_meant = head.version == Version::Http11 && said.upgrades && said.upgrade_lines == 1;
    let line = head.known.upgrade.filter(|_| is_meant).ok_or(Fault::Switch)?;
    let line = &head.lines[usize::from(line)];
    let protocol = trimmed(&bytes[line.value.range()]);
    if !is_protocol(protocol) || !asked.for_protocol(protocol) {
        return Err(Fault::Switch);
    }
    Ok(())
}
