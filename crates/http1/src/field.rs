//! Which fields a proxy looks at, found by their length and first letter.

/// A field that something here or in the proxy depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is the field of its name")]
pub enum FieldId {
    /// Any other.
    #[default]
    Unknown,
    Authorization,
    CacheControl,
    /// Says who the client is, beside those that have an own name here: `X-Real-IP`,
    /// `X-Forwarded-Port` and the like.
    Claim,
    Connection,
    ContentEncoding,
    ContentLength,
    ContentRange,
    ContentType,
    Cookie,
    Date,
    Expect,
    Forwarded,
    Host,
    KeepAlive,
    ProxyAuthorization,
    ProxyConnection,
    Range,
    RequestId,
    /// `Ringmaster-Keep-Status`.
    RingmasterKeepStatus,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    /// `X-Load-Balancer-Server`.
    XLoadBalancerServer,
    /// `X-Load-Balancer-Response-Time`.
    XLoadBalancerResponseTime,
    /// `X-Ringmaster-Attempts`.
    XRingmasterAttempts,
}

use FieldId::*;

/// Names of fields of one length and with the same first letter.
type Names = &'static [(&'static str, FieldId)];

fn candidates(length: usize, first: u8) -> Names {
    match (length, first) {
        (2, b't') => &[("te", Te)],
        (3, b'v') => &[("via", Via)],
        (4, b'd') => &[("date", Date)],
        (4, b'h') => &[("host", Host)],
        (5, b'r') => &[("range", Range)],
        (6, b'c') => &[("cookie", Cookie)],
        (6, b'e') => &[("expect", Expect)],
        (7, b't') => &[("trailer", Trailer)],
        (7, b'u') => &[("upgrade", Upgrade)],
        (9, b'f') => &[("forwarded", Forwarded)],
        (10, b'c') => &[("connection", Connection)],
        (10, b'k') => &[("keep-alive", KeepAlive)],
        (10, b's') => &[("set-cookie", SetCookie)],
        (12, b'c') => &[("content-type", ContentType)],
        (12, b'x') => &[("x-request-id", RequestId)],
        (13, b'a') => &[("authorization", Authorization)],
        (13, b'c') => &[("cache-control", CacheControl), ("content-range", ContentRange)],
        (14, b'c') => &[("content-length", ContentLength)],
        (15, b'x') => &[("x-forwarded-for", XForwardedFor)],
        (16, b'c') => &[("content-encoding", ContentEncoding)],
        (16, b'p') => &[("proxy-connection", ProxyConnection)],
        (16, b'x') => &[("x-forwarded-host", XForwardedHost)],
        (17, b't') => &[("transfer-encoding", TransferEncoding)],
        (17, b'x') => &[("x-forwarded-proto", XForwardedProto)],
        (19, b'p') => &[("proxy-authorization", ProxyAuthorization)],
        (21, b'x') => &[("x-ringmaster-attempts", XRingmasterAttempts)],
        (22, b'r') => &[("ringmaster-keep-status", RingmasterKeepStatus)],
        (22, b'x') => &[("x-load-balancer-server", XLoadBalancerServer)],
        (29, b'x') => &[("x-load-balancer-response-time", XLoadBalancerResponseTime)],
        _ => &[],
    }
}

/// Names that say where a request comes from, beside all that begin or end with these.
const CLAIMS: [&str; 5] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "forwarded-for",
    "x-original-forwarded-for",
    "x-real-ip",
];
/// As in `True-Client-IP` and `X-Client-IP`.
const CLAIM_SUFFIX: &str = "-client-ip";
const CLAIM_PREFIX: &str = "x-forwarded";

impl FieldId {
    /// The field of this name in any case. An underscore counts as a hyphen, for CGI and its
    /// descendants cannot tell `X_Real_IP` from `X-Real-IP`; in a head such a twin has no identity,
    /// and does not go on in a request.
    pub fn of(name: &[u8]) -> FieldId {
        let Some(first) = name.first().map(u8::to_ascii_lowercase) else { return Unknown };
        let candidates = candidates(name.len(), first);
        match candidates.iter().find(|(known, _)| folds_to(name, known)) {
            Some((_, id)) => *id,
            None if matches!(first, b'c' | b'f' | b't' | b'x') && is_claim(name) => Claim,
            None => Unknown,
        }
    }

    /// Whether a request says in it who its client is, which only a trusted proxy may.
    pub fn is_claim(self) -> bool {
        matches!(self, Claim | Forwarded | XForwardedFor | XForwardedHost | XForwardedProto)
    }

    /// Whether only the writer says it, from what was decided: framing, and what belongs to one
    /// connection.
    pub fn is_set_by_writer(self) -> bool {
        matches!(
            self,
            Connection | ContentLength | KeepAlive | ProxyConnection | Te | TransferEncoding
        )
    }

    /// Whether it may not stand behind a body: framing, routing, who the client is, and how the body
    /// is to be read (RFC 9110, 6.5.1).
    pub fn is_forbidden_in_trailers(self) -> bool {
        // All that are known here but for this one.
        !matches!(self, Unknown | Date)
    }
}

/// Whether a name that is known differs from it by an underscore.
pub(crate) fn is_twin(id: FieldId, name: &[u8]) -> bool {
    id != Unknown && name.contains(&b'_')
}

fn is_claim(name: &[u8]) -> bool {
    match name.split_at_checked(CLAIM_PREFIX.len()) {
        Some((begin, rest)) if folds_to(begin, CLAIM_PREFIX) => {
            matches!(rest.first(), None | Some(b'-' | b'_'))
        }
        _ => {
            let end = name.len().saturating_sub(CLAIM_SUFFIX.len());
            folds_to(&name[end..], CLAIM_SUFFIX) || CLAIMS.iter().any(|known| folds_to(name, known))
        }
    }
}

fn folds_to(name: &[u8], known: &str) -> bool {
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == known.len() && name.iter().map(fold).eq(known.bytes())
}

/// For each byte whether it may be part of a token.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    let mut byte = 0;
    while byte < 128_u8 {
        table[byte as usize] |= byte.is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

/// Whether a byte may be part of a token (RFC 9110, 5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Whether these bytes are a token.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// Whether a byte may be part of a field's value.
pub(crate) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// A value without the white space around it (RFC 9110, 5.6.3).
pub(crate) fn trimmed(value: &[u8]) -> &[u8] {
    let is_not_space = |byte: &u8| !matches!(*byte, b' ' | b'\t');
    let start = value.iter().position(is_not_space).unwrap_or(value.len());
    let end = value.iter().rposition(is_not_space).map_or(start, |last| last + 1);
    &value[start..end]
}

/// The elements of a list, without the white space around them; empty ones are none.
pub(crate) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(trimmed).filter(|element| !element.is_empty())
}

/// Whether a list names a token, whatever its parameters.
pub(crate) fn names(list: &[u8], wanted: &[u8]) -> bool {
    elements(list).any(|element| without_parameters(element).eq_ignore_ascii_case(wanted))
}

/// An element of a list up to its parameters.
pub(crate) fn without_parameters(element: &[u8]) -> &[u8] {
    let end = element.iter().position(|byte| *byte == b';').unwrap_or(element.len());
    trimmed(&element[..end])
}

/// Whether this is a protocol: a name, with or without a version (RFC 9110, 7.8).
pub(crate) fn is_protocol(element: &[u8]) -> bool {
    let mut parts = element.split(|byte| *byte == b'/');
    parts.by_ref().take(2).all(is_token) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_name_is_found_in_any_case_and_with_underscores() {
        let mut known = 0;
        for length in 0..64 {
            for first in b'a'..=b'z' {
                for (name, id) in candidates(length, first) {
                    assert_eq!((name.len(), name.as_bytes()[0]), (length, first), "{name}");
                    let upper = name.to_ascii_uppercase();
                    let twin = name.replace('-', "_");
                    for spelling in [*name, &upper, &twin] {
                        assert_eq!(FieldId::of(spelling.as_bytes()), *id, "{spelling}");
                    }
                    assert_eq!(is_twin(*id, twin.as_bytes()), name.contains('-'), "{name}");
                    assert!(!FieldId::of(format!("{name}s").as_bytes()).is_set_by_writer());
                    known += 1;
                }
            }
        }
        assert_eq!(known, 30);
    }

    #[test]
    fn claims_are_known_by_name_by_prefix_and_by_suffix() {
        let clients = ["true-client-ip", "x-client-ip", "fastly-client-ip", "x-a-client-ip"];
        let forwarded = ["x-forwarded", "x-forwarded-port", "x-forwarded-for", "X-Forwarded-Ssl"];
        for claim in CLAIMS.into_iter().chain(clients).chain(forwarded).chain(["forwarded"]) {
            for spelling in [claim.to_owned(), claim.replace('-', "_")] {
                assert!(FieldId::of(spelling.as_bytes()).is_claim(), "{spelling}");
            }
        }
        for other in ["", "x", "x-forwardedfor", "x-forward", "x-real-ips", "host", "cookie"] {
            assert!(!FieldId::of(other.as_bytes()).is_claim(), "{other}");
        }
    }

    #[test]
    fn tokens_are_of_visible_ascii_without_delimiters() {
        for byte in 0..=u8::MAX {
            let is_delimiter = b"\"(),/:;<=>?@[\\]{}".contains(&byte);
            assert_eq!(is_token_byte(byte), byte.is_ascii_graphic() && !is_delimiter, "{byte}");
        }
    }

    #[test]
    fn lists_have_elements_and_parameters() {
        let all = |list: &'static str| elements(list.as_bytes()).collect::<Vec<_>>();
        assert_eq!(all(" a ,, \tb;q=1 ,"), [&b"a"[..], b"b;q=1"]);
        for (element, expected) in [
            ("a", true),
            ("a/1", true),
            ("a/", false),
            ("/1", false),
            ("a/1/2", false),
            ("a b", false),
        ] {
            assert_eq!(is_protocol(element.as_bytes()), expected, "{element}");
        }
        assert!(!is_protocol(b"") && !is_protocol(b"a;b=1"));
        assert!(names(b"x, Close ;a=b", b"close") && !names(b"xclose, close-x", b"close"));
        assert_eq!((trimmed(b" \t "), trimmed(b"\ta b ")), (&b""[..], &b"a b"[..]));
    }
}
