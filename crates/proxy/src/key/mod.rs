//! Where the key of a request comes from.

mod lines;
mod pointer;
mod text;

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

use http::{HeaderName, HeaderValue, header::COOKIE};
use rand::RngExt;

pub(crate) use self::lines::Lines;
use self::pointer::Pointer;
use super::{
    metrics::Counters,
    trusted::{FORWARDED_FOR, TrustedProxies},
};

/// Longer keys are not used: a key is an identity, not a document.
pub(crate) const KEY_MAX: usize = 1024;

/// One place where a key may be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Header(HeaderName),
    Cookie(String),
    Query(String),
    Path,
    /// From 1.
    Segment(usize),
    Host,
    ClientIp,
    Body(Pointer),
    Random,
}

/// Ordered places where a request's key is looked for; the first that has one wins.
///
/// Where none of them has one, the key is random, so that a request can always be routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySources(Vec<Source>);

/// A key source that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a key source; allowed are header:NAME, cookie:NAME, query:NAME, path, path:N, host, client_ip, body:/JSON/POINTER and random, separated by commas"
)]
pub struct KeyError(String);

impl Default for KeySources {
    fn default() -> Self {
        Self(vec![
            Source::Header(HeaderName::from_static("x-request-id")),
            Source::Query("id".into()),
            Source::Random,
        ])
    }
}

impl FromStr for KeySources {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        text.split(',').map(|part| parse_source(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn parse_source(part: &str) -> Result<Source, KeyError> {
    let wrong = || KeyError(part.chars().take(80).collect());
    let source = match part.split_once(':') {
        Some(("header", name)) => HeaderName::from_str(name).ok().map(Source::Header),
        // Names of cookies are tokens, as those of header fields are; but their case counts.
        Some(("cookie", name)) => {
            HeaderName::from_str(name).ok().map(|_| Source::Cookie(name.into()))
        }
        Some(("query", name)) => (!name.is_empty()).then(|| Source::Query(name.into())),
        Some(("path", number)) => {
            number.parse().ok().filter(|number| *number > 0).map(Source::Segment)
        }
        Some(("body", pointer)) => Pointer::parse(pointer).map(Source::Body),
        None if part == "path" => Some(Source::Path),
        None if part == "host" => Some(Source::Host),
        None if part == "client_ip" => Some(Source::ClientIp),
        None if part == "random" => Some(Source::Random),
        _ => None,
    };
    source.ok_or_else(wrong)
}

impl fmt::Display for KeySources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, source) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            match source {
                Source::Header(name) => write!(f, "header:{name}")?,
                Source::Cookie(name) => write!(f, "cookie:{name}")?,
                Source::Query(name) => write!(f, "query:{name}")?,
                Source::Path => f.write_str("path")?,
                Source::Segment(number) => write!(f, "path:{number}")?,
                Source::Host => f.write_str("host")?,
                Source::ClientIp => f.write_str("client_ip")?,
                Source::Body(pointer) => write!(f, "body:{pointer}")?,
                Source::Random => f.write_str("random")?,
            }
        }
        Ok(())
    }
}

/// What keys are looked for in.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) head: Lines<'a>,
    pub(crate) peer: Peer<'a>,
    pub(crate) body: Body<'a>,
}

/// Who sent the request.
#[derive(Clone, Copy)]
pub(crate) struct Peer<'a> {
    pub(crate) address: IpAddr,
    /// The same as text.
    pub(crate) text: &'a HeaderValue,
    /// Whom to believe when it speaks for others; `None` if it is not one of these itself.
    pub(crate) trusted: Option<&'a TrustedProxies>,
}

/// What is known of a request's body.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    /// There is none, or nobody looks into it.
    None,
    /// It is larger than what is read for a key.
    TooLarge,
    Whole(&'a [u8]),
}

/// A request's key. Borrowed from the request where it stands there as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    Found(Cow<'a, [u8]>),
    Random([u8; 6]),
}

impl Key<'_> {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Key::Found(bytes) => bytes,
            Key::Random(digits) => digits,
        }
    }
}

impl Source {
    fn is_body(&self) -> bool {
        matches!(self, Source::Body(_))
    }

    fn find<'a>(&self, asked: &Asked<'a>) -> Option<Cow<'a, [u8]>> {
        match self {
            Source::Header(name) => asked.head.all(name).next().map(Into::into),
            Source::Cookie(name) => text::cookie(asked.head.all(&COOKIE), name),
            Source::Query(name) => asked.head.query().and_then(|q| text::parameter(q, name)),
            Source::Path => Some(asked.head.path().as_bytes().into()),
            Source::Segment(number) => text::segment(asked.head.path(), *number),
            Source::Host => asked.head.host().map(text::lowercase),
            Source::ClientIp => Some(asked.peer.client(asked.head)),
            Source::Body(pointer) => match asked.body {
                Body::None | Body::TooLarge => None,
                Body::Whole(document) => pointer.find(document),
            },
            Source::Random => None,
        }
    }
}

impl<'a> Peer<'a> {
    /// The address of the client, as far as those on the way are believed.
    fn client(&self, head: Lines<'_>) -> Cow<'a, [u8]> {
        match self.trusted {
            Some(trusted) => {
                let name = FORWARDED_FOR;
                let lines: Vec<&[u8]> = head.all(&name).collect();
                trusted.client_of(self.address, &lines).to_string().into_bytes().into()
            }
            None => self.text.as_bytes().into(),
        }
    }
}

impl KeySources {
    /// The key of a request. What is passed over is counted.
    pub(crate) fn find<'a>(
        &self,
        asked: &Asked<'a>,
        rng: &mut impl rand::Rng,
        counters: &Counters,
    ) -> Key<'a> {
        for source in &self.0 {
            if matches!(source, Source::Random) {
                break;
            }
            match source.find(asked) {
                Some(key) if key.len() > KEY_MAX => counters.keys_too_long.bump(),
                Some(key) if !key.is_empty() => return Key::Found(key),
                _ if source.is_body() && !matches!(asked.body, Body::None) => {
                    counters.keys_unreadable.bump();
                }
                _ => {}
            }
        }
        counters.keys_random.bump();
        Key::Random(six_digits(rng))
    }

    /// Whether any source is in the body.
    pub(crate) fn read_bodies(&self) -> bool {
        self.0.iter().any(Source::is_body)
    }

    /// Whether the key of this request may be in its body: no source before has one.
    pub(crate) fn look_into_body(&self, asked: &Asked<'_>) -> bool {
        for source in &self.0 {
            match source {
                Source::Body(_) => return true,
                Source::Random => return false,
                _ => {}
            }
            let found = source.find(asked);
            if found.is_some_and(|key| !key.is_empty() && key.len() <= KEY_MAX) {
                return false;
            }
        }
        false
    }
}

fn six_digits(rng: &mut impl rand::Rng) -> [u8; 6] {
    let mut number: u32 = rng.random_range(100_000..1_000_000);
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Uri};
    use rand::SeedableRng;

    use super::*;

    /// A request with header lines and a body, from 10.0.0.9.
    fn find_in(
        sources: &str,
        uri: &str,
        lines: &[(&str, &str)],
        body: Body<'_>,
    ) -> (Result<Vec<u8>, Vec<u8>>, Counters) {
        let sources: KeySources = sources.parse().unwrap();
        let uri: Uri = uri.parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_str(name).unwrap(), value.parse().unwrap());
        }
        let address = IpAddr::from([10, 0, 0, 9]);
        let text = HeaderValue::from_static("10.0.0.9");
        let peer = Peer { address, text: &text, trusted: None };
        let head = Lines::Map { uri: &uri, headers: &headers };
        let asked = Asked { head, peer, body };
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let counters = Counters::default();
        let key = match sources.find(&asked, &mut rng, &counters) {
            Key::Found(key) => Ok(key.into_owned()),
            Key::Random(digits) => {
                assert!((b'1'..=b'9').contains(&digits[0]));
                assert!(digits.iter().all(u8::is_ascii_digit));
                Err(digits.to_vec())
            }
        };
        assert_eq!(counters.keys_random.get(), u64::from(key.is_err()));
        (key, counters)
    }

    /// The key, or whether one was passed over for its length.
    fn find(sources: &str, uri: &str, header: Option<(&str, &str)>) -> Result<Vec<u8>, bool> {
        let (key, counters) = find_in(sources, uri, header.as_slice(), Body::None);
        key.map_err(|_| counters.keys_too_long.get() > 0)
    }

    #[test]
    fn the_first_present_source_wins() {
        let default = KeySources::default().to_string();
        assert_eq!(default, "header:x-request-id,query:id,random");
        assert_eq!(default.parse(), Ok(KeySources::default()));
        let id = Some(("X-Request-ID", "abc"));
        assert_eq!(find(&default, "/a?id=7", id), Ok(b"abc".to_vec()));
        assert_eq!(find(&default, "/a?id=7", None), Ok(b"7".to_vec()));
        assert_eq!(find(&default, "/a?id=7", Some(("X-Request-ID", ""))), Ok(b"7".to_vec()));
        assert_eq!(find(&default, "/a?idx=7&x", None), Err(false));
        assert_eq!(find("random,query:id", "/a?id=7", None), Err(false));
        assert_eq!(find("query:id", "/a", None), Err(false));
    }

    #[test]
    fn each_source_finds_its_key() {
        let lines = [("host", "Shop.Example:80"), ("cookie", "a=1; sid=s%20"), ("x-user", "u")];
        let body = Body::Whole(br#"{"user":{"id":42}}"#);
        let cases: [(&str, &[u8]); 9] = [
            ("header:X-User", b"u"),
            ("cookie:sid", b"s%20"),
            ("query:id", b"7"),
            ("path", b"/users/a%20b"),
            ("path:1", b"users"),
            ("path:2", b"a b"),
            ("host", b"shop.example"),
            ("client_ip", b"10.0.0.9"),
            ("body:/user/id", b"42"),
        ];
        for (source, expected) in cases {
            let (key, _) = find_in(source, "/users/a%20b?id=7", &lines, body);
            assert_eq!(key, Ok(expected.to_vec()), "{source}");
            let all = format!("header:none,cookie:none,query:none,path:9,body:/none,{source}");
            let (key, counters) = find_in(&all, "/users/a%20b?id=7", &lines, body);
            assert_eq!(key, Ok(expected.to_vec()), "{source} as the last");
            assert_eq!(counters.keys_unreadable.get(), 1);
            assert_eq!(all.parse::<KeySources>().unwrap().to_string(), all.to_lowercase());
        }
    }

    #[test]
    fn bodies_without_a_key_are_counted_and_no_body_is_not() {
        let passed_over = |body| {
            let (key, counters) = find_in("body:/a,query:id", "/?id=7", &[], body);
            assert_eq!(key, Ok(b"7".to_vec()));
            counters.keys_unreadable.get()
        };
        assert_eq!(passed_over(Body::None), 0);
        assert_eq!(passed_over(Body::TooLarge), 1);
        for document in ["a=1", "{}", r#"{"a":null}"#, r#"{"a":[1]}"#] {
            assert_eq!(passed_over(Body::Whole(document.as_bytes())), 1, "{document}");
        }
        let long = format!(r#"{{"a":"{}"}}"#, "k".repeat(KEY_MAX + 1));
        let (_, counters) = find_in("body:/a", "/", &[], Body::Whole(long.as_bytes()));
        assert_eq!((counters.keys_unreadable.get(), counters.keys_too_long.get()), (0, 1));
    }

    #[test]
    fn a_body_is_looked_into_only_where_nothing_before_it_has_a_key() {
        let looks = |sources: &str, uri: &'static str| {
            let text = HeaderValue::from_static("::1");
            let peer = Peer { address: IpAddr::from([10, 0, 0, 9]), text: &text, trusted: None };
            let (uri, headers) = (Uri::from_static(uri), HeaderMap::new());
            let head = Lines::Map { uri: &uri, headers: &headers };
            let asked = Asked { head, peer, body: Body::None };
            sources.parse::<KeySources>().unwrap().look_into_body(&asked)
        };
        assert!(looks("query:id,body:/a", "/"));
        assert!(looks("query:id,body:/a", "/?id="));
        assert!(!looks("query:id,body:/a", "/?id=7"));
        assert!(looks("body:/a,query:id", "/?id=7"));
        assert!(!looks("random,body:/a", "/"));
        assert!(!looks("path,body:/a", "/"));
        assert!(!looks("query:id", "/"));
    }

    #[test]
    fn query_values_are_decoded_and_empty_ones_are_missing() {
        let key = |uri: &str| find("query:id", uri, None);
        assert_eq!(key("/?id=&id=b"), Ok(b"b".to_vec()));
        assert_eq!(key("/?x=1&id=a%20b+c"), Ok(b"a b c".to_vec()));
        assert_eq!(key("/?id=100%"), Ok(b"100%".to_vec()));
        assert_eq!(key("/?id=%zz%4"), Ok(b"%zz%4".to_vec()));
        assert_eq!(key("/?id=%2B%fF"), Ok(b"+\xff".to_vec()));
        assert_eq!(key("/?%69d=5"), Ok(b"5".to_vec()));
        assert_eq!(key("/?id=a=b"), Ok(b"a=b".to_vec()));
    }

    #[test]
    fn over_long_keys_fall_to_the_next_source() {
        let long = "k".repeat(KEY_MAX + 1);
        let sources = "header:k,query:id";
        assert_eq!(find(sources, "/?id=7", Some(("k", &long))), Ok(b"7".to_vec()));
        assert_eq!(find(sources, &format!("/?id={long}"), None), Err(true));
        let fits = "k".repeat(KEY_MAX);
        assert_eq!(find(sources, "/", Some(("k", &fits))), Ok(fits.clone().into()));
    }

    #[test]
    fn unknown_sources_are_named() {
        for bad in [
            "",
            "cookie:",
            "cookie:a b",
            "header:",
            "header:a b",
            "query:",
            "random:1",
            "a",
            "path:",
            "path:0",
            "path:-1",
            "path:x",
            "host:a",
            "client_ip:1",
            "body",
            "body:",
            "body:a",
            "body:/~2",
        ] {
            let error = format!("random,{bad}").parse::<KeySources>().unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("'{bad}'")), "{text}");
            assert!(text.contains("header:NAME, cookie:NAME, query:NAME, path, "), "{text}");
        }
    }
}
