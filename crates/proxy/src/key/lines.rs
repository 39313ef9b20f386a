//! The head that a key is looked for in, whichever way it was read.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header::HOST};
use ringmaster_http1::HeadRef;

/// A request's target and its lines.
#[derive(Clone, Copy)]
pub(crate) enum Lines<'a> {
    /// As hyper reads them.
    Map { uri: &'a Uri, headers: &'a HeaderMap },
    /// As they came.
    Head(HeadRef<'a>),
}

impl<'a> Lines<'a> {
    /// The path and the query of a head: the parts of a target before and behind its first `?`.
    fn parts(head: HeadRef<'a>) -> (&'a str, Option<&'a str>) {
        // A target that is not UTF-8 is refused when it is read.
        let target = std::str::from_utf8(head.target()).unwrap_or_default();
        match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        }
    }

    pub(super) fn path(self) -> &'a str {
        match self {
            Lines::Map { uri, .. } => uri.path(),
            Lines::Head(head) => Self::parts(head).0,
        }
    }

    pub(super) fn query(self) -> Option<&'a str> {
        match self {
            Lines::Map { uri, .. } => uri.query(),
            Lines::Head(head) => Self::parts(head).1,
        }
    }

    /// Whom the request is for. The target of an absolute form beats the Host header (RFC 9112,
    /// 3.2.2).
    pub(super) fn host(self) -> Option<&'a [u8]> {
        match self {
            Lines::Map { uri, headers } => match uri.host() {
                Some(host) => Some(host.as_bytes()),
                None => headers.get(HOST).map(HeaderValue::as_bytes),
            },
            Lines::Head(head) => head.host(),
        }
    }

    /// All values of a field, in their order.
    pub(super) fn all<'n>(
        self,
        name: &'n HeaderName,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let (map, head) = match self {
            Lines::Map { headers, .. } => (Some(headers.get_all(name)), None),
            Lines::Head(head) => (None, Some(head)),
        };
        let of_map = map.into_iter().flatten().map(HeaderValue::as_bytes);
        let fields = head.into_iter().flat_map(HeadRef::fields);
        let named =
            fields.filter(move |field| field.name.eq_ignore_ascii_case(name.as_str().as_bytes()));
        of_map.chain(named.map(|field| field.value))
    }
}

#[cfg(test)]
mod tests {
    use ringmaster_http1::{Head, Limits, Scanner, request};

    use super::*;

    #[test]
    fn both_kinds_of_heads_say_the_same() {
        let bytes =
            b"GET http://Real:81/a/b?c=d?e HTTP/1.1\r\nHost: claimed\r\nX: 1\r\nx: 2\r\n\r\n";
        let mut head = Head::new();
        let read = request::read(&mut head, &mut Scanner::request(), bytes, &Limits::default());
        assert_eq!(read, Ok(request::Read::Head(bytes.len())));
        let uri: Uri = "http://Real:81/a/b?c=d?e".parse().unwrap();
        let mut headers = HeaderMap::new();
        let lines = [("host", "claimed"), ("x", "1"), ("x", "2")];
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        let x = HeaderName::from_static("x");
        for lines in [Lines::Head(head.over(bytes)), Lines::Map { uri: &uri, headers: &headers }] {
            assert_eq!((lines.path(), lines.query()), ("/a/b", Some("c=d?e")));
            assert!(lines.host().unwrap().starts_with(b"Real"));
            assert_eq!(lines.all(&x).collect::<Vec<_>>(), [b"1", b"2"]);
        }
    }
}
