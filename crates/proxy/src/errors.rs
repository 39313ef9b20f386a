//! What a client is told when it does not get a replica's answer.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};

use super::body::Answer;

/// Why there is no answer of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody is admitted.
    NoReplica,
    /// The replica has as much to do as it may, and others wait already, or for too long.
    Overloaded,
    /// The process has no descriptor left for a connection to a replica.
    Exhausted,
    /// All that were tried could not be reached or went away.
    Unanswered,
    /// A replica's answer was not HTTP, or nothing that can be passed on.
    BadAnswer,
    /// The answer did not begin in time.
    TimedOut,
    /// The client did not send its body in time.
    SlowBody,
    /// The client's body broke off.
    BrokenBody,
    /// The client's body is larger than the limit.
    LargeBody,
    /// The target is longer than the limit.
    LongUri,
    /// The request can be read in two ways.
    Ambiguous(&'static str),
    /// A tunnel was asked for.
    Tunnel,
    /// The replica does not know this path, at least not with this method, and `not_found_as_400` is
    /// on.
    NotFound(Method, String),
}

impl Failure {
    /// What the client is answered. Above 500 where no answer of a replica can be passed on.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Failure::NoReplica | Failure::Overloaded | Failure::Exhausted => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Failure::Unanswered | Failure::BadAnswer => StatusCode::BAD_GATEWAY,
            Failure::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Failure::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Failure::LargeBody => StatusCode::PAYLOAD_TOO_LARGE,
            Failure::LongUri => StatusCode::URI_TOO_LONG,
            Failure::BrokenBody | Failure::Ambiguous(_) | Failure::NotFound(..) => {
                StatusCode::BAD_REQUEST
            }
            Failure::Tunnel => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// Whether what the client sends next could be misunderstood.
    pub(crate) fn closes(&self) -> bool {
        matches!(
            self,
            Failure::Ambiguous(_)
                | Failure::Tunnel
                | Failure::SlowBody
                | Failure::BrokenBody
                | Failure::LargeBody
                | Failure::LongUri
        )
    }

    fn message(&self) -> String {
        match self {
            Failure::NoReplica => "<Error> No replica is in service".into(),
            Failure::Overloaded => "<Error> The replica has too many requests in flight".into(),
            Failure::Exhausted => "<Error> Too many connections are open".into(),
            Failure::Unanswered => "<Error> No replica answered".into(),
            Failure::BadAnswer => "<Error> The replica's answer could not be understood".into(),
            Failure::TimedOut => "<Error> The replica did not answer in time".into(),
            Failure::SlowBody => "<Error> The body of the request did not come in time".into(),
            Failure::BrokenBody => "<Error> The body of the request broke off".into(),
            Failure::LargeBody => "<Error> The body of the request is too large".into(),
            Failure::LongUri => "<Error> The target of the request is too long".into(),
            Failure::Ambiguous(what) => format!("<Error> {what}"),
            Failure::Tunnel => "<Error> CONNECT is not supported".into(),
            // A path that one cannot read does not exist, whatever may be sent to it.
            Failure::NotFound(Method::GET | Method::HEAD, path) => {
                format!("<Error> '{path}' endpoint does not exist in server replicas")
            }
            Failure::NotFound(method, path) => {
                format!("<Error> '{method} {path}' endpoint does not exist in server replicas")
            }
        }
    }

    /// Whether it may be over in a second.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Failure::NoReplica | Failure::Overloaded | Failure::Exhausted)
    }

    /// What is said, and what kind of text that is. `no_replica_text`: what it says, as plain text,
    /// where no replica is in service.
    pub(crate) fn body(&self, no_replica_text: Option<&str>) -> (String, &'static str) {
        match no_replica_text.filter(|_| *self == Failure::NoReplica) {
            Some(text) => (text.to_owned(), "text/plain; charset=utf-8"),
            None => {
                let json = serde_json::json!({ "message": self.message(), "status": "failure" });
                (json.to_string(), "application/json")
            }
        }
    }

    /// The answer of ours. `no_replica_text`: what it says, as plain text, where no replica is in
    /// service.
    pub(crate) fn into_response(self, no_replica_text: Option<&str>) -> Response<Answer> {
        let (body, kind) = self.body(no_replica_text);
        let mut response = Response::new(Answer::Full(Some(Bytes::from(body))));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if self.passes() {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self == Failure::Tunnel {
            let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
            headers.insert(ALLOW, allowed);
        }
        if self.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Written as it is to a connection beyond the limit.
pub(crate) const SHED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\ncontent-length: 70\r\nretry-after: 1\r\n\
    connection: close\r\n\r\n\
    {\"message\":\"<Error> Too many connections are open\",\"status\":\"failure\"}";

/// Written as it is to a client that took too long to send the head of a request.
pub(crate) const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\
    content-type: application/json\r\ncontent-length: 73\r\nconnection: close\r\n\r\n\
    {\"message\":\"<Error> The request did not come in time\",\"status\":\"failure\"}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_answers_have_the_length_they_claim() {
        for answer in [SHED, TOO_SLOW] {
            let text = std::str::from_utf8(answer).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            assert_eq!(length, body.len());
            serde_json::from_str::<serde_json::Value>(body).unwrap();
        }
    }

    #[test]
    fn the_missing_endpoint_is_quoted_as_it_is() {
        let failure = |method| Failure::NotFound(method, "/other\"x".into());
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(
                failure(method).message(),
                "<Error> '/other\"x' endpoint does not exist in server replicas"
            );
        }
        assert_eq!(
            failure(Method::POST).message(),
            "<Error> 'POST /other\"x' endpoint does not exist in server replicas"
        );
        assert_eq!(failure(Method::POST).into_response(Some("no")).status(), 400);
    }
}
