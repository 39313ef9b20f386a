//! Registered servers: replicas that others keep, known by their address only. They have a place on
//! the ring like any other; nothing of them is ever started or stopped.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::ids::ReplicaName;

/// Where a registered server is, and how it came to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A hostname or an address (IPv6 without its brackets).
    pub host: Arc<str>,
    /// Where it listens, at least 1.
    pub port: u16,
    /// How it came to be registered.
    pub source: Source,
}

/// How a server came to be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The configuration, or a person through an API.
    Operator,
    /// It was found in a store that others write as well; it goes when it is gone from there.
    Store,
}

/// Why a text is no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostError(&'static str);

/// The longest hostname of DNS.
const HOST_MAX: usize = 253;

impl Server {
    /// A server at a place.
    ///
    /// # Errors
    /// What is neither a hostname nor an address, or port 0.
    pub fn new(host: &str, port: u16, source: Source) -> Result<Self, HostError> {
        let bracketed = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(HostError("what is in brackets is not an IPv6 address")),
            None => host,
        };
        let is_inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let is_address = host.parse::<IpAddr>().is_ok();
        let is_name = !host.is_empty() && host.len() <= HOST_MAX && host.bytes().all(is_inner);
        if !is_address && !is_name {
            return Err(HostError("the host is not a hostname or an address"));
        }
        if port == 0 {
            return Err(HostError("the port is not a number from 1 to 65535"));
        }
        Ok(Self { host: host.into(), port, source })
    }

    /// `HOST:PORT`, as it is written in a URL.
    pub fn place(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Its address, where the host is one: then no name has to be looked up.
    pub fn address(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|host| SocketAddr::new(host, self.port))
    }

    /// Whether two are at one place, however that is written.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let plain = |server: &Self| {
            let host = server.host.trim_end_matches('.').to_ascii_lowercase();
            host.parse::<IpAddr>().map_or(host, |address| address.to_canonical().to_string())
        };
        self.port == other.port && plain(self) == plain(other)
    }
}

/// A server that is to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What it is called.
    pub name: ReplicaName,
    /// Its part of the load, relative to the others; at least 1.
    pub weight: u32,
    /// Where it is.
    pub server: Server,
}

/// What is to become different about a registered server; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerChange {
    /// Another hostname or address.
    pub host: Option<Arc<str>>,
    /// Another port.
    pub port: Option<u16>,
    /// Another weight.
    pub weight: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16) -> Server {
        Server::new(host, port, Source::Operator).unwrap()
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for (host, place, address) in [
            ("10.0.0.1", "10.0.0.1:80", Some("10.0.0.1:80")),
            ("::1", "[::1]:80", Some("[::1]:80")),
            ("[::1]", "[::1]:80", Some("[::1]:80")),
            ("my_host.lan", "my_host.lan:80", None),
        ] {
            let server = server(host, 80);
            assert_eq!(server.place(), place);
            assert_eq!(server.address(), address.map(|text| text.parse().unwrap()));
        }
        for host in ["", "a b", "a/b", "a:b", "[x]", "http://a", "ä", &"a".repeat(254)] {
            assert!(Server::new(host, 80, Source::Operator).is_err(), "{host}");
        }
        assert!(Server::new("a", 0, Source::Operator).is_err());
    }

    #[test]
    fn one_place_may_be_written_in_several_ways() {
        assert!(server("Host", 1).is_same_place(&server("hOst.", 1)));
        assert!(server("::1", 1).is_same_place(&server("0:0::1", 1)));
        assert!(server("10.0.0.1", 1).is_same_place(&server("::ffff:10.0.0.1", 1)));
        assert!(!server("a", 1).is_same_place(&server("a", 2)));
        assert!(!server("a", 1).is_same_place(&server("b", 1)));
    }
}
