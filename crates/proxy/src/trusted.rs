//! Who may speak for a client: the proxies in front of us.

use std::{fmt, net::IpAddr, str::FromStr};

use http::HeaderName;
use ipnet::{IpNet, Ipv4Net};

/// The addresses of all proxies that a request came through, as they tell it.
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Networks whose `X-Forwarded-*` headers are believed; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// A text that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an address like 10.0.0.7 or a network like 10.0.0.0/8")]
pub struct TrustedError(String);

impl TrustedProxies {
    /// From addresses and networks as they are written.
    ///
    /// # Errors
    /// The first that is neither.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, TrustedError> {
        texts.into_iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is one of these. An IPv4 address that came as IPv6 is an IPv4 address.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client that a trusted peer speaks for: the last of its list that is not trusted itself,
    /// since everything before that one is only that one's claim. Where all are trusted it is the
    /// first, and where something is no address, the one after it.
    ///
    /// The lines are those of [`FORWARDED_FOR`].
    pub(crate) fn client_of(&self, peer: IpAddr, lines: &[&[u8]]) -> IpAddr {
        let mut client = peer.to_canonical();
        let entries = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        for entry in entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()) {
            let Some(address) = address(entry) else { break };
            client = address;
            if !self.contains(address) {
                break;
            }
        }
        client
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(IpNet::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

fn network(text: &str) -> Result<IpNet, TrustedError> {
    let parsed = match IpAddr::from_str(text) {
        Ok(address) => Ok(IpNet::from(address.to_canonical())),
        Err(_) => IpNet::from_str(text),
    };
    let network = parsed.map_err(|_| TrustedError(text.chars().take(80).collect()))?;
    Ok(canonical(network))
}

/// A network of IPv4 addresses that are written as IPv6, as what it is.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(written) = network else { return network };
    let prefix = written.prefix_len().checked_sub(96);
    match (written.addr().to_ipv4_mapped(), prefix) {
        (Some(address), Some(prefix)) => Ipv4Net::new(address, prefix).map_or(network, IpNet::V4),
        _ => network,
    }
}

/// An entry of the list: an address, with brackets or a port as some proxies write it.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    let address = match bare.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => text.parse::<std::net::SocketAddr>().ok()?.ip(),
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(texts: &[&str]) -> TrustedProxies {
        TrustedProxies::parse(texts.iter().copied()).unwrap()
    }

    #[test]
    fn addresses_and_networks_are_read() {
        let proxies = trusted(&["10.0.0.0/8", "192.168.1.7", "fd00::/8", "::ffff:172.16.0.0/108"]);
        assert_eq!(proxies.to_string(), "10.0.0.0/8,192.168.1.7/32,fd00::/8,172.16.0.0/12");
        for inside in ["10.255.0.1", "192.168.1.7", "fd12::1", "::ffff:10.1.1.1", "172.31.0.1"] {
            assert!(proxies.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "192.168.1.8", "fe80::1", "::10.1.1.1"] {
            assert!(!proxies.contains(outside.parse().unwrap()), "{outside}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0", "proxy", "10.0.0.0-10.0.0.9"] {
            let error = TrustedProxies::parse([bad]).unwrap_err().to_string();
            assert!(error.contains(&format!("'{bad}'")), "{error}");
        }
        assert!(!TrustedProxies::default().contains(IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn the_client_is_the_last_who_is_not_trusted() {
        let proxies = trusted(&["10.0.0.0/8"]);
        let client = |lines: &[&'static str]| {
            let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            proxies.client_of(IpAddr::from([10, 0, 0, 1]), &lines).to_string()
        };
        assert_eq!(client(&[]), "10.0.0.1");
        assert_eq!(client(&["1.1.1.1"]), "1.1.1.1");
        assert_eq!(client(&["6.6.6.6, 1.1.1.1"]), "1.1.1.1", "the first is a claim");
        assert_eq!(client(&["6.6.6.6, 1.1.1.1 ,10.0.0.3", "10.0.0.2"]), "1.1.1.1");
        assert_eq!(client(&["10.0.0.4,10.0.0.3", "", "10.0.0.2, "]), "10.0.0.4", "all trusted");
        assert_eq!(client(&["1.1.1.1, unknown, 10.0.0.2"]), "10.0.0.2", "not read beyond");
        assert_eq!(client(&["<script>"]), "10.0.0.1");
        assert_eq!(client(&["1.1.1.1:4711"]), "1.1.1.1");
        assert_eq!(client(&["[fd00::1]:4711"]), "fd00::1");
        assert_eq!(client(&["[fd00::1]"]), "fd00::1");
        assert_eq!(client(&["1.1.1.1, ::ffff:10.9.9.9"]), "1.1.1.1");
    }
}
