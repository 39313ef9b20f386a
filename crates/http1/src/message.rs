//! The words of HTTP that everything else is said in.

/// Which kind of message something is said of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From a client.
    Request,
    /// From a replica.
    Response,
}

/// A version that is spoken here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// A method that something depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the method of its name")]
pub enum Method {
    Connect,
    Delete,
    Get,
    Head,
    Options,
    /// Any other.
    #[default]
    Other,
    Patch,
    Post,
    Put,
    Trace,
}

impl Method {
    /// The method of this name; methods are case-sensitive.
    pub fn of(name: &[u8]) -> Method {
        match name {
            b"CONNECT" => Method::Connect,
            b"DELETE" => Method::Delete,
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"PATCH" => Method::Patch,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"TRACE" => Method::Trace,
            _ => Method::Other,
        }
    }

    /// Whether a request may be sent twice (RFC 9110, 9.2.2).
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Method::Connect | Method::Other | Method::Patch | Method::Post)
    }
}

/// What a client is answered when there is no response for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs, reason = "each is the status of its name")]
pub enum Status {
    BadRequest = 400,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    ContentTooLarge = 413,
    UriTooLong = 414,
    FieldsTooLarge = 431,
    NotImplemented = 501,
    BadGateway = 502,
    ServiceUnavailable = 503,
    GatewayTimeout = 504,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 10] = [
        Status::BadRequest,
        Status::MethodNotAllowed,
        Status::RequestTimeout,
        Status::ContentTooLarge,
        Status::UriTooLong,
        Status::FieldsTooLarge,
        Status::NotImplemented,
        Status::BadGateway,
        Status::ServiceUnavailable,
        Status::GatewayTimeout,
    ];

    /// Its number.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The number with its reason (RFC 9110, 15; RFC 6585).
    pub(crate) fn line(self) -> &'static [u8] {
        match self {
            Status::BadRequest => b"400 Bad Request",
            Status::MethodNotAllowed => b"405 Method Not Allowed",
            Status::RequestTimeout => b"408 Request Timeout",
            Status::ContentTooLarge => b"413 Content Too Large",
            Status::UriTooLong => b"414 URI Too Long",
            Status::FieldsTooLarge => b"431 Request Header Fields Too Large",
            Status::NotImplemented => b"501 Not Implemented",
            Status::BadGateway => b"502 Bad Gateway",
            Status::ServiceUnavailable => b"503 Service Unavailable",
            Status::GatewayTimeout => b"504 Gateway Timeout",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_sent_twice_is_known_by_its_method() {
        for (name, expected) in [
            ("CONNECT", false),
            ("DELETE", true),
            ("GET", true),
            ("HEAD", true),
            ("OPTIONS", true),
            ("PATCH", false),
            ("POST", false),
            ("PUT", true),
            ("TRACE", true),
            // Methods are case-sensitive, and of others nothing is known.
            ("get", false),
            ("PURGE", false),
            ("", false),
        ] {
            assert_eq!(Method::of(name.as_bytes()).is_idempotent(), expected, "{name}");
        }
    }
}
