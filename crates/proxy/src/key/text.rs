//! Keys that stand in the head of a request.

use std::borrow::Cow;

/// The first non-empty value of a query parameter, percent-decoded.
pub(super) fn parameter<'a>(query: &'a str, wanted: &str) -> Option<Cow<'a, [u8]>> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let matches = name == wanted || decoded(name, true).as_ref() == wanted.as_bytes();
        (matches && !value.is_empty()).then(|| decoded(value, true))
    })
}

/// The first non-empty value of a cookie, as it stands there: cookies have no encoding of their own.
pub(super) fn cookie<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    wanted: &str,
) -> Option<Cow<'a, [u8]>> {
    let mut pairs = lines.flat_map(|line| line.split(is(b';')));
    pairs
        .find_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
            (name == wanted.as_bytes() && !value.is_empty()).then_some(value)
        })
        .map(Cow::Borrowed)
}

/// A part of the path between two slashes, from 1, percent-decoded.
pub(super) fn segment(path: &str, number: usize) -> Option<Cow<'_, [u8]>> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    inner.split('/').nth(number.checked_sub(1)?).map(|segment| decoded(segment, false))
}

/// Whom a request is for, in lower case and without port.
pub(super) fn lowercase(host: &[u8]) -> Cow<'_, [u8]> {
    let name = without_port(host);
    match name.iter().any(u8::is_ascii_uppercase) {
        true => name.to_ascii_lowercase().into(),
        false => name.into(),
    }
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
        let lines = [&b"sid2=x; SID=upper; sid="[..], b"a=b;sid=c=d ;sid=e"];
        let cookie = |name| cookie(lines.into_iter(), name);
        assert_eq!(cookie("sid").as_deref(), Some(b"c=d".as_slice()));
        assert_eq!(cookie("SID").as_deref(), Some(b"upper".as_slice()));
        assert_eq!(cookie("id"), None);
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
        for (host, expected) in [
            ("Example.COM:8080", "example.com"),
            ("example", "example"),
            ("[::A]:80", "[::a]"),
            ("[::a]", "[::a]"),
        ] {
            assert_eq!(*lowercase(host.as_bytes()), *expected.as_bytes());
        }
    }
}
