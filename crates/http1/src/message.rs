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
