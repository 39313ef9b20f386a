//! What a request asks for: the forms of a target (RFC 9112, 3.2), of which a path goes on.

use memchr::memchr;

use crate::{fault::Fault, host, message::Method};

/// A target in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// The host and port of a target in absolute form.
    pub(crate) authority: Option<&'a [u8]>,
    /// What is put before the path; only a target in absolute form may leave it out.
    pub(crate) missing_start: &'static [u8],
    /// The path and the query.
    pub(crate) path: &'a [u8],
}

/// Reads a target. That its bytes may stand in one has been checked.
pub(crate) fn read(method: Method, target: &[u8]) -> Result<Target<'_>, Fault> {
    if method == Method::Connect {
        return Err(Fault::Connect);
    }
    if target == b"*" && method == Method::Options {
        return Ok(Target { authority: None, missing_start: b"", path: target });
    }
    // A fragment is for the client alone.
    let target = &target[..memchr(b'#', target).unwrap_or(target.len())];
    if target.starts_with(b"/") {
        return Ok(Target { authority: None, missing_start: b"", path: target });
    }
    let rest = match target.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"http://") => rest,
        _ => return Err(Fault::Target),
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !host::is_authority(authority) {
        return Err(Fault::Target);
    }
    let missing_start: &[u8] = match path {
        // It asks the server itself (RFC 9112, 3.2.4).
        [] if method == Method::Options => b"*",
        [] | [b'?', ..] => b"/",
        _ => b"",
    };
    Ok(Target { authority: Some(authority), missing_start, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(method: Method, target: &'static str) -> Option<(Option<&'static str>, String)> {
        let target = read(method, target.as_bytes()).ok()?;
        let text = |bytes| str::from_utf8(bytes).unwrap();
        Some((
            target.authority.map(text),
            format!("{}{}", text(target.missing_start), text(target.path)),
        ))
    }

    #[test]
    fn a_target_becomes_a_path() {
        let get = |target| path(Method::Get, target);
        let of = |authority, path: &str| Some((authority, path.to_owned()));
        assert_eq!(get("/a?b"), of(None, "/a?b"));
        assert_eq!(get("//h/a"), of(None, "//h/a"));
        assert_eq!(get("/a#b"), of(None, "/a"));
        assert_eq!(get("/?#"), of(None, "/?"));
        assert_eq!(get("http://h/a?b#c"), of(Some("h"), "/a?b"));
        assert_eq!(get("HTTP://h:80?b/c"), of(Some("h:80"), "/?b/c"));
        assert_eq!(get("http://h#c/d"), of(Some("h"), "/"));
        assert_eq!(get("http://[::1]"), of(Some("[::1]"), "/"));
        assert_eq!(path(Method::Options, "*"), of(None, "*"));
        assert_eq!(path(Method::Options, "http://h"), of(Some("h"), "*"));
        assert_eq!(path(Method::Options, "http://h/"), of(Some("h"), "/"));
        assert_eq!(path(Method::Options, "http://h?"), of(Some("h"), "/?"));
    }

    #[test]
    fn other_forms_are_refused() {
        for odd in [
            "*",
            "*#",
            "h:80",
            "a",
            "?a",
            "#",
            "http://",
            "http:///a",
            "http://?a",
            "http://u@h/",
            "http://u:p@h/",
            "https://h/",
            "ws://h/",
            "ftp://h/a",
            "http:/h",
            "http:h",
            "http://h:x/",
            "http://h h/",
            "mailto:a@b",
            "http://:80/",
        ] {
            assert_eq!(path(Method::Get, odd), None, "{odd}");
        }
        assert_eq!(path(Method::Options, "*#a"), None);
        assert_eq!(read(Method::Connect, b"h:80"), Err(Fault::Connect));
        assert_eq!(read(Method::Connect, b"/"), Err(Fault::Connect));
    }
}
