//! A place in a JSON document (RFC 6901), and what stands there.
//!
//! The document is read once from front to end; nothing of it is built but the value that is
//! wanted, and that one borrows its text.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// A JSON pointer that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer(Vec<String>);

/// Deeper places are refused: the reader gives up on documents of this depth.
const DEPTH_MAX: usize = 100;

impl Pointer {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let tokens: Vec<String> =
            text.strip_prefix('/')?.split('/').map(unescaped).collect::<Option<_>>()?;
        (tokens.len() <= DEPTH_MAX).then_some(Self(tokens))
    }

    /// The text of the string, number or truth value at this place. Numbers stay as they are
    /// written, so that long ones lose no digits.
    pub(super) fn find<'a>(&self, document: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let mut reader = serde_json::Deserializer::from_slice(document);
        let value = Seek(&self.0).deserialize(&mut reader).ok()??;
        reader.end().ok()?;
        let text = value.get();
        match text.as_bytes() {
            [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Some(inner.into()),
            [b'"', ..] => {
                let text: String = serde_json::from_str(text).ok()?;
                Some(text.into_bytes().into())
            }
            [b'-' | b'0'..=b'9' | b't' | b'f', ..] => Some(text.as_bytes().into()),
            _ => None,
        }
    }
}

fn unescaped(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        plain.push(match part.chars().next()? {
            '0' => '~',
            '1' => '/',
            _ => return None,
        });
        plain.push_str(&part[1..]);
    }
    Some(plain)
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|token| write!(f, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

/// What is left of the way to the value.
struct Seek<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => <&RawValue>::deserialize(reader).map(Some),
            _ => reader.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    /// Of several members with one name the last counts, as in most readers.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((wanted, rest)) = self.0.split_first() else { return Ok(None) };
        let mut found = None;
        while let Some(is_wanted) = map.next_key_seed(NameIs(wanted))? {
            match is_wanted {
                true => found = map.next_value_seed(Seek(rest))?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let Some((wanted, rest)) = self.0.split_first() else { return Ok(None) };
        let wanted = index(wanted);
        let (mut found, mut at) = (None, 0);
        loop {
            if wanted == Some(at) {
                match list.next_element_seed(Seek(rest))? {
                    Some(value) => found = value,
                    None => return Ok(found),
                }
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            at += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// An index as RFC 6901 writes it: without leading zeros.
fn index(token: &str) -> Option<usize> {
    let is_plain = token == "0" || !token.starts_with('0');
    let is_number = is_plain && token.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| token.parse().ok()).flatten()
}

/// Compares a member's name where it stands.
struct NameIs<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for NameIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for NameIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pointer: &str, document: &str) -> Option<String> {
        let found = Pointer::parse(pointer).unwrap().find(document.as_bytes())?;
        Some(String::from_utf8(found.into_owned()).unwrap())
    }

    #[test]
    fn the_examples_of_the_rfc_are_found() {
        let document = r#"{ "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3,
            "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8 }"#;
        let places = [
            ("/foo/0", "bar"),
            ("/foo/1", "baz"),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ];
        for (pointer, value) in places {
            assert_eq!(find(pointer, document).as_deref(), Some(value), "{pointer}");
            assert_eq!(Pointer::parse(pointer).unwrap().to_string(), pointer);
        }
        for missing in ["/foo", "/foo/2", "/foo/-", "/foo/00", "/foo/+1", "/x", "/foo/0/x", "/ /a"]
        {
            assert_eq!(find(missing, document), None, "{missing}");
        }
        for bad in ["", "a", "/~", "/~2"] {
            assert_eq!(Pointer::parse(bad), None, "{bad}");
        }
        assert_eq!(Pointer::parse(&"/a".repeat(DEPTH_MAX + 1)), None);
    }

    #[test]
    fn scalars_keep_their_text_and_nothing_else_is_a_key() {
        let document = r#"{"n":12345678901234567890123,"f":-1.50e2,"t":true,"e":"a\u00e9\"b",
            "null":null,"o":{},"l":[],"twice":1,"twice":2,"d":{"d":{"x":"y"}}}"#;
        let value = |name: &str| find(&format!("/{name}"), document);
        assert_eq!(value("n").as_deref(), Some("12345678901234567890123"));
        assert_eq!(value("f").as_deref(), Some("-1.50e2"));
        assert_eq!(value("t").as_deref(), Some("true"));
        assert_eq!(value("e").as_deref(), Some("aé\"b"));
        assert_eq!(value("twice").as_deref(), Some("2"));
        assert_eq!(value("d/d/x").as_deref(), Some("y"));
        for none in ["null", "o", "l"] {
            assert_eq!(value(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_not_json_has_no_key() {
        for document in ["", "{", r#"{"a":1"#, r#"{"a":1}x"#, "a=1", r#"{"a":1,}"#, "\u{feff}{}"] {
            assert_eq!(find("/a", document), None, "{document}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(find("/0/0", &deep), None);
        assert_eq!(find("/a", &format!("{{\"b\":{deep}")), None);
        let nested = format!("{}1{}", "[".repeat(90), "]".repeat(90));
        assert_eq!(find(&"/0".repeat(90), &nested).as_deref(), Some("1"));
        assert_eq!(Pointer::parse("/a").unwrap().find(b"{\"a\":\"\xff\"}"), None);
    }
}
