//! Addresses that others keep. Nothing is started or stopped here.

use std::{net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use tokio::{net, sync::mpsc, time};

use super::{Driver, Signal};
use crate::fleet::{
    ids::{Handle, Incarnation, InstanceId, ReplicaId, ReplicaName, SpecDigest},
    message::{
        EngineError, Found, FoundIdentity, FoundState, LastWords, Listing, Revision, StartError,
        StartRequest, Started, StopManner,
    },
};

/// How long a name is looked up.
const LOOKUP: Duration = Duration::from_secs(2);

/// One address given by the user: `NAME=HOST:PORT[,weight=W]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// What it is called.
    pub name: ReplicaName,
    /// A hostname or an address (IPv6 without its brackets).
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// Its part of the load, relative to the others.
    pub weight: u32,
}

impl Upstream {
    /// `HOST:PORT`, as it is written.
    pub fn place(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// Where upstreams are found now, in their order; `None` where a host has no address.
pub async fn resolve_all(upstreams: &[Upstream]) -> Vec<Option<SocketAddr>> {
    let found = join_all(upstreams.iter().map(resolve)).await;
    found.into_iter().map(Result::ok).collect()
}

/// Why a text is no [`Upstream`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not NAME=HOST:PORT[,weight=W]: {reason}")]
pub struct UpstreamError {
    text: String,
    reason: String,
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
            .map_err(|reason| UpstreamError { text: text.chars().take(120).collect(), reason })
    }
}

fn parse(text: &str) -> Result<Upstream, String> {
    let (name, rest) = text.split_once('=').ok_or("there is no '='")?;
    let name = ReplicaName::new(name).map_err(|error| error.to_string())?;
    let mut parts = rest.split(',');
    let (host, port) = parse_address(parts.next().unwrap_or_default())?;
    let mut weight = None;
    for option in parts {
        let value = option
            .strip_prefix("weight=")
            .ok_or_else(|| format!("'{option}' is not an option; there is only weight=W"))?;
        if weight.is_some() {
            return Err("the weight is given twice".into());
        }
        let parsed = value.parse::<u32>().ok().filter(|weight| *weight > 0);
        weight = Some(parsed.ok_or_else(|| format!("the weight '{value}' is not 1 or more"))?);
    }
    Ok(Upstream { name, host, port, weight: weight.unwrap_or(1) })
}

fn parse_address(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("there is no ':' before the port")?;
    let bracketed = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let host = match bracketed {
        Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
        Some(inner) => return Err(format!("'{inner}' is not an IPv6 address")),
        None if host.contains(':') => {
            return Err("an IPv6 address is written in brackets: [::1]:5000".into());
        }
        None => host,
    };
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || host.len() > 253 || !host.bytes().all(inner) {
        return Err("the host is not a hostname or an address".into());
    }
    match port.parse::<u16>() {
        Ok(number) if number > 0 => Ok((host.to_owned(), number)),
        _ => Err(format!("the port '{port}' is not a number from 1 to 65535")),
    }
}

/// The driver `static`: a fixed set of upstreams.
#[derive(Clone, Debug)]
pub struct FixedDriver {
    upstreams: Vec<Upstream>,
}

impl FixedDriver {
    /// A driver for these upstreams: the first is replica 1, and so on.
    pub fn new(upstreams: Vec<Upstream>) -> Self {
        Self { upstreams }
    }

    /// Looks one up, and says what prevents it from being reached.
    async fn find(&self, index: usize, upstream: &Upstream) -> (Found, Option<Arc<str>>) {
        let number = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        let (address, problem) = match resolve(upstream).await {
            Ok(address) => (Some(address), None),
            Err(why) => (None, Some(why.into())),
        };
        let found = Found {
            handle: Handle(upstream.name.as_str().into()),
            identity: Some(FoundIdentity {
                instance: InstanceId {
                    replica: ReplicaId(number),
                    incarnation: Incarnation::FIRST,
                },
                name: upstream.name.clone(),
                ordinal: number,
                weight: upstream.weight,
                positions: Vec::new(),
                spec: spec(),
                image: None,
            }),
            state: FoundState::Running(address),
        };
        (found, problem)
    }
}

/// The addresses are what they are: never outdated.
fn spec() -> SpecDigest {
    SpecDigest("static".into())
}

/// The first address of a host, or why there is none.
async fn resolve(upstream: &Upstream) -> Result<SocketAddr, String> {
    let host = &upstream.host;
    let lookup = net::lookup_host((host.as_str(), upstream.port));
    match time::timeout(LOOKUP, lookup).await {
        Ok(Ok(mut addresses)) => addresses.next().ok_or_else(|| format!("'{host}' has no address")),
        Ok(Err(error)) => Err(format!("'{host}' cannot be resolved: {error}")),
        Err(_) => Err(format!("'{host}' cannot be resolved within {LOOKUP:?}")),
    }
}

impl Driver for FixedDriver {
    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<Started, StartError>> {
        let text = format!(
            "'{}' cannot be started: the replicas are the addresses given with --upstream",
            request.name
        );
        Box::pin(async move { Err(StartError::Refused(text.into())) })
    }

    fn stop(&self, handle: Handle, _: StopManner) -> BoxFuture<'_, Result<(), EngineError>> {
        let text = format!(
            "'{handle}' cannot be stopped: the replicas are the addresses given with --upstream"
        );
        Box::pin(async move { Err(EngineError::Refused(text.into())) })
    }

    /// What ended it knows more.
    fn last_words(&self, _: Handle) -> BoxFuture<'_, Option<LastWords>> {
        Box::pin(async { None })
    }

    fn logs(&self, handle: Handle, _: usize) -> BoxFuture<'_, Result<Vec<String>, EngineError>> {
        let text = format!("'{handle}' is kept by others, and so is its log");
        Box::pin(async move { Err(EngineError::Refused(text.into())) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Listing, EngineError>> {
        Box::pin(async {
            let finds = self.upstreams.iter().enumerate();
            let wanted = Some(Revision { spec: spec(), image: None });
            let mut listing = Listing { wanted, ..Listing::default() };
            for (found, problem) in join_all(finds.map(|(index, one)| self.find(index, one))).await
            {
                let instance = found.identity.as_ref().map(|identity| identity.instance);
                listing.problems.extend(instance.zip(problem));
                listing.found.push(found);
            }
            Ok(listing)
        })
    }

    fn watch(&self, signals: mpsc::Sender<Signal>) -> BoxFuture<'_, ()> {
        Box::pin(async move { signals.closed().await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(text: &str) -> Upstream {
        text.parse().unwrap()
    }

    #[test]
    fn upstreams_are_parsed() {
        let plain = upstream("server1=10.0.0.1:5001");
        assert_eq!(plain.name.as_str(), "server1");
        assert_eq!((plain.host.as_str(), plain.port), ("10.0.0.1", 5001));
        assert_eq!(plain.weight, 1);
        assert_eq!(plain.place(), "10.0.0.1:5001");
        assert_eq!(upstream("x=host:1").name.as_str(), "x");
        let six = upstream("S6=[fd00::1]:80,weight=7");
        assert_eq!((six.host.as_str(), six.port, six.weight), ("fd00::1", 80, 7));
        assert_eq!(six.place(), "[fd00::1]:80");
        assert_eq!(upstream("db=my_host.lan:1").host, "my_host.lan");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, reason) in [
            ("server1", "there is no '='"),
            ("-x=h:1", "not a valid name"),
            ("server1=host", "there is no ':'"),
            ("server1=host:", "the port ''"),
            ("server1=host:0", "the port '0'"),
            ("server1=host:65536", "the port '65536'"),
            ("server1=:80", "the host"),
            ("server1=a b:80", "the host"),
            ("server1=::1:80", "in brackets"),
            ("server1=[x]:80", "not an IPv6"),
            ("server1=h:80,weight=0", "the weight '0'"),
            ("server1=h:80,weight=-1", "the weight '-1'"),
            ("server1=h:80,weight=1,weight=2", "twice"),
            ("server1=h:80,color=red", "'color=red' is not an option"),
            ("server1=h:80,", "'' is not an option"),
        ] {
            let error = text.parse::<Upstream>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(error.contains(text), "{error}");
        }
    }

    #[tokio::test]
    async fn each_upstream_is_a_running_replica_at_its_address() {
        let driver = FixedDriver::new(vec![
            upstream("one=127.0.0.1:5001"),
            upstream("two=nowhere.invalid:5002,weight=3"),
        ]);
        let listing = driver.list().await.unwrap();
        assert_eq!(listing.found.len(), 2);
        assert_eq!(listing.found[0].state, FoundState::Running("127.0.0.1:5001".parse().ok()));
        assert_eq!(listing.found[1].state, FoundState::Running(None));
        let [(who, why)] = &listing.problems[..] else { panic!("{listing:?}") };
        assert_eq!(who.to_string(), "2.1");
        assert!(why.starts_with("'nowhere.invalid' cannot be resolved"), "{why}");
        let second = listing.found[1].identity.clone().unwrap();
        assert_eq!(second.instance.to_string(), "2.1");
        assert_eq!((second.ordinal, second.weight), (2, 3));
        assert_eq!(second.spec, spec());
        let stop = driver.stop(listing.found[0].handle.clone(), StopManner::Kill);
        let error = stop.await.unwrap_err();
        assert!(error.to_string().starts_with("'one' cannot be stopped: the replicas"));
    }

    #[tokio::test]
    async fn watch_ends_with_its_listener() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let driver = FixedDriver::new(Vec::new());
        time::timeout(Duration::from_secs(5), driver.watch(sender)).await.unwrap();
    }
}
