//! Looks up the addresses of registered servers.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use tokio::{sync::Semaphore, time};

/// Timeout of a lookup.
const LOOKUP: Duration = Duration::from_secs(2);
/// Lookups at a time. A lookup of the system cannot be cancelled, and it occupies a thread of the
/// pool that also writes files.
static LOOKUPS: Semaphore = Semaphore::const_new(32);

/// The lowest address of a host, an IPv4 one if there is one. The order of the resolver does not
/// matter, because resolvers rotate the addresses and the server would seem to move.
///
/// # Errors
/// A sentence on why no address was found.
pub async fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let late = || format!("'{host}' cannot be resolved within {LOOKUP:?}");
    let deadline = time::Instant::now() + LOOKUP;
    // The semaphore is never closed.
    let permit = time::timeout_at(deadline, LOOKUPS.acquire()).await.map_err(|_| late())?;
    let name = host.to_owned();
    let lookup = tokio::task::spawn_blocking(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        drop(permit);
        found
    });
    match time::timeout_at(deadline, lookup).await {
        Ok(Ok(Ok(all))) => first(&all).ok_or_else(|| format!("'{host}' has no address")),
        Ok(Ok(Err(error))) => Err(format!("'{host}' cannot be resolved: {error}")),
        Ok(Err(error)) => Err(format!("'{host}' cannot be resolved: {error}")),
        Err(_) => Err(late()),
    }
}

fn first(all: &[SocketAddr]) -> Option<SocketAddr> {
    // In the order of `SocketAddr`, IPv4 comes before IPv6.
    all.iter().min().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_gives_an_address_or_a_reason() {
        assert_eq!(resolve("localhost", 80).await, Ok("127.0.0.1:80".parse().unwrap()));
        assert_eq!(resolve("::1", 80).await, Ok("[::1]:80".parse().unwrap()));
        let why = resolve("nowhere.invalid", 80).await.unwrap_err();
        assert!(why.starts_with("'nowhere.invalid' cannot be resolved"), "{why}");
    }

    #[test]
    fn the_order_of_the_addresses_does_not_matter() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let all = [at("[::1]:80"), at("10.0.0.2:80"), at("10.0.0.1:80")];
        let mut turned = all;
        turned.reverse();
        assert_eq!((first(&all), first(&turned)), (Some(all[2]), Some(all[2])));
        assert_eq!(first(&[]), None);
    }
}
