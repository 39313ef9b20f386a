//! Why a message is refused.

use std::{error, fmt};

use crate::message::{Kind, Status};

/// What is wrong with a message. None of them can be repaired: the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The first line is no request or status line.
    StartLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// A status outside of 100 to 599.
    Status,
    /// A form of target that is not served here.
    Target,
    /// A target beyond the limit.
    TargetTooLong,
    /// A head beyond the limit.
    HeadTooLarge,
    /// More fields than the limit.
    TooManyFields,
    /// A field whose name is no token, or that does not end with a colon.
    FieldName,
    /// A control character in a field's value, or a line that does not end as it should.
    FieldValue,
    /// HTTP/1.1 without Host.
    NoHost,
    /// More than one Host.
    SeveralHosts,
    /// A Host that is no `host[:port]`.
    BadHost,
    /// CONNECT.
    Connect,
    /// A Transfer-Encoding that is not plainly `chunked`.
    Coding,
    /// A Content-Length that is not one number.
    Length,
    /// A response with a Content-Length and a Transfer-Encoding.
    TwoLengths,
    /// More names in Connection than are looked at.
    ConnectionOptions,
    /// A protocol switched to without being asked for.
    Switch,
    /// More interim responses than one request may lead to.
    Interims,
    /// A chunk's size that is none.
    ChunkSize,
    /// A line before a chunk that is too long.
    ChunkLine,
    /// A chunk extension that is malformed.
    ChunkExtension,
    /// More bytes of chunk extensions than a body may have.
    ChunkExtensions,
    /// No CRLF behind a chunk.
    ChunkEnd,
    /// A trailer that is malformed.
    Trailer,
    /// More or larger trailers than the limits.
    Trailers,
    /// A body beyond the limit.
    BodyTooLarge,
    /// The connection ended before the body.
    BodyCut,
}

impl Fault {
    /// The status that the client gets when this is wrong with a message of this kind.
    pub fn status(self, of: Kind) -> u16 {
        self.answer(of).code()
    }

    /// What the client is answered when this is wrong with a message of this kind.
    pub fn answer(self, of: Kind) -> Status {
        if of == Kind::Response {
            return Status::BadGateway;
        }
        match self {
            Fault::Connect => Status::MethodNotAllowed,
            Fault::BodyTooLarge => Status::ContentTooLarge,
            Fault::TargetTooLong => Status::UriTooLong,
            Fault::HeadTooLarge | Fault::TooManyFields => Status::FieldsTooLarge,
            Fault::StartLine
            | Fault::Version
            | Fault::Status
            | Fault::Target
            | Fault::FieldName
            | Fault::FieldValue
            | Fault::NoHost
            | Fault::SeveralHosts
            | Fault::BadHost
            | Fault::Coding
            | Fault::Length
            | Fault::TwoLengths
            | Fault::ConnectionOptions
            | Fault::Switch
            | Fault::Interims
            | Fault::ChunkSize
            | Fault::ChunkLine
            | Fault::ChunkExtension
            | Fault::ChunkExtensions
            | Fault::ChunkEnd
            | Fault::Trailer
            | Fault::Trailers
            | Fault::BodyCut => Status::BadRequest,
        }
    }

    /// What is wrong, in a sentence without its full stop.
    pub fn sentence(self) -> &'static str {
        match self {
            Fault::StartLine => "The first line of the message is malformed",
            Fault::Version => "The version is neither HTTP/1.0 nor HTTP/1.1",
            Fault::Status => "The status is not between 100 and 599",
            Fault::Target => "The request target is not of a form that is served here",
            Fault::TargetTooLong => "The target of the request is too long",
            Fault::HeadTooLarge => "The head of the message is too large",
            Fault::TooManyFields => "The head of the message has too many fields",
            Fault::FieldName => "A header name is malformed",
            Fault::FieldValue => "A header value is malformed",
            Fault::NoHost => "The request has no Host header",
            Fault::SeveralHosts => "The request has more than one Host header",
            Fault::BadHost => "The Host header is malformed",
            Fault::Connect => "CONNECT is not supported",
            Fault::Coding => "The Transfer-Encoding is not supported",
            Fault::Length => "The Content-Length is not one number",
            Fault::TwoLengths => "There is a Content-Length beside a Transfer-Encoding",
            Fault::ConnectionOptions => "The Connection header names too many fields",
            Fault::Switch => "The protocol was switched to one that was not asked for",
            Fault::Interims => "There are too many interim responses",
            Fault::ChunkSize => "The size of a chunk is malformed",
            Fault::ChunkLine => "The line before a chunk is too long",
            Fault::ChunkExtension => "A chunk extension is malformed",
            Fault::ChunkExtensions => "The body has too many chunk extensions",
            Fault::ChunkEnd => "A chunk is longer than its size",
            Fault::Trailer => "A trailer is malformed",
            Fault::Trailers => "The trailers are too large",
            Fault::BodyTooLarge => "The body of the request is too large",
            Fault::BodyCut => "The body of the message broke off",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl error::Error for Fault {}
