//! Changes of a head. What is added is checked here and nowhere else: nothing that could end a line
//! gets into a head.

use std::{error, fmt};

use super::{Field, Head, Line, Span, State};
use crate::{
    field::{FieldId, is_token, is_twin, is_value_byte, trimmed},
    host,
    scan::FIELDS_MOST,
};

/// The most lines with those that were added.
const LINES_MAX: usize = FIELDS_MOST + 64;

/// Why a head is not changed. It is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditError {
    /// The name is no token.
    Name,
    /// The value has a control character.
    Value,
    /// Only the writer says it, or a decision stands on it: framing, `Connection`, `Expect`, `Upgrade`.
    Reserved,
    /// There is no such line.
    Line,
    /// It would be more than a head can hold.
    TooLarge,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EditError::Name => "the name of a field is a token",
            EditError::Value => "the value of a field has no control characters",
            EditError::Reserved => "framing, Connection, Expect and Upgrade are not set by hand",
            EditError::Line => "there is no such line",
            EditError::TooLarge => "there is no room for another field",
        })
    }
}

impl error::Error for EditError {}

impl Head {
    /// Lets a line not go on. What [`Known`](super::Known) says of its field is said of the next line
    /// of that field, if there is one.
    pub fn drop_line(&mut self, line: u16) {
        if let Some(line) = self.lines.get_mut(usize::from(line)) {
            line.state = State::Dropped;
            let field = line.field;
            self.settle_known(field);
        }
    }

    /// Lets no line of a field go on. Fields without an identity of their own are dropped by
    /// [`Head::retain`].
    pub fn drop_field(&mut self, field: FieldId) {
        if field == FieldId::Unknown {
            return;
        }
        for line in self.lines.iter_mut().filter(|line| line.field == field) {
            line.state = State::Dropped;
        }
        self.settle_known(field);
    }

    /// Makes what is known of a field right again, of which a line was dropped.
    fn settle_known(&mut self, field: FieldId) {
        let Head { lines, known, .. } = self;
        let goes_on = |line: &Line| line.field == field && line.state != State::Dropped;
        // What is named is the first line that went on, so the next one lies behind it.
        let next = |named: Option<u16>| {
            let named = usize::from(named?);
            let offset = lines.get(named..)?.iter().position(goes_on)?;
            u16::try_from(named + offset).ok()
        };
        match field {
            FieldId::Host => known.host = next(known.host),
            FieldId::RequestId => known.request_id = next(known.request_id),
            FieldId::XForwardedFor => known.forwarded_for = next(known.forwarded_for),
            FieldId::Upgrade => known.upgrade = next(known.upgrade),
            FieldId::Expect => {
                known.expects_100 = lines.iter().any(|line| goes_on(line) && line.expects_100);
            }
            _ => {}
        }
    }

    /// Lets all fields not go on that are not to be kept. The bytes are those that the head was read
    /// from.
    pub fn retain(&mut self, bytes: &[u8], mut keeps: impl FnMut(Field<'_>) -> bool) {
        let mut line = 0;
        while let Some(state) = self.lines.get(usize::from(line)).map(|line| line.state) {
            if state != State::Dropped && !self.over(bytes).field(line).is_some_and(&mut keeps) {
                self.drop_line(line);
            }
            line += 1;
        }
    }

    /// Gives a line another value, which may be given in parts.
    pub fn set(&mut self, line: u16, value: &[&[u8]]) -> Result<(), EditError> {
        let at = usize::from(line);
        let before = *self.lines.get(at).ok_or(EditError::Line)?;
        let state = check_line(&before)?;
        let value = self.store_value(self.added.len(), before.field, value)?;
        self.lines[at] = Line { value, state, exact: false, ..before };
        Ok(())
    }

    /// Adds to the value of a line, which may be one of the bytes that the head was read from.
    pub fn append(&mut self, bytes: &[u8], line: u16, more: &[&[u8]]) -> Result<(), EditError> {
        let at = usize::from(line);
        let before = *self.lines.get(at).ok_or(EditError::Line)?;
        let state = check_line(&before)?;
        let end = self.added.len();
        match before.state {
            State::Kept => {
                let value = bytes.get(before.value.range()).ok_or(EditError::Line)?;
                self.added.extend_from_slice(value);
            }
            _ => self.added.extend_from_within(before.value.range()),
        }
        let value = self.store_value(end, before.field, more)?;
        self.lines[at] = Line { value, state, exact: false, ..before };
        Ok(())
    }

    /// Adds a field behind all others, with a value that may be given in parts. Of `Host` there is
    /// only one: it is replaced.
    pub fn add(&mut self, name: &[u8], value: &[&[u8]]) -> Result<(), EditError> {
        if !is_token(name) {
            return Err(EditError::Name);
        }
        let field = FieldId::of(name);
        if is_reserved(field) {
            return Err(EditError::Reserved);
        }
        // As in what was received, a twin of a field has no identity.
        let field = if is_twin(field, name) { FieldId::Unknown } else { field };
        if let (FieldId::Host, Some(line)) = (field, self.known.host) {
            return self.set(line, value);
        }
        if LINES_MAX <= self.lines.len() {
            return Err(EditError::TooLarge);
        }
        let end = self.added.len();
        let value = self.store_value(end, field, value)?;
        let start = self.added.len();
        self.added.extend_from_slice(name);
        let Some(name) = Span::new(start..self.added.len()) else {
            self.added.truncate(end);
            return Err(EditError::TooLarge);
        };
        let index = u16::try_from(self.lines.len()).ok();
        self.lines.push(Line {
            name,
            value,
            field,
            state: State::Added,
            exact: false,
            expects_100: false,
        });
        match field {
            FieldId::Host => self.known.host = index,
            FieldId::RequestId => self.known.request_id = self.known.request_id.or(index),
            FieldId::XForwardedFor => {
                self.known.forwarded_for = self.known.forwarded_for.or(index);
            }
            _ => {}
        }
        Ok(())
    }

    /// The one place where a value becomes a part of a head. It begins with what was added from
    /// `start` on, which is checked with the rest, for it may come from other bytes than those that
    /// the head was read from. All of it is removed again when it is refused.
    fn store_value(
        &mut self,
        start: usize,
        field: FieldId,
        parts: &[&[u8]],
    ) -> Result<Span, EditError> {
        for part in parts {
            self.added.extend_from_slice(part);
        }
        let value = trimmed(&self.added[start..]);
        let is_fit = value.iter().copied().all(is_value_byte);
        if !is_fit || (field == FieldId::Host && !host::is_host(value)) {
            self.added.truncate(start);
            return Err(EditError::Value);
        }
        match Span::of(value, &self.added) {
            Some(span) => Ok(span),
            None => {
                self.added.truncate(start);
                Err(EditError::TooLarge)
            }
        }
    }
}

/// Whether a value of this field is not given by hand: the writer says it, or what was decided about
/// the message depends on it.
fn is_reserved(field: FieldId) -> bool {
    field.is_set_by_writer() || matches!(field, FieldId::Expect | FieldId::Upgrade)
}

/// What becomes of a line that gets another value.
fn check_line(line: &Line) -> Result<State, EditError> {
    match line.state {
        _ if is_reserved(line.field) => Err(EditError::Reserved),
        State::Dropped => Err(EditError::Line),
        State::Added => Ok(State::Added),
        State::Kept | State::Replaced => Ok(State::Replaced),
    }
}
