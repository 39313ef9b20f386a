//! Addresses of nodes, and the names that follow from them. Pure.

use std::net::SocketAddr;

use ringmaster_core::fleet::{
    ids::ReplicaName,
    server::{Server, Source},
    view::{FleetView, ReplicaView},
};

/// The port of a URL that names none.
const HTTP: u16 = 80;
/// The longest name.
const NAME_MAX: usize = 63;

/// Reads `http://HOST[:PORT]`, with or without a `/` behind it, or `HOST:PORT`.
///
/// # Errors
/// A sentence.
pub(super) fn parse(text: &str) -> Result<Server, String> {
    let shown: String = text.chars().take(80).collect();
    let refused = |why: &str| format!("'{shown}' is not an address like http://host:port: {why}");
    let (is_url, authority) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            (true, rest.strip_suffix('/').unwrap_or(rest))
        }
        Some(_) => return Err(refused("nodes are spoken to by http only")),
        None => (false, text),
    };
    let colon = match authority.rsplit_once(':') {
        // Inside the brackets it belongs to the address.
        Some((_, behind)) if behind.contains(']') => None,
        found => found,
    };
    let (host, port) = match colon {
        Some((host, port)) => {
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|&port: &u16| is_number && port > 0);
            (host, port.ok_or_else(|| refused("the port is not a number from 1 to 65535"))?)
        }
        None if is_url => (authority, HTTP),
        None => return Err(refused("there is no port")),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(refused("an IPv6 address is written in brackets"));
    }
    Server::new(host, port, Source::Operator).map_err(|error| refused(&error.to_string()))
}

/// The replica at a place: a registered one, or one of ours that listens there.
pub(super) fn replica_at<'a>(view: &'a FleetView, wanted: &Server) -> Option<&'a ReplicaView> {
    let is_there = |replica: &&ReplicaView| match &replica.server {
        Some(server) => server.is_same_place(wanted),
        None => {
            let mut addresses = replica.instances.iter().filter_map(|instance| instance.address);
            addresses.any(|address| listens(address, wanted))
        }
    };
    view.replicas.iter().find(is_there)
}

fn listens(at: SocketAddr, wanted: &Server) -> bool {
    let there = Server::new(&at.ip().to_string(), at.port(), Source::Operator);
    there.is_ok_and(|there| there.is_same_place(wanted))
}

/// Names for a node, the plain one first: `127.0.0.1-9001`, `127.0.0.1-9001-2` …
pub(super) fn names(server: &Server) -> impl Iterator<Item = ReplicaName> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let host: String = server.host.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    let host = host.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    let port = server.port;
    (1_u32..).filter_map(move |number| {
        let mut tail = format!("-{port}");
        if number > 1 {
            tail.push_str(&format!("-{number}"));
        }
        // Of a long hostname the beginning stays, and the number tells them apart. All is ASCII.
        let room = NAME_MAX - tail.len();
        let host = &host[..host.len().min(room)];
        let host = if host.is_empty() { "node" } else { host };
        ReplicaName::new(&format!("{host}{tail}")).ok()
    })
}

/// Whether a name is borne by a replica or an instance of the fleet.
pub(super) fn is_taken(view: &FleetView, name: &ReplicaName) -> bool {
    let instances = view.replicas.iter().flat_map(|replica| &replica.instances);
    let mut instances = instances.chain(&view.joining);
    view.replicas.iter().any(|replica| replica.name.is_same_host(name))
        || instances.any(|instance| instance.name.is_same_host(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_urls_of_a_host() {
        for (text, place) in [
            ("http://127.0.0.1:9001", "127.0.0.1:9001"),
            ("http://127.0.0.1:9001/", "127.0.0.1:9001"),
            ("HTTP://localhost:1", "localhost:1"),
            ("http://[::1]:65535", "[::1]:65535"),
            ("http://[::1]", "[::1]:80"),
            ("http://node-1.lan", "node-1.lan:80"),
            ("localhost:8082", "localhost:8082"),
            ("[::1]:8082", "[::1]:8082"),
        ] {
            assert_eq!(parse(text).map(|server| server.place()), Ok(place.to_owned()), "{text}");
        }
        for (text, why) in [
            ("https://a:1", "by http only"),
            ("ftp://a", "by http only"),
            ("nonsense", "there is no port"),
            ("a b:1", "not a hostname"),
            ("http://", "not a hostname"),
            ("http://:80", "not a hostname"),
            ("http://a:", "the port is not"),
            ("http://a:0", "the port is not"),
            ("http://a:+1", "the port is not"),
            ("http://a:65536", "the port is not"),
            ("http://a:1/set", "the port is not"),
            ("http://a/set", "not a hostname"),
            ("http://a?b", "not a hostname"),
            ("http://user@a:1", "not a hostname"),
            ("http://::1:80", "in brackets"),
            ("http://[x]:80", "in brackets is not an IPv6 address"),
            ("http://a:1//", "the port is not"),
        ] {
            let refused = parse(text).map(|server| server.place()).unwrap_err();
            assert!(refused.starts_with(&format!("'{text}' is not an address")), "{refused}");
            assert!(refused.contains(why), "{refused}");
        }
        let long = parse(&"x".repeat(5_000)).map(|server| server.place()).unwrap_err();
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn names_follow_from_addresses() {
        for (text, expected) in [
            ("http://127.0.0.1:9001", ["127.0.0.1-9001", "127.0.0.1-9001-2"]),
            ("http://Node_1.lan", ["Node_1.lan-80", "Node_1.lan-80-2"]),
            ("http://[::1]:9001", ["1-9001", "1-9001-2"]),
            ("http://[::]:9001", ["node-9001", "node-9001-2"]),
            ("http://[2001:db8::2]:1", ["2001-db8--2-1", "2001-db8--2-1-2"]),
        ] {
            let server = parse(text).unwrap();
            let found: Vec<_> = names(&server).take(2).map(|name| name.to_string()).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_names_are_distinct(text in "(http://)?[a-zA-Z0-9\\[\\]:._/-]{0,300}(:[0-9]{1,5})?") {
            if let Ok(server) = parse(&text) {
                let found: std::collections::BTreeSet<_> = names(&server).take(12).collect();
                prop_assert_eq!(found.len(), 12);
                let again = parse(&format!("http://{}", server.place()));
                prop_assert!(again.is_ok_and(|again| again.is_same_place(&server)));
            }
        }
    }
}
