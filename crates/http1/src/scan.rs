//! Where a head ends. Bytes are looked at once, however they are cut on their way; what is beyond a
//! limit is refused before its line ends.

use memchr::{memchr_iter, memchr2};

use crate::{fault::Fault, field::is_token_byte, message::Kind};

/// The most fields that any head may have.
pub(crate) const FIELDS_MOST: usize = u8::MAX as usize;
/// What a connection with HTTP/2 begins with (RFC 9113, 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a head may have at most. The types are limits, too: ranges into a head have 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, with empty lines before it and its last line end.
    pub head_bytes_max: u16,
    /// Fields.
    pub fields_max: u8,
    /// Bytes of a request's target.
    pub target_bytes_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { head_bytes_max: 32 * 1024, fields_max: 100, target_bytes_max: 8 * 1024 }
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// More bytes are needed.
    More,
    /// The 24 bytes with which HTTP/2 begins.
    Preface,
    /// A head from its start line to behind its last line end.
    Head { start: usize, end: usize },
}

/// Looks for the end of a head in bytes that grow. It begins anew by itself when there is nothing more
/// to look for: behind a head, behind the preface of HTTP/2, and after a fault.
#[derive(Clone, Debug)]
pub struct Scanner {
    kind: Kind,
    /// Where the start line begins, behind empty lines.
    start: usize,
    has_begun: bool,
    /// Whether it is HTTP/1, as far as the first bytes tell.
    is_http1: bool,
    /// Where the target begins; 0 while that is not known.
    target: usize,
    target_fits: bool,
    /// Where the line begins that is not whole yet.
    line: usize,
    /// Lines that are whole.
    lines: usize,
    /// Bytes that need no second look.
    seen: usize,
    /// Bytes that were looked at, each time again.
    #[cfg(test)]
    looks: usize,
}

impl Scanner {
    /// For the head of a request.
    pub fn request() -> Self {
        Self::of(Kind::Request)
    }

    /// For the head of a response.
    pub fn response() -> Self {
        Self::of(Kind::Response)
    }

    fn of(kind: Kind) -> Self {
        let (start, line, lines, seen, target) = (0, 0, 0, 0, 0);
        let (has_begun, is_http1, target_fits) = (false, false, false);
        Scanner {
            kind,
            start,
            has_begun,
            is_http1,
            target,
            target_fits,
            line,
            lines,
            seen,
            #[cfg(test)]
            looks: 0,
        }
    }

    /// Whether more bytes are needed, of which there is a start line or a part of it; empty lines
    /// before it are none.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Looks at all bytes since the last message, more of them than the last time; at fewer, it begins
    /// anew, for these are others.
    pub(crate) fn next(&mut self, bytes: &[u8], limits: &Limits) -> Result<Found, Fault> {
        if bytes.len().min(limits.head_bytes_max.into()) < self.seen {
            *self = Self::of(self.kind);
        }
        let found = self.scan(bytes, limits);
        if found != Ok(Found::More) {
            *self = Self::of(self.kind);
        }
        found
    }

    fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Found, Fault> {
        let bytes_max = usize::from(limits.head_bytes_max);
        let view = &bytes[..bytes.len().min(bytes_max)];
        let found = match self.begin(view)? {
            Some(found) => found,
            None => {
                self.check_target(view, limits)?;
                self.find_end(view, limits)?
            }
        };
        if found == Found::More && view.len() == bytes_max {
            return Err(Fault::HeadTooLarge);
        }
        Ok(found)
    }

    /// Skips empty lines before a request, and looks whether what follows can be a start line at
    /// all. `None` when it can.
    fn begin(&mut self, view: &[u8]) -> Result<Option<Found>, Fault> {
        if self.is_http1 {
            return Ok(None);
        }
        if self.kind == Kind::Response {
            return self.begin_response(view);
        }
        while let [b'\n', ..] | [b'\r', b'\n', ..] = view[self.start..] {
            self.start += if view[self.start] == b'\n' { 1 } else { 2 };
        }
        (self.line, self.seen) = (self.start, self.start);
        match view[self.start..] {
            [] | [b'\r'] => Ok(Some(Found::More)),
            [first, ..] if is_token_byte(first) => Ok(self.begin_request(view)),
            _ => Err(Fault::StartLine),
        }
    }

    fn begin_response(&mut self, view: &[u8]) -> Result<Option<Found>, Fault> {
        const VERSION: &[u8] = b"HTTP/1.";
        self.has_begun = !view.is_empty();
        self.is_http1 = view.starts_with(VERSION);
        match self.is_http1 {
            true => Ok(None),
            false if VERSION.starts_with(view) => Ok(Some(Found::More)),
            false => Err(Fault::StartLine),
        }
    }

    /// Waits while it could still be HTTP/2, whose preface looks like a head with its first 18 bytes.
    fn begin_request(&mut self, view: &[u8]) -> Option<Found> {
        self.has_begun = true;
        if view.starts_with(PREFACE) {
            return Some(Found::Preface);
        }
        if PREFACE.starts_with(view) {
            return Some(Found::More);
        }
        self.is_http1 = true;
        None
    }

    /// Refuses a target that is too long, also before its end is here.
    fn check_target(&mut self, view: &[u8], limits: &Limits) -> Result<(), Fault> {
        let target_max = usize::from(limits.target_bytes_max);
        if self.target_fits || self.kind == Kind::Response {
            return Ok(());
        }
        if self.target == 0 {
            match self.word_end(view, self.seen) {
                Some(at) if view[at] == b' ' => self.target = at + 1,
                // A line without a target is for the parser to refuse.
                Some(_) => self.target_fits = true,
                None => {}
            }
            if self.target == 0 {
                return Ok(());
            }
        }
        let from = self.seen.max(self.target);
        let end = self.word_end(view, from);
        if end.unwrap_or(view.len()) - self.target > target_max {
            return Err(Fault::TargetTooLong);
        }
        self.target_fits = end.is_some();
        Ok(())
    }

    /// The first space or line feed from here on.
    fn word_end(&mut self, view: &[u8], from: usize) -> Option<usize> {
        self.count_looks(view.len() - from);
        memchr2(b' ', b'\n', &view[from..]).map(|at| from + at)
    }

    #[cfg(test)]
    fn count_looks(&mut self, bytes: usize) {
        self.looks += bytes;
    }

    #[cfg(not(test))]
    fn count_looks(&mut self, _: usize) {}

    fn find_end(&mut self, view: &[u8], limits: &Limits) -> Result<Found, Fault> {
        let from = self.seen;
        self.count_looks(view.len() - from);
        for offset in memchr_iter(b'\n', &view[from..]) {
            let end = from + offset;
            let is_empty = matches!(view[self.line..end], [] | [b'\r']);
            if is_empty {
                return Ok(Found::Head { start: self.start, end: end + 1 });
            }
            self.line = end + 1;
            self.lines += 1;
            if self.lines > usize::from(limits.fields_max) + 1 {
                return Err(Fault::TooManyFields);
            }
        }
        self.seen = view.len();
        Ok(Found::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows a scanner one byte more each time. Returns how many it looked at.
    fn looks(mut scanner: Scanner, bytes: &[u8]) -> usize {
        let limits =
            Limits { head_bytes_max: u16::MAX, target_bytes_max: u16::MAX, ..Limits::default() };
        for end in 1..=bytes.len() {
            assert_eq!(scanner.next(&bytes[..end], &limits), Ok(Found::More), "{end}");
        }
        scanner.looks
    }

    #[test]
    fn bytes_that_trickle_in_are_looked_at_a_few_times_each() {
        let long = "a".repeat(20_000);
        for begin in ["GET /", "", "GET / HTTP/1.1\r\nX: ", "GET / ", "\r\n\r\nGET /"] {
            let sent = format!("{begin}{long}");
            let looks = looks(Scanner::request(), sent.as_bytes());
            assert!(looks <= 3 * sent.len(), "{begin:?}: {looks}");
        }
        let sent = format!("HTTP/1.1 200 {long}");
        let looks = looks(Scanner::response(), sent.as_bytes());
        assert!((long.len()..=3 * sent.len()).contains(&looks), "{looks}");
    }
}
