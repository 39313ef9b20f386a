//! Follows the body of a message, whatever its framing.

use crate::{
    chunk::{Decoder, Event, Limits, Step, Trailers},
    fault::Fault,
    framing::Framing,
};

#[derive(Clone, Debug)]
enum State {
    /// So many bytes are still to come; none: it is complete.
    Left(u64),
    Chunks(Decoder),
    /// So many bytes have come.
    UntilClose(u64),
    Failed(Fault),
}

/// A body on its way; numbers only.
#[derive(Clone, Debug)]
pub struct Body {
    state: State,
}

impl Body {
    /// A body that begins. Refuses one whose length is beyond the limit.
    pub fn new(framing: Framing, limits: &Limits) -> Result<Self, Fault> {
        let state = match framing {
            Framing::None => State::Left(0),
            Framing::Length(length) if limits.body_max < length => return Err(Fault::BodyTooLarge),
            Framing::Length(length) => State::Left(length),
            Framing::Chunked => State::Chunks(Decoder::new()),
            Framing::UntilClose => State::UntilClose(0),
        };
        Ok(Body { state })
    }

    /// Whether it is complete. One that ends with the connection never says so.
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Left(left) => *left == 0,
            State::Chunks(decoder) => decoder.is_done(),
            State::UntilClose(_) | State::Failed(_) => false,
        }
    }

    /// Bytes that are still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match &self.state {
            State::Left(left) => Some(*left),
            State::Chunks(_) | State::UntilClose(_) | State::Failed(_) => None,
        }
    }

    /// Goes on to the next piece of the body in these bytes. Small chunks are moved together in
    /// them. Nothing behind the body is consumed, and a fault is final. The last piece may come with
    /// the end: ask [`Body::is_done`] before waiting for more bytes. Only a body in chunks has
    /// trailers; any other clears what is in them.
    pub fn next(
        &mut self,
        input: &mut [u8],
        trailers: &mut Trailers,
        limits: &Limits,
    ) -> Result<Step, Fault> {
        if !matches!(self.state, State::Chunks(_)) {
            trailers.clear();
        }
        match &mut self.state {
            State::Chunks(decoder) => decoder.next_merged(input, trailers, limits),
            State::Left(0) => Ok(Step { consumed: 0, event: Event::End }),
            State::Left(left) => {
                let length = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= length as u64;
                Ok(data(length))
            }
            State::UntilClose(seen) => match seen.checked_add(input.len() as u64) {
                Some(sum) if sum <= limits.body_max => {
                    *seen = sum;
                    Ok(data(input.len()))
                }
                _ => {
                    self.state = State::Failed(Fault::BodyTooLarge);
                    Err(Fault::BodyTooLarge)
                }
            },
            State::Failed(fault) => Err(*fault),
        }
    }

    /// The connection has ended: the body with it, if that is its framing.
    pub fn end_of_input(&mut self) -> Result<(), Fault> {
        if let State::UntilClose(_) = self.state {
            self.state = State::Left(0);
        }
        match self.state {
            State::Failed(fault) => Err(fault),
            _ if self.is_done() => Ok(()),
            _ => {
                self.state = State::Failed(Fault::BodyCut);
                Err(Fault::BodyCut)
            }
        }
    }
}

/// All of these bytes are data.
fn data(length: usize) -> Step {
    let event = if length == 0 { Event::More } else { Event::Data(0..length) };
    Step { consumed: length, event }
}
