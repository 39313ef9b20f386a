//! Looks up where registered servers are.

use std::{net::SocketAddr, time::Duration};

use tokio::{net, time};

/// How long a name is looked up.
const LOOKUP: Duration = Duration::from_secs(2);

/// The first address of a host, an IPv4 one if there is one.
///
/// # Errors
/// Why there is none, in a sentence.
pub async fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    match time::timeout(LOOKUP, net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => {
            let all: Vec<SocketAddr> = addresses.collect();
            let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
            first.copied().ok_or_else(|| format!("'{host}' has no address"))
        }
        Ok(Err(error)) => Err(format!("'{host}' cannot be resolved: {error}")),
        Err(_) => Err(format!("'{host}' cannot be resolved within {LOOKUP:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_have_addresses_or_a_reason() {
        assert_eq!(resolve("localhost", 80).await, Ok("127.0.0.1:80".parse().unwrap()));
        assert_eq!(resolve("::1", 80).await, Ok("[::1]:80".parse().unwrap()));
        let why = resolve("nowhere.invalid", 80).await.unwrap_err();
        assert!(why.starts_with("'nowhere.invalid' cannot be resolved"), "{why}");
    }
}
