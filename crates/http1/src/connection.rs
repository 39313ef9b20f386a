//! When a connection may serve another message: where each side of it is, as plain data.
//!
//! Two messages make one exchange. The connection is reusable when both are done, none of the two
//! said that it closes, the ends of both are known without closing it, and nothing came that belongs
//! to neither. A response that begins before its request is complete closes it: the client is told so
//! in that head, and a replica that answers early may stop reading at any byte.

use std::{error, fmt};

use crate::{framing::Framing, head::Known, message::Version, write};

/// How far one of the two messages is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Its head has not come.
    #[default]
    Idle,
    /// Its body is on its way.
    Body,
    /// It is complete.
    Done,
    /// Its sender will not send another one.
    Closed,
    /// It broke off, or could not be read.
    Failed,
}

/// What happens on a connection, on whichever end of it we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The head of a request was read or written.
    Request {
        /// How its body ends.
        framing: Framing,
        /// Whether it leaves the connection to others, as far as it says.
        persists: bool,
    },
    /// The body of the request is complete.
    RequestEnd,
    /// An interim response was read or written.
    Interim,
    /// The head of the final response was read, or is about to be written.
    Response {
        /// How its body ends.
        framing: Framing,
        /// Whether it leaves the connection to others, as far as it says.
        persists: bool,
    },
    /// The body of the response is complete.
    ResponseEnd,
    /// The protocol was switched with 101.
    Switch,
    /// Bytes came that belong to no message.
    Surplus,
    /// The sender of requests has closed its half.
    RequestEof,
    /// The sender of responses has closed its half.
    ResponseEof,
    /// The request could not be read, or broke off.
    RequestFailed,
    /// The response could not be read, or broke off.
    ResponseFailed,
    /// It is to end after this exchange, for a reason of ours.
    Close,
}

/// An event that cannot follow what was before it. It has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfOrder;

impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this cannot happen now on the connection")
    }
}

impl error::Error for OutOfOrder {}

/// One connection, from one exchange to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    request: Side,
    response: Side,
    persists: bool,
    is_switched: bool,
    /// The response ends with the connection.
    ends_with_it: bool,
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// One that has served nothing yet.
    pub fn new() -> Self {
        Connection {
            request: Side::Idle,
            response: Side::Idle,
            persists: true,
            is_switched: false,
            ends_with_it: false,
        }
    }

    /// How far the request is.
    pub fn request(&self) -> Side {
        self.request
    }

    /// How far the response is.
    pub fn response(&self) -> Side {
        self.response
    }

    /// Whether HTTP has ended on it.
    pub fn is_switched(&self) -> bool {
        self.is_switched
    }

    /// Whether it will be closed after this exchange. Ask it between [`Event::Response`] and writing
    /// that head, which says it.
    pub fn closes(&self) -> bool {
        !self.persists
    }

    /// Whether it may serve another exchange.
    pub fn is_reusable(&self) -> bool {
        let is_done = self.request == Side::Done && self.response == Side::Done;
        is_done && self.persists && !self.is_switched
    }

    /// Begins the next exchange. Returns whether that may be.
    pub fn begin_next(&mut self) -> bool {
        let may = self.is_reusable();
        if may {
            *self = Self::new();
        }
        may
    }

    /// Takes in what happened.
    pub fn on(&mut self, event: Event) -> Result<(), OutOfOrder> {
        if self.is_switched {
            return Err(OutOfOrder);
        }
        match event {
            Event::Request { .. }
            | Event::RequestEnd
            | Event::RequestEof
            | Event::RequestFailed => self.on_request(event),
            Event::Close | Event::Surplus => {
                self.persists = false;
                Ok(())
            }
            _ => self.on_response(event),
        }
    }

    fn on_request(&mut self, event: Event) -> Result<(), OutOfOrder> {
        self.request = match (event, self.request) {
            (Event::Request { framing, persists }, Side::Idle) if self.response == Side::Idle => {
                self.persists &= persists;
                after_head(framing)
            }
            (Event::RequestEnd, Side::Body) => Side::Done,
            (Event::RequestEof, Side::Idle) => self.never(Side::Closed),
            // The response to what is complete can still be sent.
            (Event::RequestEof, Side::Done) => self.never(Side::Done),
            (Event::RequestEof | Event::RequestFailed, Side::Body)
            | (Event::RequestFailed, Side::Idle) => self.never(Side::Failed),
            _ => return Err(OutOfOrder),
        };
        Ok(())
    }

    fn on_response(&mut self, event: Event) -> Result<(), OutOfOrder> {
        let is_asked = matches!(self.request, Side::Body | Side::Done);
        self.response = match (event, self.response) {
            (Event::Interim, Side::Idle) if is_asked => Side::Idle,
            (Event::Response { framing, persists }, Side::Idle) if self.may_respond() => {
                // Before the request is complete its rest may never be read, and
                // of one that could not be read it is unknown where the next one begins.
                let is_in_turn = self.request == Side::Done;
                self.persists &= persists && is_in_turn && framing != Framing::UntilClose;
                self.ends_with_it = framing == Framing::UntilClose;
                after_head(framing)
            }
            (Event::ResponseEnd, Side::Body) => Side::Done,
            (Event::Switch, Side::Idle) if self.request == Side::Done => {
                self.is_switched = true;
                self.never(Side::Done)
            }
            (Event::ResponseEof, Side::Idle) => self.never(Side::Closed),
            (Event::ResponseEof, Side::Body) if self.ends_with_it => self.never(Side::Done),
            (Event::ResponseEof, Side::Done) => self.never(Side::Done),
            (Event::ResponseEof | Event::ResponseFailed, Side::Body)
            | (Event::ResponseFailed, Side::Idle) => self.never(Side::Failed),
            _ => return Err(OutOfOrder),
        };
        Ok(())
    }

    /// A refusal answers what never became a request.
    fn may_respond(&self) -> bool {
        self.request != Side::Closed
    }

    fn never(&mut self, side: Side) -> Side {
        self.persists = false;
        side
    }
}

fn after_head(framing: Framing) -> Side {
    if framing.is_empty() { Side::Done } else { Side::Body }
}

/// What the head of a response says of the client's connection. HTTP/1.0 is promised another exchange
/// only when it asked for one and the response has a length.
pub fn toward_client(
    version: Version,
    request: &Known,
    framing: Framing,
    closes: bool,
) -> write::Connection {
    let ends_by_itself = framing != Framing::UntilClose
        && (version == Version::Http11 || framing != Framing::Chunked);
    if request.persists && ends_by_itself && !closes {
        write::Connection::Keep
    } else {
        write::Connection::Close
    }
}
