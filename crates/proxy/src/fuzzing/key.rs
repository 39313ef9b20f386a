//! The key of a request, beside a slow and simple reading of the same sources.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Uri};
use rand::SeedableRng as _;

use super::{header_map, lines_and_rest};
use crate::{
    key::{Asked, Body, KEY_MAX, Key, KeySources, Lines, Peer},
    metrics::Counters,
};

/// Key sources, a request target, header lines, an empty line, a body. The sources are read as they
/// are printed, and the key is the one that a slow reader finds.
pub fn key(data: &[u8]) {
    let (lines, document) = lines_and_rest(data);
    let [sources, target, fields @ ..] = &lines[..] else { return };
    let Some(sources) = parsed::<KeySources>(sources) else { return };
    let text = sources.to_string();
    assert_eq!(text.parse().as_ref(), Ok(&sources), "{text}");
    let Ok(uri) = Uri::try_from(*target) else { return };
    let headers = header_map(fields);
    let client = HeaderValue::from_static("10.0.0.9");
    let peer = Peer { address: IpAddr::from([10, 0, 0, 9]), text: &client, trusted: None };
    let head = Lines::Map { uri: &uri, headers: &headers };
    let asked = Asked { head, peer, body: Body::Whole(document) };
    let counters = Counters::default();
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let found = sources.find(&asked, &mut rng, &counters);
    let is_random = matches!(found, Key::Random(_));
    assert_eq!(counters.keys_random.get(), u64::from(is_random));
    assert!((1..=KEY_MAX).contains(&found.as_bytes().len()));
    match expected(&text, (&uri, &headers), document) {
        Slow::Found(key) => assert_eq!(found, Key::Found(key.into()), "{text}"),
        Slow::Nothing => assert!(is_random, "{text}: {found:?}"),
        Slow::Unknown => {}
    }
    if !sources.look_into_body(&asked) {
        let without = Asked { body: Body::None, ..asked };
        assert_eq!(sources.find(&without, &mut rng, &counters).is_random(), is_random);
    }
}

impl Key<'_> {
    fn is_random(&self) -> bool {
        matches!(self, Key::Random(_))
    }
}

fn parsed<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

enum Slow {
    Found(Vec<u8>),
    Nothing,
    /// The slow reader is more strict.
    Unknown,
}

fn expected(sources: &str, (uri, headers): (&Uri, &HeaderMap), document: &[u8]) -> Slow {
    for source in sources.split(',') {
        let (kind, name) = source.split_once(':').unwrap_or((source, ""));
        let path = uri.path();
        let found = match kind {
            "header" => headers.get(name).map(|value| value.as_bytes().to_vec()),
            "cookie" => cookie(headers, name),
            "query" => uri.query().and_then(|query| parameter(query, name)),
            "path" if name.is_empty() => Some(path.as_bytes().to_vec()),
            "path" => segment(path, name.parse().expect("it was parsed before")),
            "client_ip" => Some(b"10.0.0.9".to_vec()),
            "body" => match at(document, name) {
                Ok(found) => found,
                Err(()) => return Slow::Unknown,
            },
            "random" => return Slow::Nothing,
            // Its own code is the simplest there is.
            _ => return Slow::Unknown,
        };
        match found {
            Some(key) if (1..=KEY_MAX).contains(&key.len()) => return Slow::Found(key),
            _ => {}
        }
    }
    Slow::Nothing
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all("cookie").iter().map(HeaderValue::as_bytes).collect();
    let all = lines.join(&b';');
    let values = all.split(|byte| *byte == b';').filter_map(|pair| {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let is_wanted = halves.next()?.trim_ascii() == name.as_bytes();
        halves.next().filter(|_| is_wanted).map(<[u8]>::trim_ascii)
    });
    values.map(<[u8]>::to_vec).find(|value| !value.is_empty())
}

fn parameter(query: &str, name: &str) -> Option<Vec<u8>> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let named = pairs.filter(|(given, _)| {
        *given == name || decoded(&given.replace('+', " ")) == name.as_bytes()
    });
    named.map(|(_, value)| decoded(&value.replace('+', " "))).find(|value| !value.is_empty())
}

fn segment(path: &str, number: usize) -> Option<Vec<u8>> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let all: Vec<&str> = inner.split('/').collect();
    all.get(number - 1).map(|segment| decoded(segment))
}

/// Cut at each percent sign: two digits behind it are a byte, anything else stays.
fn decoded(text: &str) -> Vec<u8> {
    let mut pieces = text.split('%');
    let mut plain = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                plain.extend(&piece.as_bytes()[2..]);
            }
            None => {
                plain.push(b'%');
                plain.extend(piece.as_bytes());
            }
        }
    }
    plain
}

/// The whole document is built first, which refuses numbers beyond all bounds and escapes that are
/// no text, wherever they stand.
fn at(document: &[u8], pointer: &str) -> Result<Option<Vec<u8>>, ()> {
    let whole: serde_json::Value = match serde_json::from_slice(document) {
        Ok(whole) => whole,
        Err(_) if serde_json::from_slice::<serde::de::IgnoredAny>(document).is_err() => {
            return Ok(None);
        }
        Err(_) => return Err(()),
    };
    Ok(match whole.pointer(pointer) {
        Some(serde_json::Value::String(text)) => Some(text.clone().into_bytes()),
        Some(serde_json::Value::Bool(truth)) => Some(truth.to_string().into_bytes()),
        // It keeps the digits that were written, which this reader does not have.
        Some(serde_json::Value::Number(_)) => return Err(()),
        _ => None,
    })
}
