//! What stands behind the last chunk. It obeys the rules of fields, and says nothing that belongs in
//! a head.

use memchr::memchr;

use crate::{fault::Fault, field::FieldId, scan::FIELDS_MOST};

/// The trailers of one body; scratch that is used again. Reading another body into it clears it, so
/// that no message gets the trailers of another one.
#[derive(Clone, Debug, Default)]
pub struct Trailers {
    /// As they came, until they are complete.
    received: Vec<u8>,
    /// Those that go on, each with its line end.
    kept: Vec<u8>,
}

impl Trailers {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets those of the last body, and keeps the memory. Only what is written without having been
    /// read needs it: reading does this by itself.
    pub fn clear(&mut self) {
        self.received.clear();
        self.kept.clear();
    }

    /// Those that go on, as lines.
    pub fn as_lines(&self) -> &[u8] {
        &self.kept
    }

    /// Those that go on, as names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = self.kept.split_inclusive(|byte| *byte == b'\n');
        lines.filter_map(|line| {
            let line = line.strip_suffix(b"\r\n")?;
            let (name, value) = line.split_at(memchr(b':', line)?);
            Some((name, value.get(2..)?))
        })
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.received.push(byte);
    }

    /// All lines are here, each with its line end.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        if self.received.is_empty() {
            return Ok(());
        }
        self.received.extend_from_slice(b"\r\n");
        let mut room = [httparse::EMPTY_HEADER; FIELDS_MOST];
        let parsed = httparse::parse_headers(&self.received, &mut room);
        let Ok(httparse::Status::Complete((length, fields))) = parsed else {
            return Err(Fault::Trailer);
        };
        if length != self.received.len() {
            return Err(Fault::Trailer);
        }
        for field in fields {
            let name = field.name.as_bytes();
            if !FieldId::of(name).is_forbidden_in_trailers() {
                for part in [name, b": ", field.value, b"\r\n"] {
                    self.kept.extend_from_slice(part);
                }
            }
        }
        self.received.clear();
        Ok(())
    }
}
