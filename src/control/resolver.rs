//! Looks up where registered servers are.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use tokio::{sync::Semaphore, time};

/// How long a name is looked up.
const LOOKUP: Duration = Duration::from_secs(2);
/// Lookups at a time. The system's cannot be called back, and the threads that they hold are those
/// that write files, too.
static LOOKUPS: Semaphore = Semaphore::const_new(32);

/// The first address of a host in their own order, an IPv4 one if there is one: a resolver that tells
/// the same addresses in turns means one server, not one that moves.
///
/// # Errors
/// Why there is none, in a sentence.
pub async fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let late = || format!("'{host}' cannot be resolved within {LOOKUP:?}");
    let deadline = time::Instant::now() + LOOKUP;
    // It is never closed.
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
    // IPv4 comes before IPv6 in their order.
    all.iter().min().copied()
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

    #[test]
    fn the_order_of_the_answer_means_nothing() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let all = [at("[::1]:80"), at("10.0.0.2:80"), at("10.0.0.1:80")];
        let mut turned = all;
        turned.reverse();
        assert_eq!((first(&all), first(&turned)), (Some(all[2]), Some(all[2])));
        assert_eq!(first(&[]), None);
    }
}
