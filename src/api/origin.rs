//! Whether a browser was led here by a page of another site. Pure: from the head of a request to
//! a judgement.
//!
//! Two tricks make a browser inside a network speak for a page outside it. *Cross-site requests*: the
//! page sends one to our address; its `Origin` then differs from the `Host`. *DNS rebinding*: the
//! page's own name is made to resolve to our address, so `Origin` and `Host` agree, but the name is not
//! one of ours. Programs on a command line send neither `Origin` nor `Sec-Fetch-Site`, and browsers
//! cannot leave these out.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, HeaderName, Method, Uri, header};

/// The names, beside addresses and `localhost`, that a port answers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNames(Vec<String>);

impl HostNames {
    /// Of names without ports.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether no other site can have this name: an address needs no resolving, so that it cannot be
    /// rebound, and `localhost` is resolved by the browser itself.
    fn admit(&self, host: &Host) -> bool {
        match host {
            Host::Address(_) => true,
            Host::Name(name) => name == "localhost" || self.0.iter().any(|known| known == name),
        }
    }
}

/// Which requests are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// Every request must name an admitted host: the admin port.
    Always,
    /// Only those that a browser marks and that change something: the traffic port, whose clients may
    /// call it as they like.
    MarkedOnly,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stranger {
    #[error("the request does not say for which host it is")]
    NoHost,
    #[error("the Host of the request cannot be read: one address or name, with or without a port")]
    OddHost,
    #[error(
        "'{host}' is not a name of this port: use an address or localhost, or add the name to `{setting}`"
    )]
    UnknownHost { host: String, setting: &'static str },
    #[error("a page of another site must not change anything here: its Origin is not this Host")]
    OtherOrigin,
}

/// Refuses what a browser may have sent for a page of another site. `setting`: where more names can
/// be admitted.
pub(super) fn judge(
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
    names: &HostNames,
    strictness: Strictness,
    setting: &'static str,
) -> Result<(), Stranger> {
    const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let is_marked = headers.contains_key(header::ORIGIN) || headers.contains_key(SEC_FETCH_SITE);
    let is_guarded = is_marked && changes_something(method);
    if strictness == Strictness::MarkedOnly && !is_guarded {
        return Ok(());
    }
    let hosts = hosts(uri, headers)?;
    if hosts.is_empty() {
        return Err(Stranger::NoHost);
    }
    if let Some((host, _)) = hosts.iter().find(|(host, _)| !names.admit(host)) {
        return Err(Stranger::UnknownHost { host: host.shown(), setting });
    }
    let is_own = || {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let (origin, another) = (origins.next(), origins.next());
        let origin = origin.filter(|_| another.is_none())?.to_str().ok()?;
        hosts.iter().all(|host| is_origin_of(origin, host)).then_some(())
    };
    if is_guarded && is_own().is_none() {
        return Err(Stranger::OtherOrigin);
    }
    Ok(())
}

fn changes_something(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// A host and the port that is written behind it.
type Authority = (Host, Option<u16>);

/// All that a request says of whom it is for: the authority of its target (HTTP/2, and the absolute
/// form of HTTP/1.1) and its `Host`. Where they differ each is judged, so that neither hides the other.
fn hosts(uri: &Uri, headers: &HeaderMap) -> Result<Vec<Authority>, Stranger> {
    let mut found = Vec::new();
    if let Some(authority) = uri.authority() {
        found.push(Host::parse(authority.as_str()).ok_or(Stranger::OddHost)?);
    }
    let mut values = headers.get_all(header::HOST).iter();
    if let Some(value) = values.next() {
        let host = value.to_str().ok().and_then(Host::parse);
        found.push(host.ok_or(Stranger::OddHost)?);
    }
    if values.next().is_some() {
        return Err(Stranger::OddHost);
    }
    Ok(found)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// In small letters, without the dot of the root.
    Name(String),
}

impl Host {
    /// Reads `host[:port]`. A user (`user@`) has no place there.
    fn parse(text: &str) -> Option<Authority> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            let port = if rest.is_empty() { None } else { Some(port(rest.strip_prefix(':')?)?) };
            return Some((Self::Address(address.parse::<Ipv6Addr>().ok()?.into()), port));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, digits)) => (host, Some(port(digits)?)),
            None => (text, None),
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some((Self::Address(address), port));
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        is_host_name(name).then(|| (Self::Name(name.to_ascii_lowercase()), port))
    }

    fn shown(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Name(name) => name.clone(),
        }
    }
}

fn port(digits: &str) -> Option<u16> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Whether a text is the HOST:PORT of a server, and nothing beside that.
pub fn is_place(text: &str) -> bool {
    let has_port = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let parsed = format!("http://{text}/").parse::<Uri>();
    has_port && parsed.is_ok_and(|uri| uri.path() == "/" && !text.contains(['@', '/', '?', '#']))
}

/// Whether a text can be the name of a host: letters, digits, `-`, `_` and `.`, at most 253 bytes.
pub fn is_host_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=253).contains(&text.len()) && text.bytes().all(is_part)
}

/// Whether an `Origin` names this host and port; a port that is not written is the scheme's.
fn is_origin_of(origin: &str, (host, port): &Authority) -> bool {
    // A proxy in front may speak TLS.
    let (rest, usual) = match (origin.strip_prefix("http://"), origin.strip_prefix("https://")) {
        (Some(rest), _) => (rest, 80),
        (None, Some(rest)) => (rest, 443),
        (None, None) => return false,
    };
    Host::parse(rest)
        .is_some_and(|(of, at)| &of == host && at.unwrap_or(usual) == port.unwrap_or(usual))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request};

    use super::*;

    /// A request from its lines: `POST /rm`, then header lines. Names: `ring.example`.
    fn judged(lines: &[&str], strictness: Strictness) -> Result<(), Stranger> {
        let (method, target) = lines[0].split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(target);
        for line in &lines[1..] {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let request = request.body(()).unwrap();
        let names = HostNames::new(["Ring.Example".to_owned()]);
        let head = (request.method(), request.uri(), request.headers());
        judge(head, &names, strictness, "admin_hosts")
    }

    fn admin(lines: &[&str]) -> Result<(), Stranger> {
        judged(lines, Strictness::Always)
    }

    fn traffic(lines: &[&str]) -> Result<(), Stranger> {
        judged(lines, Strictness::MarkedOnly)
    }

    fn unknown(host: &str) -> Result<(), Stranger> {
        Err(Stranger::UnknownHost { host: host.into(), setting: "admin_hosts" })
    }

    #[test]
    fn the_admin_port_answers_to_addresses_localhost_and_configured_names() {
        let admitted = [
            "127.0.0.1",
            "127.0.0.1:9090",
            "10.1.2.3:1",
            "[::1]",
            "[::1]:9090",
            "[fd00::7]:9090",
            "localhost",
            "LocalHost:9090",
            "localhost.",
            "ring.example",
            "RING.example.:9090",
        ];
        for host in admitted {
            for method in ["GET /api/status", "POST /rm"] {
                assert_eq!(admin(&[method, &format!("host: {host}")]), Ok(()), "{host}");
            }
        }
        for name in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "2130706433"]
        {
            for method in ["GET /api/status", "HEAD /rep", "POST /rm", "OPTIONS /rm"] {
                assert_eq!(
                    admin(&[method, &format!("host: {name}:9090")]),
                    unknown(name),
                    "{name}"
                );
            }
        }
        let odd = [
            "",
            ":9090",
            "localhost:",
            "localhost:x",
            "localhost:+1",
            "localhost:99999",
            "a b",
            "::1",
            "[::1",
            "[::1]9090",
            "[127.0.0.1]",
            "[evil.example]",
            "u@localhost",
            "localhost:1:2",
            "a/b",
            "caf\u{e9}.example",
        ];
        for host in odd {
            let found = admin(&["GET /rep", &format!("host: {host}")]);
            assert_eq!(found, Err(Stranger::OddHost), "{host:?}");
        }
        assert_eq!(admin(&["GET /rep"]), Err(Stranger::NoHost));
        let twice = ["GET /rep", "host: localhost", "host: localhost"];
        assert_eq!(admin(&twice), Err(Stranger::OddHost));
    }

    #[test]
    fn the_authority_of_a_target_does_not_hide_the_host_nor_the_host_the_authority() {
        assert_eq!(admin(&["GET http://localhost:9090/rep"]), Ok(()), "as in HTTP/2");
        assert_eq!(admin(&["GET http://127.0.0.1/rep", "host: localhost"]), Ok(()));
        for lines in [
            ["GET http://evil.example/rep", "host: localhost"],
            ["GET http://localhost/rep", "host: evil.example"],
        ] {
            assert_eq!(admin(&lines), unknown("evil.example"));
        }
        let user = ["GET http://u@localhost/rep", "host: localhost"];
        assert_eq!(admin(&user), Err(Stranger::OddHost));
        // An origin must be that of both.
        let both = ["POST http://localhost/rm", "host: localhost", "origin: http://localhost"];
        assert_eq!(traffic(&both), Ok(()));
        for lines in [
            ["POST http://localhost/rm", "host: 127.0.0.1", "origin: http://localhost"],
            ["POST http://localhost/rm", "host: 127.0.0.1", "origin: http://127.0.0.1"],
        ] {
            assert_eq!(traffic(&lines), Err(Stranger::OtherOrigin));
        }
    }

    #[test]
    fn a_page_of_another_site_changes_nothing_on_either_port() {
        // Host, origin, and whether that may change something.
        let cases = [
            ("localhost:5000", "http://localhost:5000", true),
            ("LOCALHOST:5000", "http://localhost:5000", true),
            ("localhost", "http://localhost:80", true),
            ("localhost:80", "http://localhost", true),
            ("ring.example", "https://ring.example", true),
            ("ring.example:443", "https://ring.example", true),
            ("[::1]:5000", "http://[::1]:5000", true),
            ("localhost:5000", "http://localhost:3000", false),
            ("localhost:5000", "http://localhost", false),
            ("localhost:5000", "http://127.0.0.1:5000", false),
            ("ring.example", "http://ring.example:443", false),
            ("localhost:5000", "null", false),
            ("localhost:5000", "", false),
            ("localhost:5000", "localhost:5000", false),
            ("localhost:5000", "file://localhost:5000", false),
            ("localhost:5000", "http://localhost:5000/", false),
            ("localhost:5000", "http://evil.example", false),
        ];
        for (host, origin, is_own) in cases {
            let host = format!("host: {host}");
            let origin = format!("origin: {origin}");
            for method in ["POST /rm", "DELETE /rm", "PUT /api/ring", "PATCH /x", "BREW /x"] {
                let expected = if is_own { Ok(()) } else { Err(Stranger::OtherOrigin) };
                for found in [admin(&[method, &host, &origin]), traffic(&[method, &host, &origin])]
                {
                    assert_eq!(found, expected, "{method} {host} {origin}");
                }
            }
            // What a page may only ask for, it may not read: the browser keeps the answer from it.
            assert_eq!(admin(&["GET /rep", &host, &origin]), Ok(()));
        }
        let twice = ["POST /rm", "host: localhost", "origin: http://localhost", "origin: null"];
        assert_eq!(traffic(&twice), Err(Stranger::OtherOrigin));
    }

    #[test]
    fn a_name_that_was_rebound_is_not_ours_though_origin_and_host_agree() {
        let rebound = ["POST /rm", "host: evil.example:5000", "origin: http://evil.example:5000"];
        assert_eq!(admin(&rebound), unknown("evil.example"));
        assert_eq!(traffic(&rebound), unknown("evil.example"));
    }

    #[test]
    fn the_mark_alone_is_enough_to_be_looked_at() {
        for site in ["cross-site", "same-site", "same-origin", "none"] {
            let mark = format!("sec-fetch-site: {site}");
            let bare = ["POST /rm", "host: localhost", &mark];
            assert_eq!(traffic(&bare), Err(Stranger::OtherOrigin), "{site}");
            let named = ["POST /rm", "host: localhost", &mark, "origin: http://localhost"];
            assert_eq!(traffic(&named), Ok(()), "{site}");
        }
    }

    #[test]
    fn the_traffic_port_does_not_look_at_what_no_browser_marked() {
        for host in ["host: evil.example", "host: a b", "x: y"] {
            assert_eq!(traffic(&["POST /rm", host]), Ok(()), "a command line's");
            assert_eq!(traffic(&["GET /rep", host, "origin: http://x"]), Ok(()), "changes nothing");
        }
    }
}
