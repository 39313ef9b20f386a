//! Passes a request on to the process that supervises the fleet: once, within bounds.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use ringmaster_core::roles::ids::Holder;
use tokio::sync::Semaphore;

use super::{
    peers::{self, Peers, RELAYED, Unproven},
    request, wire,
};
use crate::{control::roles::Roles, store::StoreError};

/// What only asks is answered at once, or after the few seconds that the engine takes for a log.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// Requests that are passed on at once.
const RELAYED_MAX: usize = 64;
/// The largest answer; more than the status of the largest fleet.
const ANSWER_MAX: usize = 16 << 20;
/// What of the request the supervisor reads, and what of its answer the client.
const ASKED: [HeaderName; 2] = [header::CONTENT_TYPE, header::ACCEPT];
const ANSWERED: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::RETRY_AFTER, header::ALLOW, header::WWW_AUTHENTICATE];

/// The way to the supervising process.
#[derive(Clone, Debug)]
pub struct Relay {
    peers: Peers,
    turns: Arc<Semaphore>,
}

impl Relay {
    /// By the way to the other processes.
    pub fn new(peers: Peers) -> Self {
        Self { peers, turns: Arc::new(Semaphore::new(RELAYED_MAX)) }
    }

    /// Has a request answered by the supervising process.
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
        if let Err(unproven) = self.peers.check(&holder) {
            return unavailable(match unproven {
                Unproven::NoPlace => {
                    "the store names no address of the supervisor; nothing is sent there"
                }
                Unproven::Stranger => {
                    "what the store says of the supervisor was not written with the `admin_token` of \
                     this process; nothing is sent there"
                }
            });
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
        let mut asked = self.peers.request(holder, method, path);
        if method.is_safe() {
            asked = asked.timeout(READ_DEADLINE);
        }
        for name in ASKED {
            if let Some(value) = headers.get(&name) {
                asked = asked.header(name, value);
            }
        }
        asked = asked.body(body);
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
    let mut answer = asked.send().await.map_err(peers::why)?;
    let body = peers::body(&mut answer, ANSWER_MAX).await?;
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
