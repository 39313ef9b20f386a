//! Where a Redis is: one server, or the Sentinels that know which server is the master.

use futures_util::{FutureExt, future::select_ok};
use redis::{
    Client, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates, TlsMode,
    sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType},
};
use tokio::sync::Mutex;

/// A URL that is no address of a Redis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

/// The address of a Redis, with what it takes to be let in. Its `Debug` and [`Address::describe`]
/// never show a password.
pub struct Address {
    kind: Kind,
    shown: String,
}

enum Kind {
    One(Box<Client>),
    /// Asked anew for each connection, since the master changes. There is at least one.
    Sentinels(Vec<Mutex<SentinelClient>>),
}

const SCHEMES: [&str; 4] = ["redis", "rediss", "redis+sentinel", "rediss+sentinel"];

impl Address {
    /// Reads `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, the same with `rediss` for TLS, or
    /// `redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]/MASTER[/DB]`. `ca`: certificates
    /// (PEM) that vouch for a server with TLS, instead of those of the system.
    ///
    /// # Errors
    /// A sentence without the URL, which may hold a password.
    pub fn parse(url: &str, ca: Option<Vec<u8>>) -> Result<Self, AddressError> {
        let Some((scheme, rest)) = url.split_once("://").filter(|(s, _)| SCHEMES.contains(s))
        else {
            return Err(AddressError(format!("must begin with one of {}", SCHEMES.join("://, "))));
        };
        let tls = scheme.starts_with("rediss");
        if ca.is_some() && !tls {
            return Err(AddressError("a certificate is of use only with rediss://".into()));
        }
        let certificates = ca.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem) });
        match scheme.strip_suffix("+sentinel") {
            None => one(url, certificates),
            Some(plain) => sentinels(plain, rest, certificates),
        }
    }

    /// Where it is, without user and password.
    pub fn describe(&self) -> &str {
        &self.shown
    }

    /// A client of the server that may be written to now.
    pub(super) async fn client(&self) -> Result<Client, RedisError> {
        match &self.kind {
            Kind::One(client) => Ok((**client).clone()),
            // All at once: one whose machine is away must not take the time of the others.
            Kind::Sentinels(sentinels) => {
                let asked = sentinels.iter().map(|one| master_by(one).boxed());
                select_ok(asked).await.map(|(client, _)| client)
            }
        }
    }
}

async fn master_by(sentinel: &Mutex<SentinelClient>) -> Result<Client, RedisError> {
    sentinel.lock().await.async_get_client().await
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Address").field(&self.shown).finish()
    }
}

fn info_of(url: &str) -> Result<ConnectionInfo, AddressError> {
    url.into_connection_info().map_err(|error| AddressError(said(&error)))
}

/// What is wrong with a URL, without its text.
fn said(error: &RedisError) -> String {
    format!("is no address like redis://HOST:6379/0: {}", error.category())
}

fn one(url: &str, certificates: Option<TlsCertificates>) -> Result<Address, AddressError> {
    let info = info_of(url)?;
    let shown = format!("redis at {}/{}", info.addr(), info.redis_settings().db());
    let client = match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    };
    let client = client.map_err(|error| AddressError(error.to_string()))?;
    Ok(Address { kind: Kind::One(Box::new(client)), shown })
}

fn sentinels(
    scheme: &str,
    rest: &str,
    certificates: Option<TlsCertificates>,
) -> Result<Address, AddressError> {
    if certificates.is_some() {
        let why = "Sentinels are believed by the certificates of the system only";
        return Err(AddressError(why.into()));
    }
    let (access, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let mut parts = rest.splitn(3, '/');
    let (hosts, master) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if master.is_empty() {
        return Err(AddressError("does not name the master: redis+sentinel://HOST/MASTER".into()));
    }
    let database = parts.next().unwrap_or_default();
    let port = |host: &str| match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => host.to_owned(),
        _ => format!("{host}:26379"),
    };
    let hosts: Vec<String> = hosts.split(',').map(port).collect();
    let at = if access.is_empty() { "" } else { "@" };
    // The host means nothing here: user, password and database are what it is read for.
    let node = info_of(&format!("{scheme}://{access}{at}master/{database}"))?;
    let mut nodes = SentinelNodeConnectionInfo::default()
        .set_redis_connection_info(node.redis_settings().clone());
    if scheme == "rediss" {
        nodes = nodes.set_tls_mode(TlsMode::Secure);
    }
    let client = |host: &String| {
        let infos = vec![info_of(&format!("{scheme}://{host}"))?];
        let (master, nodes) = (master.to_owned(), Some(nodes.clone()));
        let client = SentinelClient::build(infos, master, nodes, SentinelServerType::Master);
        client.map(Mutex::new).map_err(|error| AddressError(error.to_string()))
    };
    let clients = hosts.iter().map(client).collect::<Result<_, _>>()?;
    let shown = format!("redis master '{master}' by the Sentinels at {}", hosts.join(", "));
    Ok(Address { kind: Kind::Sentinels(clients), shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_passwords() {
        for (url, shown) in [
            ("redis://127.0.0.1", "redis at 127.0.0.1:6379/0"),
            ("redis://u:s3cret@h:1/2", "redis at h:1/2"),
            ("rediss://:s3cret@h:1", "redis at h:1/0"),
            (
                "redis+sentinel://:s3cret@a,b:1/mymaster/3",
                "redis master 'mymaster' by the Sentinels at a:26379, b:1",
            ),
            ("rediss+sentinel://[::1]/m", "redis master 'm' by the Sentinels at [::1]:26379"),
        ] {
            let address = Address::parse(url, None).unwrap();
            assert_eq!(address.describe(), shown, "{url}");
            assert!(!format!("{address:?}").contains("s3cret"), "{url}");
        }
    }

    #[test]
    fn what_is_none_is_refused_without_showing_it() {
        for url in [
            "127.0.0.1:6379",
            "http://:s3cret@h",
            "redis://",
            "redis://:s3cret@h/x",
            "redis://:s3cret@h:99999",
            "redis+sentinel://:s3cret@h:1",
            "redis+sentinel://:s3cret@h:1/m/x",
        ] {
            let why = Address::parse(url, None).unwrap_err().to_string();
            assert!(!why.contains("s3cret"), "{url}: {why}");
        }
        assert!(Address::parse("redis://h", Some(Vec::new())).is_err());
        assert!(Address::parse("rediss://h", Some(b"nonsense".to_vec())).is_ok());
    }
}
