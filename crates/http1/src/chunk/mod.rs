//! Bodies in chunks (RFC 9112, 7.1): a decoder that lets through what all readers understand alike,
//! and the encoder.

mod encode;
mod trailers;

use std::ops::Range;

pub use encode::{HEAD_SPACE, TAIL_SPACE, enclose, push, push_last};
pub use trailers::Trailers;

use crate::{fault::Fault, field::is_token_byte, field::is_value_byte};

/// Digits of a chunk's size, leading zeros included.
const DIGITS_MAX: u8 = 16;
/// Bytes of the line before a chunk, with its line end.
const LINE_MAX: u16 = 256;
/// Bytes of the extensions of one body: what does nothing must not outweigh it.
const EXTENSIONS_MAX: u16 = 16 * 1024;
/// A chunk up to this size is moved beside the one before it rather than handed on alone.
const MERGED_MAX: usize = 1024;

/// What a body may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes without the chunks' own.
    pub body_max: u64,
    /// Bytes of the trailers.
    pub trailer_bytes_max: u16,
    /// Trailers.
    pub trailers_max: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { body_max: u64::MAX, trailer_bytes_max: 32 * 1024, trailers_max: 100 }
    }
}

/// What is next in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// More bytes are needed.
    More,
    /// These bytes of the input belong to the body. Never empty.
    Data(Range<usize>),
    /// The body is complete.
    End,
}

/// An event, and how many bytes of the input are done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes from the begin of the input that are not to be shown again.
    pub consumed: usize,
    /// What is next.
    pub event: Event,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// The name of an extension; the flag says that it has a byte.
    Name(bool),
    /// What follows its `=`.
    Value,
    Token,
    Quoted,
    Escaped,
    Unquoted,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The begin of a trailer, or of the last line end.
    Trailer,
    InTrailer,
    TrailerLf,
    EndLf,
    Done,
    Failed(Fault),
}

/// Follows a body in chunks, however it is cut. It is numbers only: nothing of the input is kept.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    state: State,
    /// The size that is being read, then the bytes that are still to come of the chunk.
    left: u64,
    digits: u8,
    line: u16,
    extensions: u16,
    trailer_bytes: u16,
    trailers: u8,
    /// Bytes of the body so far, with the whole chunk that is being read.
    body: u64,
}

impl Decoder {
    /// For a body that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Goes on to the next piece of the body in these bytes, or to its end. Trailers are those of this
    /// body, and complete when it is: what another body left in them is cleared. A fault is final.
    pub fn next(
        &mut self,
        input: &[u8],
        trailers: &mut Trailers,
        limits: &Limits,
    ) -> Result<Step, Fault> {
        if !self.has_last_chunk() {
            trailers.clear();
        }
        let begun = self.advance(input, trailers, limits)?;
        Ok(match self.take_data(begun, input.len()) {
            Some(data) => Step { consumed: data.end, event: Event::Data(data) },
            None if self.is_done() => Step { consumed: begun, event: Event::End },
            None => Step { consumed: begun, event: Event::More },
        })
    }

    /// Like [`Decoder::next`], and moves small chunks together, so that a body in tiny ones is as
    /// few pieces as another. The last piece may come with the end: ask [`Decoder::is_done`] before
    /// waiting for more bytes.
    pub fn next_merged(
        &mut self,
        input: &mut [u8],
        trailers: &mut Trailers,
        limits: &Limits,
    ) -> Result<Step, Fault> {
        let first = self.next(input, trailers, limits)?;
        let Event::Data(mut data) = first.event else { return Ok(first) };
        let mut consumed = first.consumed;
        // What is wrong behind these bytes is said the next time, for it is final.
        while let Ok(begun) = self.advance(&input[consumed..], trailers, limits) {
            consumed += begun;
            let here = self.here(input.len() - consumed);
            if here == 0 || MERGED_MAX < here {
                break;
            }
            let Some(more) = self.take_data(consumed, input.len()) else { break };
            consumed = more.end;
            let end = data.end + more.len();
            input.copy_within(more, data.end);
            data.end = end;
        }
        Ok(Step { consumed, event: Event::Data(data) })
    }

    /// Whether the last chunk was read, behind which trailers stand.
    fn has_last_chunk(&self) -> bool {
        use State::{Done, EndLf, InTrailer, Trailer, TrailerLf};
        matches!(self.state, Trailer | InTrailer | TrailerLf | EndLf | Done)
    }

    /// Bytes of the current chunk among those that are here.
    fn here(&self, available: usize) -> usize {
        let is_data = self.state == State::Data;
        if is_data { available.min(usize::try_from(self.left).unwrap_or(usize::MAX)) } else { 0 }
    }

    fn take_data(&mut self, from: usize, end: usize) -> Option<Range<usize>> {
        let length = self.here(end - from);
        if length == 0 {
            return None;
        }
        // No more than what is left.
        self.left -= length as u64;
        if self.left == 0 {
            self.state = State::DataCr;
        }
        Some(from..from + length)
    }

    /// Passes over what is not data. Returns how many bytes that were.
    fn advance(
        &mut self,
        input: &[u8],
        trailers: &mut Trailers,
        limits: &Limits,
    ) -> Result<usize, Fault> {
        let mut at = 0;
        loop {
            match self.state {
                State::Data | State::Done => return Ok(at),
                State::Failed(fault) => return Err(fault),
                _ => {}
            }
            let Some(byte) = input.get(at) else { return Ok(at) };
            at += 1;
            match self.step(*byte, trailers, limits) {
                Ok(state) => self.state = state,
                Err(fault) => {
                    self.state = State::Failed(fault);
                    return Err(fault);
                }
            }
        }
    }

    fn step(&mut self, byte: u8, trailers: &mut Trailers, limits: &Limits) -> Result<State, Fault> {
        match self.state {
            State::Size => {
                self.count_line(false)?;
                self.size(byte)
            }
            State::SizeLf if byte == b'\n' => self.begin_chunk(limits),
            State::SizeLf => Err(Fault::ChunkSize),
            State::Name(_)
            | State::Value
            | State::Token
            | State::Quoted
            | State::Escaped
            | State::Unquoted => {
                self.count_line(true)?;
                extension(self.state, byte).ok_or(Fault::ChunkExtension)
            }
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(self.begin_line()),
            State::DataCr | State::DataLf => Err(Fault::ChunkEnd),
            State::Trailer if byte == b'\r' => Ok(State::EndLf),
            State::Trailer | State::InTrailer | State::TrailerLf => {
                self.trailer(byte, trailers, limits)
            }
            State::EndLf if byte == b'\n' => trailers.finish().map(|()| State::Done),
            State::EndLf => Err(Fault::Trailer),
            State::Data | State::Done => Ok(self.state),
            State::Failed(fault) => Err(fault),
        }
    }

    fn begin_line(&mut self) -> State {
        (self.left, self.digits, self.line) = (0, 0, 0);
        State::Size
    }

    fn count_line(&mut self, is_extension: bool) -> Result<(), Fault> {
        self.line += 1;
        // The line feed is one more.
        if LINE_MAX <= self.line {
            return Err(Fault::ChunkLine);
        }
        if is_extension {
            self.extensions += 1;
            if EXTENSIONS_MAX < self.extensions {
                return Err(Fault::ChunkExtensions);
            }
        }
        Ok(())
    }

    fn size(&mut self, byte: u8) -> Result<State, Fault> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b';' if 0 < self.digits => return Ok(State::Name(false)),
            b'\r' if 0 < self.digits => return Ok(State::SizeLf),
            _ => return Err(Fault::ChunkSize),
        };
        if self.digits == DIGITS_MAX {
            return Err(Fault::ChunkSize);
        }
        self.digits += 1;
        // Sixteen digits are 64 bits.
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn begin_chunk(&mut self, limits: &Limits) -> Result<State, Fault> {
        if self.left == 0 {
            return Ok(State::Trailer);
        }
        let body = self.body.checked_add(self.left).filter(|body| *body <= limits.body_max);
        self.body = body.ok_or(Fault::BodyTooLarge)?;
        Ok(State::Data)
    }

    fn trailer(
        &mut self,
        byte: u8,
        trailers: &mut Trailers,
        limits: &Limits,
    ) -> Result<State, Fault> {
        let state = match (self.state, byte) {
            (State::InTrailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::Trailer,
            (State::TrailerLf, _) | (_, b'\n') => return Err(Fault::Trailer),
            _ => State::InTrailer,
        };
        if self.state == State::Trailer {
            self.trailers = self.trailers.checked_add(1).ok_or(Fault::Trailers)?;
        }
        self.trailer_bytes = self.trailer_bytes.checked_add(1).ok_or(Fault::Trailers)?;
        if limits.trailers_max < self.trailers || limits.trailer_bytes_max < self.trailer_bytes {
            return Err(Fault::Trailers);
        }
        trailers.push(byte);
        Ok(state)
    }
}

/// `;` name, and `=` with a token or a quoted string, without a space or a control (RFC 9112, 7.1.1).
fn extension(state: State, byte: u8) -> Option<State> {
    match (state, byte) {
        (State::Name(true) | State::Token | State::Unquoted, b';') => Some(State::Name(false)),
        (State::Name(true) | State::Token | State::Unquoted, b'\r') => Some(State::SizeLf),
        (State::Name(true), b'=') => Some(State::Value),
        (State::Name(_), byte) if is_token_byte(byte) => Some(State::Name(true)),
        (State::Value, b'"') => Some(State::Quoted),
        (State::Value | State::Token, byte) if is_token_byte(byte) => Some(State::Token),
        (State::Quoted, b'"') => Some(State::Unquoted),
        (State::Quoted, b'\\') => Some(State::Escaped),
        (State::Quoted | State::Escaped, byte) if is_value_byte(byte) => Some(State::Quoted),
        _ => None,
    }
}
