//! Changes of a head. What is added is checked here and nowhere else: nothing that could end a line
//! gets into a head.

use std::{error, fmt};

use super::{Field, Head, Line, Span, State};
use crate::{
    field::{FieldId, is_token, is_value_byte, trimmed},
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
    /// Only the writer says it.
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
            EditError::Reserved => "what the message's framing says is not set by hand",
            EditError::Line => "there is no such line",
            EditError::TooLarge => "there is no room for another field",
        })
    }
}

impl error::Error for EditError {}

impl Head {
    /// Lets a line not go on.
    pub fn drop_line(&mut self, line: u16) {
        if let Some(line) = self.lines.get_mut(usize::from(line)) {
            line.state = State::Dropped;
        }
        let known = &mut self.known;
        for kept in
            [&mut known.host, &mut known.request_id, &mut known.forwarded_for, &mut known.upgrade]
        {
            kept.take_if(|kept| *kept == line);
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
        if field.is_the_writers() || field == FieldId::Upgrade {
            return Err(EditError::Reserved);
        }
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
        self.lines.push(Line { name, value, field, state: State::Added, exact: false });
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
    /// `start` on, which is removed again when it is refused.
    fn store_value(
        &mut self,
        start: usize,
        field: FieldId,
        parts: &[&[u8]],
    ) -> Result<Span, EditError> {
        for part in parts {
            if !part.iter().copied().all(is_value_byte) {
                self.added.truncate(start);
                return Err(EditError::Value);
            }
            self.added.extend_from_slice(part);
        }
        let value = trimmed(&self.added[start..]);
        if field == FieldId::Host && !host::is_host(value) {
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

/// What becomes of a line that gets another value.
fn check_line(line: &Line) -> Result<State, EditError> {
    match line.state {
        _ if line.field.is_the_writers() => Err(EditError::Reserved),
        State::Dropped => Err(EditError::Line),
        State::Added => Ok(State::Added),
        State::Kept | State::Replaced => Ok(State::Replaced),
    }
}
