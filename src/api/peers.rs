//! The way to the admin ports of the fleet's other processes: what of the store is believed about
//! where they are, and what they are sent.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::http::{HeaderName, HeaderValue, Method, header};
use ringmaster_core::roles::ids::Holder;

use super::guard;
use crate::store::authenticator::is_authentic;

/// Marks a request of another process: it is not passed on again.
pub(super) const RELAYED: HeaderName = HeaderName::from_static("ringmaster-relayed");
/// Longer than the slowest command: start deadline, drain, stop grace and some retries.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// What the other processes are asked with. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Peers {
    http: reqwest::Client,
    /// What their admin ports ask for.
    token: Option<HeaderValue>,
    proof: Proof,
}

/// What a record of the store is checked with before anything is sent to the address in it.
#[derive(Clone)]
struct Proof {
    fleet: Arc<str>,
    key: Option<Arc<str>>,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof")
    }
}

/// Why nothing is sent to the address of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unproven {
    /// It is no HOST:PORT.
    NoPlace,
    /// Without the fleet's token anything can be written to the store.
    Stranger,
}

impl Peers {
    /// Of a fleet, with the token of the admin ports, where one is set.
    ///
    /// # Errors
    /// The client cannot be made, or the token cannot be sent in a header.
    pub fn new(fleet: &str, token: Option<&str>) -> anyhow::Result<Self> {
        let proof = Proof { fleet: fleet.into(), key: token.map(Into::into) };
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(DEADLINE)
            .build()?;
        let token = token.map(|token| HeaderValue::try_from(format!("Bearer {token}")));
        let mut token = token.transpose()?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
        }
        Ok(Self { http, token, proof })
    }

    /// Whether a record's address may be asked. Who may write to the store may not know the token, and
    /// must not be told it.
    pub(super) fn check(&self, holder: &Holder) -> Result<(), Unproven> {
        let Proof { fleet, key } = &self.proof;
        let is_meant = key.as_ref().is_none_or(|key| is_authentic(fleet, holder, key.as_bytes()));
        match (guard::is_place(&holder.admin), is_meant) {
            (false, _) => Err(Unproven::NoPlace),
            (true, false) => Err(Unproven::Stranger),
            (true, true) => Ok(()),
        }
    }

    /// Whether a record that passed [`Self::check`] can have been written by anyone, and names another
    /// machine: without a token nothing tells such an address from one that a stranger chose.
    pub(super) fn is_unproven_elsewhere(&self, holder: &Holder) -> bool {
        let host = holder.admin.rsplit_once(':').map_or("", |(host, _)| host);
        let address = holder.admin.parse::<SocketAddr>();
        let is_here = host.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.ip().to_canonical().is_loopback());
        self.proof.key.is_none() && !is_here
    }

    /// A request to a process whose record was checked. `path`: with its query.
    pub(super) fn request(
        &self,
        holder: &Holder,
        method: &Method,
        path: &str,
    ) -> reqwest::RequestBuilder {
        let asked = self.http.request(method.clone(), format!("http://{}{path}", holder.admin));
        let asked = asked.header(RELAYED, HeaderValue::from_static("1"));
        match &self.token {
            Some(token) => asked.header(header::AUTHORIZATION, token.clone()),
            None => asked,
        }
    }
}

/// The body of an answer of at most so many bytes.
///
/// # Errors
/// Why there is none, in words.
pub(super) async fn body(answer: &mut reqwest::Response, max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(why)? {
        if body.len() + part.len() > max {
            return Err(format!("its answer is longer than {max} bytes"));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// Why a request failed. The error's own text names the URL, and what lies behind it is the reason.
pub(super) fn why(error: reqwest::Error) -> String {
    let error = error.without_url();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    cause.unwrap_or_else(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use ringmaster_core::roles::ids::ProcessId;

    use super::*;
    use crate::store::authenticator::authenticator;

    fn holder(admin: &str) -> Holder {
        Holder { id: ProcessId("h".into()), admin: admin.into(), authenticator: None }
    }

    fn with(key: Option<&str>) -> Peers {
        Peers::new("f", key).unwrap()
    }

    #[test]
    fn nothing_is_sent_to_an_address_without_proof() {
        let proven = |fleet: &str, key: &str| {
            let proof = authenticator(fleet, &holder("h:1"), key.as_bytes());
            Holder { authenticator: Some(proof.into()), ..holder("h:1") }
        };
        assert_eq!(with(None).check(&holder("h:1")), Ok(()));
        assert_eq!(with(Some("key")).check(&proven("f", "key")), Ok(()));
        for other in [holder("h:1"), proven("g", "key"), proven("f", "other")] {
            assert_eq!(with(Some("key")).check(&other), Err(Unproven::Stranger));
        }
        let elsewhere = Holder { admin: "evil:80".into(), ..proven("f", "key") };
        assert!(with(Some("key")).check(&elsewhere).is_err());
        for odd in ["evil/x?", "u@evil:80", "evil", "evil:0", ""] {
            assert_eq!(with(None).check(&holder(odd)), Err(Unproven::NoPlace), "{odd}");
        }
    }

    #[test]
    fn without_a_token_only_this_machine_is_near() {
        for near in ["127.0.0.1:1", "[::1]:1", "localhost:1", "127.9.9.9:1", "[::ffff:127.0.0.1]:1"]
        {
            assert!(!with(None).is_unproven_elsewhere(&holder(near)), "{near}");
        }
        for far in ["10.0.0.1:1", "evil:1", "localhost.evil:1", "[fd00::1]:1", "0.0.0.0:1"] {
            assert!(with(None).is_unproven_elsewhere(&holder(far)), "{far}");
            assert!(!with(Some("key")).is_unproven_elsewhere(&holder(far)), "{far}");
        }
    }
}
