//! Passes a request on to the process that supervises the fleet: once, within bounds.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use ringmaster_core::roles::ids::Holder;
use tokio::sync::Semaphore;

use super::{guard, request, wire};
use crate::{
    control::roles::Roles,
    store::{StoreError, authenticator::is_authentic},
};

/// Marks a request that was passed on: it is not passed on again.
const RELAYED: HeaderName = HeaderName::from_static("ringmaster-relayed");
/// Longer than the slowest command: start deadline, drain, stop grace and some retries.
const DEADLINE: Duration = Duration::from_secs(120);
/// What only asks is answered at once, or after the few seconds that the engine takes for a log.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// Requests that are passed on at once.
const RELAYED_MAX: usize = 64;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// The largest answer; more than the status of the largest fleet.
const ANSWER_MAX: usize = 16 << 20;
/// What of the request the supervisor reads, and what of its answer the client.
const ASKED: [HeaderName; 2] = [header::CONTENT_TYPE, header::ACCEPT];
const ANSWERED: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::RETRY_AFTER, header::ALLOW, header::WWW_AUTHENTICATE];

/// The way to whoever supervises.
#[derive(Clone, Debug)]
pub struct Relay {
    http: reqwest::Client,
    /// What the supervisor asks for.
    token: Option<HeaderValue>,
    proof: Proof,
    turns: Arc<Semaphore>,
}

/// What the record of the lease is checked with before anything is sent to the address in it.
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

impl Proof {
    /// Who may write to the store may not know the token, and must not be told it.
    fn check(&self, holder: &Holder) -> Result<(), &'static str> {
        let is_meant =
            self.key.as_ref().is_none_or(|key| is_authentic(&self.fleet, holder, key.as_bytes()));
        match (guard::is_place(&holder.admin), is_meant) {
            (false, _) => {
                Err("the store names no address of the supervisor; nothing is sent there")
            }
            (true, false) => Err(
                "what the store says of the supervisor was not written with the `admin_token` of \
                 this process; nothing is sent there",
            ),
            (true, true) => Ok(()),
        }
    }
}

impl Relay {
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
        Ok(Self { http, token, proof, turns: Arc::new(Semaphore::new(RELAYED_MAX)) })
    }

    /// Has a request answered by whoever supervises.
    pub(super) async fn pass_on(&self, roles: &Roles, request: Request) -> Response {
        if request.headers().contains_key(&RELAYED) {
            return unavailable("this process does not supervise the fleet any more; try again");
        }
        let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else {
            return unavailable("too many requests wait for the supervisor already; try again");
        };
        let holder = match roles.store().holder().await {
            Ok(Some(holder)) if holder.id == roles.me().id => {
                return unavailable("this process begins to supervise the fleet; try again");
            }
            Ok(Some(holder)) => holder,
            Ok(None) => return unavailable("no process supervises the fleet now; try again"),
            Err(StoreError::Away(why)) => {
                let why = format!(
                    "it is not known who supervises the fleet, since the store does not answer: {why}"
                );
                return unavailable(&why);
            }
            Err(error) => return unavailable(&error.to_string()),
        };
        if let Err(why) = self.proof.check(&holder) {
            return unavailable(why);
        }
        let (head, body) = request.into_parts();
        let (relay, body) = (self.clone(), request::read(body).await);
        let body = match body {
            Ok(body) => body,
            Err(refused) => return refused.into_response(),
        };
        if head.method.is_safe() {
            return self.ask(&holder, &head.method, &head.uri, &head.headers, body).await;
        }
        // A command goes on when its client goes away, so it must not live in the client's task.
        let passed = tokio::spawn(async move {
            let _turn = turn;
            relay.ask(&holder, &head.method, &head.uri, &head.headers, body).await
        });
        passed.await.unwrap_or_else(|_| unavailable("this process ends"))
    }

    async fn ask(
        &self,
        holder: &Holder,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Response {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut asked = self.http.request(method.clone(), format!("http://{}{path}", holder.admin));
        if method.is_safe() {
            asked = asked.timeout(READ_DEADLINE);
        }
        for name in ASKED {
            if let Some(value) = headers.get(&name) {
                asked = asked.header(name, value);
            }
        }
        if let Some(token) = &self.token {
            asked = asked.header(header::AUTHORIZATION, token.clone());
        }
        asked = asked.header(RELAYED, HeaderValue::from_static("1")).body(body);
        match read(asked).await {
            Ok(answer) => answer,
            Err(why) => {
                let admin = &holder.admin;
                let what = match method.is_safe() {
                    true => "",
                    false => {
                        "; whether it was carried out is not known, so look before you try again"
                    }
                };
                unavailable(&format!("the supervisor at {admin} does not answer: {why}{what}"))
            }
        }
    }
}

async fn read(asked: reqwest::RequestBuilder) -> Result<Response, String> {
    // Its own text names the URL, and what lies behind it is the reason.
    let why = |error: reqwest::Error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        cause.unwrap_or_else(|| error.to_string())
    };
    let mut answer = asked.send().await.map_err(why)?;
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(why)? {
        if body.len() + part.len() > ANSWER_MAX {
            return Err(format!("its answer is longer than {ANSWER_MAX} bytes"));
        }
        body.extend_from_slice(&part);
    }
    let mut response = (answer.status(), Body::from(body)).into_response();
    for name in ANSWERED {
        if let Some(value) = answer.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}

fn unavailable(why: &str) -> Response {
    wire::failure(StatusCode::SERVICE_UNAVAILABLE, why)
}

#[cfg(test)]
mod tests {
    use ringmaster_core::roles::ids::ProcessId;

    use super::*;
    use crate::store::authenticator::authenticator;

    #[test]
    fn nothing_is_sent_to_an_address_without_proof() {
        let holder = |admin: &str| Holder {
            id: ProcessId("h".into()),
            admin: admin.into(),
            authenticator: None,
        };
        let proven = |fleet: &str, key: &str| {
            let proof = authenticator(fleet, &holder("h:1"), key.as_bytes());
            Holder { authenticator: Some(proof.into()), ..holder("h:1") }
        };
        let with = |key: Option<&str>| Relay::new("f", key).unwrap().proof;
        assert_eq!(with(None).check(&holder("h:1")), Ok(()));
        assert_eq!(with(Some("key")).check(&proven("f", "key")), Ok(()));
        for other in [holder("h:1"), proven("g", "key"), proven("f", "other")] {
            let why = with(Some("key")).check(&other).unwrap_err();
            assert!(why.contains("was not written with"), "{why}");
        }
        let elsewhere = Holder { admin: "evil:80".into(), ..proven("f", "key") };
        assert!(with(Some("key")).check(&elsewhere).is_err());
        for odd in ["evil/x?", "u@evil:80", "evil", "evil:0", ""] {
            assert!(with(None).check(&holder(odd)).is_err(), "{odd}");
        }
    }
}
