//! A head: the bytes that were received, ranges into them, and what was changed.
//!
//! A [`Head`] is scratch that is used again: it holds ranges and what was added, not the bytes. A
//! [`HeadRef`] is both together, and what everything else looks at.

mod edit;
mod view;

use std::ops::Range;

pub use edit::EditError;
pub use view::{Field, HeadRef};

use crate::{
    field::FieldId,
    framing::Framing,
    message::{Method, Version},
};

/// A range of bytes, in what was received or in what was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u16,
    pub(crate) end: u16,
}

impl Span {
    /// `None` beyond 16 bits.
    pub(crate) fn new(range: Range<usize>) -> Option<Span> {
        let start = u16::try_from(range.start).ok()?;
        Some(Span { start, end: u16::try_from(range.end).ok()? })
    }

    /// Where a part of these bytes lies in them. `None` when it is no part of them.
    pub(crate) fn of(part: &[u8], bytes: &[u8]) -> Option<Span> {
        let start = part.as_ptr().addr().checked_sub(bytes.as_ptr().addr())?;
        let end = start + part.len();
        if bytes.len() < end { None } else { Span::new(start..end) }
    }

    pub(crate) fn range(self) -> Range<usize> {
        self.start.into()..self.end.into()
    }
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It goes on as it came.
    Kept,
    /// It does not go on.
    Dropped,
    /// It goes on with a value that was added.
    Replaced,
    /// Name and value were added.
    Added,
}

/// One field of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) name: Span,
    pub(crate) value: Span,
    pub(crate) field: FieldId,
    pub(crate) state: State,
    /// Whether it was received as `name: value` and CRLF, so that it can be copied.
    pub(crate) exact: bool,
    /// Whether it is an `Expect` that asks to be asked for the body.
    pub(crate) expects_100: bool,
}

/// The first line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    Request {
        method: Method,
        name: Span,
        target: Span,
        /// Whether the target is in what was added.
        is_target_added: bool,
    },
    Response {
        status: u16,
        reason: Span,
    },
}

/// What was found out about a message while its head was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// How its body ends.
    pub framing: Framing,
    /// The length of a body that does not follow: to HEAD, and with 304.
    pub announced_length: Option<u64>,
    /// Whether the connection may serve another message, as far as this head tells.
    pub persists: bool,
    /// Whether `Connection` says `close`.
    pub close: bool,
    /// Whether `Connection` says `keep-alive`.
    pub keep_alive: bool,
    /// The line of `Upgrade` that goes on: another protocol is asked for, or switched to.
    pub upgrade: Option<u16>,
    /// Whether the client waits to be asked for the body: an `Expect` that says so goes on.
    pub expects_100: bool,
    /// Whether trailers are understood.
    pub te_trailers: bool,
    /// The line of `Host`.
    pub host: Option<u16>,
    /// The first line of `X-Request-ID`.
    pub request_id: Option<u16>,
    /// The first line of `X-Forwarded-For`.
    pub forwarded_for: Option<u16>,
}

/// The head of a message without its bytes; scratch that is used again and again.
#[derive(Debug)]
pub struct Head {
    pub(crate) start: Start,
    pub(crate) version: Version,
    /// The start line as it was received.
    pub(crate) start_line: Span,
    /// Whether the start line can be copied.
    pub(crate) is_start_exact: bool,
    pub(crate) lines: Vec<Line>,
    pub(crate) added: Vec<u8>,
    pub(crate) known: Known,
    /// Bytes of the head as it was received.
    pub(crate) length: usize,
}

impl Default for Head {
    fn default() -> Self {
        Head {
            start: Start::Response { status: 0, reason: Span::default() },
            version: Version::Http11,
            start_line: Span::default(),
            is_start_exact: false,
            lines: Vec::new(),
            added: Vec::new(),
            known: Known::default(),
            length: 0,
        }
    }
}

impl Head {
    /// An empty one, to be read into.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the last message, and keeps the memory: the same as a new one.
    pub(crate) fn clear(&mut self) {
        let (mut lines, mut added) =
            (std::mem::take(&mut self.lines), std::mem::take(&mut self.added));
        lines.clear();
        added.clear();
        *self = Head { lines, added, ..Head::default() };
    }

    /// What was found out about the message.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// The version of the message.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Bytes of the head as it was received, with the empty lines before it.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing has been read into it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}
