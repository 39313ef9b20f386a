//! Keys that stand in the head of a request.

use std::borrow::Cow;

use http::{
    HeaderMap, Uri,
    header::{COOKIE, HOST},
};

/// The first non-empty value of a query parameter, percent-decoded.
pub(super) fn parameter<'a>(query: &'a str, wanted: &str) -> Option<Cow<'a, [u8]>> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let matches = name == wanted || decoded(name, true).as_ref() == wanted.as_bytes();
        (matches && !value.is_empty()).then(|| decoded(value, true))
    })
}

/// The first non-empty value of a cookie, as it stands there: cookies have no encoding of their own.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<Cow<'a, [u8]>> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(is(b';')));
    pairs
        .filter_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
            (name == wanted.as_bytes() && !value.is_empty()).then_some(value)
        })
        .map(Cow::Borrowed)
        .next()
}

/// A part of the path between two slashes, from 1, percent-decoded.
pub(super) fn segment(path: &str, number: usize) -> Option<Cow<'_, [u8]>> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    inner.split('/').nth(number.checked_sub(1)?).map(|segment| decoded(segment, false))
}

/// Whom the request is for, in lower case and without port. The target of an absolute form beats
/// the Host header (RFC 9112, 3.2.2).
pub(super) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
    let name = match uri.host() {
        Some(host) => host.as_bytes(),
        None => without_port(headers.get(HOST)?.as_bytes()),
    };
    Some(match name.iter().any(u8::is_ascii_uppercase) {
        true => name.to_ascii_lowercase().into(),
        false => name.into(),
    })
}

fn without_port(host: &[u8]) -> &[u8] {
    let colon = host.iter().rposition(|byte| *byte == b':');
    match colon {
        // The colons of an IPv6 address stand inside brackets.
        Some(colon) if !host[colon..].contains(&b']') => &host[..colon],
        _ => host,
    }
}

/// `%XX`, and in forms `+`. What is no valid escape stands for itself.
fn decoded(text: &str, is_form: bool) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return bytes.into();
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        plain.push(match (first, tail) {
            (b'+', _) if is_form => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *first,
        });
    }
    plain.into()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn is(wanted: u8) -> impl Fn(&u8) -> bool {
    move |byte| *byte == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_in_all_lines_by_their_exact_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "sid2=x; SID=upper; sid=".parse().unwrap());
        headers.append(COOKIE, "a=b;sid=c=d ;sid=e".parse().unwrap());
        assert_eq!(cookie(&headers, "sid").as_deref(), Some(b"c=d".as_slice()));
        assert_eq!(cookie(&headers, "SID").as_deref(), Some(b"upper".as_slice()));
        assert_eq!(cookie(&headers, "id"), None);
    }

    #[test]
    fn segments_are_counted_from_one_and_decoded() {
        let text = |path, number| {
            let segment = segment(path, number)?;
            (!segment.is_empty()).then(|| String::from_utf8(segment.into_owned()).unwrap())
        };
        assert_eq!(text("/users/a%2Fb+c/x", 1).as_deref(), Some("users"));
        assert_eq!(text("/users/a%2Fb+c/x", 2).as_deref(), Some("a/b+c"));
        assert_eq!(text("/users/a%2Fb+c/x", 4), None);
        assert_eq!(text("/", 1), None);
        assert_eq!(text("//b", 1), None);
        assert_eq!(text("//b", 2).as_deref(), Some("b"));
        assert_eq!(text("/a", 0), None);
    }

    #[test]
    fn hosts_lose_case_and_port() {
        let of = |uri: &str, line: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, line.parse().unwrap());
            let host = host(&uri.parse().unwrap(), &headers).unwrap().into_owned();
            String::from_utf8(host).unwrap()
        };
        assert_eq!(of("/", "Example.COM:8080"), "example.com");
        assert_eq!(of("/", "example"), "example");
        assert_eq!(of("/", "[::A]:80"), "[::a]");
        assert_eq!(of("/", "[::a]"), "[::a]");
        assert_eq!(of("http://me@Real:81/a", "claimed"), "real");
        assert_eq!(host(&Uri::from_static("/"), &HeaderMap::new()), None);
    }
}
