//! The one loop over a body's bytes: from the framing in which they came to the one in which they go
//! on, in the buffer that they were read into.

use std::ops::Range;

use ringmaster_http1::{
    Fault, Framing,
    body::Body,
    chunk::{Event, Limits, Trailers, enclose, push, push_last},
};

/// A body on its way: how it came, and how it goes on.
#[derive(Debug)]
pub(super) struct Transfer {
    body: Body,
    trailers: Trailers,
    limits: Limits,
    /// Whether it goes on in chunks.
    is_chunked: bool,
    /// Whether its trailers go on.
    keeps_trailers: bool,
    /// Whether its end has been passed on.
    has_ended: bool,
}

/// What became of the bytes that were read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// Those that are done with.
    pub(super) consumed: usize,
    /// Those of the body among them.
    pub(super) bytes: u64,
    /// The last piece, which lies in the buffer; all before it is in the output.
    pub(super) piece: Range<usize>,
}

impl Transfer {
    /// A body that begins. Refuses one whose length is beyond the limit.
    pub(super) fn new(
        framing: Framing,
        onward: Framing,
        keeps_trailers: bool,
        limits: Limits,
    ) -> Result<Self, Fault> {
        Ok(Self {
            body: Body::new(framing, &limits)?,
            trailers: Trailers::new(),
            limits,
            is_chunked: onward == Framing::Chunked,
            keeps_trailers,
            has_ended: framing.is_empty(),
        })
    }

    /// Whether all of it has passed.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Passes the bytes in this part of the buffer on, as far as they belong to the body. Around that
    /// part there is room for the line of a chunk.
    pub(super) fn pass(
        &mut self,
        buffer: &mut [u8],
        part: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<Passed, Fault> {
        let (mut at, mut bytes, mut piece) = (part.start, 0, 0..0);
        while !self.has_ended {
            let input = &mut buffer[at..part.end];
            let step = self.body.next(input, &mut self.trailers, &self.limits)?;
            match step.event {
                Event::Data(data) => {
                    // Before its place may be needed for the line of the next chunk.
                    out.extend_from_slice(&buffer[piece]);
                    bytes += data.len() as u64;
                    piece = at + data.start..at + data.end;
                    if self.is_chunked {
                        piece = enclose(buffer, piece.clone()).unwrap_or_else(|| {
                            // No room for the line of a chunk around it: it is copied into one.
                            push(&buffer[piece], out);
                            0..0
                        });
                    }
                }
                Event::End => {
                    out.extend_from_slice(&buffer[piece]);
                    piece = 0..0;
                    self.end(out);
                }
                Event::More => {
                    at += step.consumed;
                    break;
                }
            }
            at += step.consumed;
            if !self.is_chunked && self.body.is_done() {
                self.has_ended = true;
            }
        }
        Ok(Passed { consumed: at - part.start, bytes, piece })
    }

    /// Takes what belongs to the body out of these bytes, without passing it on. Returns how many of
    /// them are done with.
    pub(super) fn gather(
        &mut self,
        input: &mut [u8],
        data: &mut Vec<u8>,
        most: usize,
    ) -> Result<usize, Fault> {
        let mut at = 0;
        while !self.has_ended && data.len() <= most {
            let step = self.body.next(&mut input[at..], &mut self.trailers, &self.limits)?;
            match step.event {
                Event::Data(range) => {
                    data.extend_from_slice(&input[at + range.start..at + range.end])
                }
                Event::End => self.has_ended = true,
                Event::More => {
                    at += step.consumed;
                    break;
                }
            }
            at += step.consumed;
            self.has_ended |= self.body.is_done();
        }
        Ok(at)
    }

    /// Passes on what was gathered, as one piece, with the end if it has come.
    pub(super) fn pass_gathered(&mut self, data: &[u8], out: &mut Vec<u8>) {
        match self.is_chunked {
            true => push(data, out),
            false => out.extend_from_slice(data),
        }
        if self.has_ended {
            self.end(out);
        }
    }

    /// The connection that it came on has ended: the body with it, if that is its framing.
    pub(super) fn end_of_input(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.body.end_of_input()?;
        self.end(out);
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.has_ended = true;
        if self.is_chunked {
            push_last(Some(&self.trailers).filter(|_| self.keeps_trailers), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::READ;

    /// What goes on of bytes that come in pieces of this size, and what is left of them.
    fn passed(framing: Framing, onward: Framing, sent: &[u8], size: usize) -> (Vec<u8>, usize) {
        let mut transfer = Transfer::new(framing, onward, true, Limits::default()).unwrap();
        let mut buffer = vec![b'#'; READ.end + 2];
        let (mut out, mut left) = (Vec::new(), 0);
        for piece in sent.chunks(size) {
            let end = READ.start + piece.len();
            buffer[READ.start..end].copy_from_slice(piece);
            let passed = transfer.pass(&mut buffer, READ.start..end, &mut out).unwrap();
            out.extend_from_slice(&buffer[passed.piece]);
            left += piece.len() - passed.consumed;
        }
        if !transfer.has_ended() {
            transfer.end_of_input(&mut out).unwrap();
        }
        (out, left)
    }

    #[test]
    fn how_a_body_is_cut_changes_no_byte_of_it() {
        let long = "x".repeat(3_000);
        let chunks = format!(
            "5;a=b\r\nhello\r\n1\r\n \r\n{:x}\r\n{long}\r\n0\r\nX-Sum: 1\r\n\r\nGET",
            3_000
        );
        let whole = format!("hello {long}");
        for size in [1, 2, 3, 7, 64, 5_000] {
            let (out, left) =
                passed(Framing::Chunked, Framing::UntilClose, chunks.as_bytes(), size);
            assert_eq!((out, left), (whole.clone().into_bytes(), 3), "{size}");
            // What goes on in chunks is the same body again, with its trailers.
            let (out, _) = passed(Framing::Chunked, Framing::Chunked, chunks.as_bytes(), size);
            assert!(out.ends_with(b"0\r\nX-Sum: 1\r\n\r\n"), "{size}");
            let (again, left) = passed(Framing::Chunked, Framing::UntilClose, &out, 5_000);
            assert_eq!((again, left), (whole.clone().into_bytes(), 0), "{size}");
            let length = Framing::Length(whole.len() as u64);
            let sent = format!("{whole}GET");
            let (out, left) = passed(length, length, sent.as_bytes(), size);
            assert_eq!((out, left), (whole.clone().into_bytes(), 3), "{size}");
            let (out, _) = passed(Framing::UntilClose, Framing::Chunked, whole.as_bytes(), size);
            let (again, left) = passed(Framing::Chunked, Framing::UntilClose, &out, 5_000);
            assert_eq!((again, left), (whole.clone().into_bytes(), 0), "{size}");
        }
    }

    #[test]
    fn what_was_gathered_goes_on_as_it_came() {
        let mut sent = b"3\r\nabc\r\n2\r\nde\r\n0\r\nX: 1\r\n\r\nGET".to_vec();
        let limits = Limits::default();
        let mut transfer = Transfer::new(Framing::Chunked, Framing::Chunked, true, limits).unwrap();
        let (mut data, mut out) = (Vec::new(), Vec::new());
        let consumed = transfer.gather(&mut sent, &mut data, 100).unwrap();
        assert_eq!(
            (consumed, &data[..], transfer.has_ended()),
            (sent.len() - 3, &b"abcde"[..], true)
        );
        transfer.pass_gathered(&data, &mut out);
        assert_eq!(out, b"5\r\nabcde\r\n0\r\nX: 1\r\n\r\n");
    }

    #[test]
    fn a_body_that_breaks_is_not_finished() {
        let limits = Limits { body_max: 4, ..Limits::default() };
        let too_long = Transfer::new(Framing::Length(5), Framing::Length(5), false, limits);
        assert_eq!(too_long.err(), Some(Fault::BodyTooLarge));
        let mut transfer =
            Transfer::new(Framing::Chunked, Framing::Chunked, false, limits).unwrap();
        let mut out = Vec::new();
        let mut buffer = vec![b'#'; READ.end + 2];
        buffer[READ.start..READ.start + 8].copy_from_slice(b"3\r\nabc\r\n");
        let part = READ.start..READ.start + 8;
        assert!(transfer.pass(&mut buffer, part.clone(), &mut out).is_ok());
        assert_eq!(transfer.pass(&mut buffer, part, &mut out), Err(Fault::BodyTooLarge));
        assert!(transfer.end_of_input(&mut out).is_err() && !transfer.has_ended());
    }

    #[test]
    fn data_without_room_around_it_is_a_chunk_all_the_same() {
        let mut transfer =
            Transfer::new(Framing::UntilClose, Framing::Chunked, false, Limits::default()).unwrap();
        let (mut buffer, mut out) = (*b"abc", Vec::new());
        let passed = transfer.pass(&mut buffer, 0..3, &mut out).unwrap();
        assert_eq!((passed.consumed, passed.bytes, passed.piece), (3, 3, 0..0));
        assert_eq!(out, b"3\r\nabc\r\n");
    }
}
