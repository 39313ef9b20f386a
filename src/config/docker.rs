//! Checks the names that Docker would refuse later.

use super::{Checked, wrong};

/// The longest name of a repository with its registry, in characters.
const REPOSITORY_MAX: usize = 255;
/// The longest tag, in characters.
const TAG_MAX: usize = 128;
/// Networks that exist on each engine, and that do not resolve the names of their containers.
const PREDEFINED: [&str; 4] = ["bridge", "default", "host", "none"];

/// `[REGISTRY[:PORT]/]NAME[/NAME]..[:TAG][@ALGORITHM:DIGEST]`, or the ID of an image.
pub(super) fn image(text: &str) -> Checked<()> {
    reference(text).or_else(|why| wrong("image", format!("'{text}' is not an image: {why}")))
}

fn reference(text: &str) -> Result<(), String> {
    if text.contains("://") {
        return Err("it is a URL; a registry is written without its scheme".into());
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
        return Err(format!("'{digest}' is not a digest like sha256:<64 hexadecimal digits>"));
    }
    let (registry, path) = match rest.split_once('/') {
        Some((first, path)) if is_registry(first) => (Some(first), path),
        _ => (None, rest),
    };
    if let Some(registry) = registry.filter(|registry| !is_host(registry)) {
        return Err(format!("'{registry}' is not a registry like example.org:5000"));
    }
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(format!(
            "the tag '{tag}' must be 1 to {TAG_MAX} letters, digits, '_', '.' or '-', the first a letter, a digit or '_'"
        ));
    }
    if let Some(part) = path.split('/').find(|part| !is_component(part)) {
        let hint = if part.bytes().any(|b| b.is_ascii_uppercase()) {
            "names of images are written in lower case"
        } else {
            "letters and digits, with '.', '_', '__' or '-' between them"
        };
        return Err(format!("'{part}' cannot be a part of its name: {hint}"));
    }
    if registry.map_or(0, |registry| registry.len() + 1) + path.len() > REPOSITORY_MAX {
        return Err(format!("its name must be {REPOSITORY_MAX} characters at most"));
    }
    Ok(())
}

/// Whether the part before the first '/' is a registry: it could not be the name of an image.
fn is_registry(first: &str) -> bool {
    let is_marked = first.bytes().any(|b| matches!(b, b'.' | b':') || b.is_ascii_uppercase());
    is_marked || first == "localhost"
}

fn is_host(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => return address.parse::<std::net::Ipv6Addr>().is_ok(),
        Some((address, rest)) => match (address.parse::<std::net::Ipv6Addr>(), rest) {
            (Ok(_), rest) => return rest.strip_prefix(':').is_some_and(is_port),
            (Err(_), _) => return false,
        },
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let is_edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        is_edge(bytes.first()) && is_edge(bytes.last()) && label.bytes().all(inner)
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_tag(tag: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first_fits = !tag.starts_with(['.', '-']);
    (1..=TAG_MAX).contains(&tag.len()) && first_fits && tag.bytes().all(inner)
}

/// Lower-case letters and digits, with one separator between two of them: '.', '_', '__', or any
/// number of '-'.
fn is_component(part: &str) -> bool {
    let is_plain = |b: char| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_separator =
        |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    let edges_fit = part.starts_with(is_plain) && part.ends_with(is_plain);
    edges_fit && part.split(is_plain).filter(|text| !text.is_empty()).all(is_separator)
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let digits = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == digits && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of a network that replicas can find each other on.
pub(super) fn network(text: &str) -> Checked<()> {
    if PREDEFINED.contains(&text) {
        let why = format!("'{text}' is Docker's own, where replicas have no names; choose another");
        return wrong("network", why);
    }
    let inner = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | ' ');
    let is_name = text.chars().all(inner) && !text.starts_with('-') && text.trim() == text;
    if is_name && !text.is_empty() {
        return Ok(());
    }
    let why = format!("'{text}' is not the name of a network: letters, digits, '_', '.' or '-'");
    wrong("network", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_docker_does() {
        let digits = "a".repeat(64);
        let with_digest = format!("example.org:5000/a/b:1.0@sha256:{digits}");
        let id = format!("sha256:{digits}");
        for good in [
            "ringmaster-server",
            "ringmaster-server:test",
            "library/nginx:1.27-alpine",
            "a/b/c:_x.Y-z",
            "x_y",
            "x__y",
            "x--y.z",
            "localhost/x",
            "localhost:5000/x:1",
            "host:5000/x",
            "UPPER.io/x",
            "[fd00::1]:5000/x",
            &with_digest,
            &id,
            &digits,
        ] {
            assert_eq!(image(good), Ok(()), "{good}");
        }
        let short = "a@sha256:abc";
        for (bad, why) in [
            ("Foo", "'Foo' cannot be a part of its name: names of images are written in lower"),
            ("a/Foo:1", "'Foo' cannot be a part"),
            ("foo:", "the tag ''"),
            ("foo:.a", "the tag '.a'"),
            ("foo:a b", "the tag 'a b'"),
            ("foo//b", "'' cannot be a part"),
            ("/foo", "'' cannot be a part"),
            ("foo/", "'' cannot be a part"),
            ("x___y", "'x___y' cannot"),
            ("x.-y", "'x.-y' cannot"),
            ("x-", "'x-' cannot"),
            ("-x", "'-x' cannot"),
            ("foo bar", "'foo bar' cannot"),
            ("é", "'é' cannot"),
            ("a.b:/x", "'a.b:' is not a registry"),
            ("a..b/x", "'a..b' is not a registry"),
            ("[::g]:5/x", "'[::g]:5' is not a registry"),
            (short, "'sha256:abc' is not a digest"),
            ("foo@md5:aa", "'md5:aa' is not a digest"),
            ("http://foo", "without its scheme"),
            (&"a".repeat(400), "255 characters"),
        ] {
            let message = image(bad).unwrap_err().to_string();
            assert!(message.starts_with("`image`: '") && message.contains(why), "{bad}: {message}");
        }
    }

    #[test]
    fn predefined_networks_are_refused() {
        for good in ["net1", "blue-net", "a", "_x", "my net", "grün"] {
            assert_eq!(network(good), Ok(()), "{good}");
        }
        for bad in ["", " ", " a", "a/b", "container:x", "-x", "a\n", "bridge", "host", "none"] {
            let message = network(bad).unwrap_err().to_string();
            assert!(message.starts_with("`network`: '"), "{bad}: {message}");
        }
    }
}
