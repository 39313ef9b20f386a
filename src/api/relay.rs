//! Passes a request on to the process that supervises the fleet: once, within bounds.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use super::{request, wire};
use crate::{control::roles::Roles, roles::ids::Holder, store::StoreError};

/// Marks a request that was passed on: it is not passed on again.
const RELAYED: HeaderName = HeaderName::from_static("ringmaster-relayed");
/// Longer than the slowest command: start deadline, drain, stop grace and some retries.
const DEADLINE: Duration = Duration::from_secs(120);
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
}

impl Relay {
    /// With the token of the admin ports, where one is set.
    ///
    /// # Errors
    /// The client cannot be made, or the token cannot be sent in a header.
    pub fn new(token: Option<&str>) -> anyhow::Result<Self> {
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
        Ok(Self { http, token })
    }

    /// Has a request answered by whoever supervises.
    pub(super) async fn pass_on(&self, roles: &Roles, request: Request) -> Response {
        if request.headers().contains_key(&RELAYED) {
            return unavailable("this process does not supervise the fleet any more; try again");
        }
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
        let (head, body) = request.into_parts();
        // A command goes on when its client goes away, so it must not live in the client's task.
        let (relay, body) = (self.clone(), request::read(body).await);
        let body = match body {
            Ok(body) => body,
            Err(refused) => return refused.into_response(),
        };
        let passed = tokio::spawn(async move {
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
                let what = match *method == Method::GET {
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
