//! Where the key of a request comes from.

use std::{borrow::Cow, fmt, str::FromStr};

use http::{HeaderMap, HeaderName, Uri};
use rand::RngExt;

/// Longer keys are not used: a key is an identity, not a document.
pub(crate) const KEY_MAX: usize = 1024;

/// One place where a key may be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Header(HeaderName),
    Query(String),
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
    "'{0}' is not a key source; allowed are header:NAME, query:NAME and random, separated by commas"
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
    match part.split_once(':') {
        Some(("header", name)) => {
            HeaderName::from_str(name).map(Source::Header).map_err(|_| wrong())
        }
        Some(("query", name)) if !name.is_empty() => Ok(Source::Query(name.into())),
        None if part == "random" => Ok(Source::Random),
        _ => Err(wrong()),
    }
}

impl fmt::Display for KeySources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, source) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            match source {
                Source::Header(name) => write!(f, "header:{name}")?,
                Source::Query(name) => write!(f, "query:{name}")?,
                Source::Random => f.write_str("random")?,
            }
        }
        Ok(())
    }
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

impl KeySources {
    /// The key of a request, and whether one was passed over for its length.
    pub(crate) fn find<'a>(
        &self,
        uri: &'a Uri,
        headers: &'a HeaderMap,
        rng: &mut impl rand::Rng,
    ) -> (Key<'a>, bool) {
        let mut too_long = false;
        for source in &self.0 {
            let found = match source {
                Source::Header(name) => headers.get(name).map(|value| value.as_bytes().into()),
                Source::Query(name) => uri.query().and_then(|query| parameter(query, name)),
                Source::Random => break,
            };
            match found {
                Some(key) if key.len() > KEY_MAX => too_long = true,
                Some(key) if !key.is_empty() => return (Key::Found(key), too_long),
                _ => {}
            }
        }
        (Key::Random(six_digits(rng)), too_long)
    }
}

/// The first non-empty value of a query parameter, percent-decoded.
fn parameter<'a>(query: &'a str, wanted: &str) -> Option<Cow<'a, [u8]>> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let matches = name == wanted || decoded(name).as_ref() == wanted.as_bytes();
        (matches && !value.is_empty()).then(|| decoded(value))
    })
}

/// Form decoding: `%XX` and `+`. What is no valid escape stands for itself.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return bytes.into();
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        plain.push(match (first, tail) {
            (b'+', _) => b' ',
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
    use super::*;
    use rand::SeedableRng;

    fn find(sources: &str, uri: &str, header: Option<(&str, &str)>) -> Result<Vec<u8>, bool> {
        let sources: KeySources = sources.parse().unwrap();
        let uri: Uri = uri.parse().unwrap();
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(HeaderName::from_str(name).unwrap(), value.parse().unwrap());
        }
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        match sources.find(&uri, &headers, &mut rng) {
            (Key::Found(key), _) => Ok(key.into_owned()),
            (Key::Random(digits), too_long) => {
                assert!((b'1'..=b'9').contains(&digits[0]));
                assert!(digits.iter().all(u8::is_ascii_digit));
                Err(too_long)
            }
        }
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
        for bad in ["", "cookie:a", "header:", "header:a b", "query:", "random:1", "a"] {
            let error = format!("random,{bad}").parse::<KeySources>().unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("'{bad}'")), "{text}");
            assert!(text.contains("header:NAME, query:NAME and random"), "{text}");
        }
    }
}
