//! How a body ends: the tables of RFC 9112, section 6.3, as one function for requests and one for
//! responses. The first row that fits decides.

use crate::{
    fault::Fault,
    field::names,
    message::{Method, Version},
    number::decimal,
};

/// How a body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    #[default]
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection; only responses.
    UntilClose,
}

impl Framing {
    /// Whether there is nothing to read behind the head.
    pub fn is_empty(self) -> bool {
        matches!(self, Framing::None | Framing::Length(0))
    }

    /// How a body that was read like this goes to a reader of this version: HTTP/1.0 knows no
    /// chunks, and what has no other end needs them.
    pub fn toward(self, version: Version) -> Framing {
        match (self, version) {
            (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
            (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
            (other, _) => other,
        }
    }
}

/// What the lines of a head say about the body's transfer coding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// Nothing.
    #[default]
    None,
    /// One line that is exactly `chunked`.
    Chunked,
    /// Anything else.
    Other,
}

/// What the lines of a head say about the body's length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// Nothing.
    #[default]
    None,
    /// One number, in one line or in several equal ones.
    Number(u64),
    /// Anything else.
    Bad,
}

/// What a head says about its body, whatever the order of its lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// By `Transfer-Encoding`.
    pub coding: Coding,
    /// By `Content-Length`.
    pub length: Length,
}

impl Lengths {
    /// Adds a line of `Transfer-Encoding`.
    pub fn add_coding(&mut self, value: &[u8]) {
        let is_first = self.coding == Coding::None;
        let is_plain = is_first && value.eq_ignore_ascii_case(b"chunked");
        self.coding = if is_plain { Coding::Chunked } else { Coding::Other };
    }

    /// Adds a line of `Content-Length`.
    pub fn add_length(&mut self, value: &[u8]) {
        self.length = match (self.length, decimal(value)) {
            (Length::None, Some(number)) => Length::Number(number),
            (Length::Number(before), Some(number)) if before == number => Length::Number(number),
            _ => Length::Bad,
        };
    }
}

/// What was decided about a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// How its body ends.
    pub framing: Framing,
    /// The length of a body that does not follow: to HEAD, and with 304.
    pub announced_length: Option<u64>,
    /// Whether its framing leaves the connection fit for another message.
    pub keeps: bool,
}

/// How the body of a request ends.
pub fn request(method: Method, version: Version, lengths: Lengths) -> Result<Decision, Fault> {
    let decided = |framing, keeps| Ok(Decision { framing, announced_length: None, keeps });
    match (lengths.coding, lengths.length) {
        _ if method == Method::Connect => Err(Fault::Connect),
        (Coding::Chunked | Coding::Other, _) if version == Version::Http10 => Err(Fault::Coding),
        (Coding::Other, _) => Err(Fault::Coding),
        (_, Length::Bad) => Err(Fault::Length),
        // Readers that prefer the length see another message behind this one.
        (Coding::Chunked, Length::Number(_)) => decided(Framing::Chunked, false),
        (Coding::Chunked, Length::None) => decided(Framing::Chunked, true),
        (Coding::None, Length::Number(length)) => decided(Framing::Length(length), true),
        (Coding::None, Length::None) => decided(Framing::None, true),
    }
}

/// What a response depends on of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The request's method.
    pub method: Method,
    /// The protocols that were asked for: the value of the `Upgrade` that was sent.
    pub upgrade: Option<&'a [u8]>,
}

impl Asked<'_> {
    /// For a request with this method that asked for no other protocol.
    pub fn by(method: Method) -> Self {
        Asked { method, upgrade: None }
    }

    /// Whether this is one of the protocols that were asked for.
    pub(crate) fn for_protocol(&self, protocol: &[u8]) -> bool {
        self.upgrade.is_some_and(|asked| names(asked, protocol))
    }
}

/// How the body of a response ends. That a protocol was asked for is checked where its name is known.
pub fn response(
    asked: &Asked<'_>,
    version: Version,
    status: u16,
    lengths: Lengths,
) -> Result<Decision, Fault> {
    let decided = |framing, keeps| Ok(Decision { framing, announced_length: None, keeps });
    if status < 200 || status == 204 {
        if status == 101 && asked.upgrade.is_none() {
            return Err(Fault::Switch);
        }
        return decided(Framing::None, status != 101);
    }
    if asked.method == Method::Head || status == 304 {
        let announced_length = match lengths.length {
            Length::Number(length) => Some(length),
            _ => None,
        };
        return Ok(Decision { framing: Framing::None, announced_length, keeps: true });
    }
    match (lengths.coding, lengths.length) {
        (Coding::Chunked | Coding::Other, _) if version == Version::Http10 => Err(Fault::Coding),
        (Coding::Other, _) => Err(Fault::Coding),
        (_, Length::Bad) => Err(Fault::Length),
        // Its client could not tell which of the two its other readers believe.
        (Coding::Chunked, Length::Number(_)) => Err(Fault::TwoLengths),
        (Coding::Chunked, Length::None) => decided(Framing::Chunked, true),
        (Coding::None, Length::Number(length)) => decided(Framing::Length(length), true),
        (Coding::None, Length::None) => decided(Framing::UntilClose, false),
    }
}
