//! A head together with its bytes.

use super::{Head, Known, Line, Span, Start, State};
use crate::{
    field::FieldId,
    message::{Method, Version},
};

/// A head to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct HeadRef<'a> {
    head: &'a Head,
    bytes: &'a [u8],
}

/// One field that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its line, for the edits of [`Head`].
    pub line: u16,
    /// What it is, if anything depends on it.
    pub id: FieldId,
    /// Its name as it was received.
    pub name: &'a [u8],
    /// Its value without white space around it.
    pub value: &'a [u8],
}

impl<'a> HeadRef<'a> {
    pub(crate) fn head(self) -> &'a Head {
        self.head
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// What was found out about the message.
    pub fn known(self) -> &'a Known {
        &self.head.known
    }

    /// The version of the message.
    pub fn version(self) -> Version {
        self.head.version
    }

    /// The method, if it is one that something depends on; [`Method::Other`] of a response.
    pub fn method(self) -> Method {
        match self.head.start {
            Start::Request { method, .. } => method,
            Start::Response { .. } => Method::Other,
        }
    }

    /// The method as it was received; empty of a response.
    pub fn method_name(self) -> &'a [u8] {
        match self.head.start {
            Start::Request { name, .. } => part(self.bytes, name),
            Start::Response { .. } => &[],
        }
    }

    /// The path and query, or `*`; empty of a response.
    pub fn target(self) -> &'a [u8] {
        match self.head.start {
            Start::Request { target, is_target_added: true, .. } => part(&self.head.added, target),
            Start::Request { target, .. } => part(self.bytes, target),
            Start::Response { .. } => &[],
        }
    }

    /// The status; 0 of a request.
    pub fn status(self) -> u16 {
        match self.head.start {
            Start::Request { .. } => 0,
            Start::Response { status, .. } => status,
        }
    }

    /// What the status line says behind the status; empty of a request.
    pub fn reason(self) -> &'a [u8] {
        match self.head.start {
            Start::Request { .. } => &[],
            Start::Response { reason, .. } => part(self.bytes, reason),
        }
    }

    /// The name on a line that goes on.
    pub(crate) fn name_of(self, line: &Line) -> &'a [u8] {
        let from = if line.state == State::Added { &self.head.added[..] } else { self.bytes };
        part(from, line.name)
    }

    /// The value on a line that goes on.
    pub(crate) fn value_of(self, line: &Line) -> &'a [u8] {
        let from = if line.state == State::Kept { self.bytes } else { &self.head.added[..] };
        part(from, line.value)
    }

    /// The field on a line, if it goes on.
    pub fn field(self, line: u16) -> Option<Field<'a>> {
        let found = self.head.lines.get(usize::from(line))?;
        // Of a line that was dropped it is not known any more where its bytes are.
        if found.state == State::Dropped {
            return None;
        }
        let (name, value) = (self.name_of(found), self.value_of(found));
        Some(Field { line, id: found.field, name, value })
    }

    /// The fields that go on, in their order; what only the writer says is not among them.
    pub fn fields(self) -> impl Iterator<Item = Field<'a>> {
        (0..).zip(&self.head.lines).filter_map(move |(line, _)| self.field(line))
    }

    /// The first field of this name, in any case, that goes on.
    pub fn find(self, name: &[u8]) -> Option<Field<'a>> {
        self.fields().find(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// The value of a line that [`Known`] names, or that a [`Field`] is on.
    pub fn value(self, line: Option<u16>) -> Option<&'a [u8]> {
        self.field(line?).map(|field| field.value)
    }

    /// The host and port that the request is for.
    pub fn host(self) -> Option<&'a [u8]> {
        self.value(self.known().host)
    }

    /// The protocols that `Upgrade` asks for or switches to, where it goes on.
    pub fn upgrade(self) -> Option<&'a [u8]> {
        self.value(self.known().upgrade)
    }
}

impl Head {
    /// The head together with the bytes that it was read from, which may be more. Where fewer are
    /// given, what lay in the others is empty.
    pub fn over<'a>(&'a self, bytes: &'a [u8]) -> HeadRef<'a> {
        HeadRef { head: self, bytes: bytes.get(..self.length).unwrap_or(bytes) }
    }
}

/// A part of the bytes; empty where they are fewer than the head was read from.
fn part(bytes: &[u8], span: Span) -> &[u8] {
    bytes.get(span.range()).unwrap_or_default()
}
