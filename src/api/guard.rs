//! The checks of token, host name and peer before the API routes, on both ports.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::Response,
};

pub use super::origin::{HostNames, is_host_name, is_place};
use super::{
    origin::{self, Strictness},
    wire,
};

/// Whether a peer may be a container on one of the balancer's networks; `None` if not known yet.
pub type MayBeReplica = Arc<dyn Fn(IpAddr) -> Option<bool> + Send + Sync>;

/// The checks of the admin port.
#[derive(Clone)]
pub struct AdminGuard {
    /// Required in `Authorization: Bearer`.
    pub token: Option<Arc<str>>,
    /// Also accepted, for the metrics only.
    pub metrics_token: Option<Arc<str>>,
    /// Host names that the port accepts.
    pub names: HostNames,
    /// Without a token, such peers are refused: a replica must not control its supervisor.
    pub may_be_replica: MayBeReplica,
}

/// The checks of the APIs on the traffic port.
#[derive(Clone)]
pub struct TrafficGuard {
    /// Required in `Authorization: Bearer`.
    pub token: Option<Arc<str>>,
    /// Whether the list of replicas is shown without the token.
    pub public_rep: bool,
    /// Host names that the port accepts from a page that changes something.
    pub names: HostNames,
}

/// The routes of the admin port behind their guard.
pub(super) fn admin(router: Router, guard: AdminGuard) -> Router {
    router.layer(middleware::from_fn_with_state(guard, check_admin))
}

/// The APIs on the traffic port, behind their guard.
pub fn traffic(router: Router, guard: TrafficGuard) -> Router {
    guarded(router.fallback(unknown), guard)
}

/// The same for a router with a fallback of its own.
pub(super) fn guarded(router: Router, guard: TrafficGuard) -> Router {
    router.layer(middleware::from_fn_with_state(guard, check_traffic))
}

/// 404 for a path that is below a prefix of a group, but is none of its paths.
pub(super) async fn unknown(request: Request) -> Response {
    let path: String = request.uri().path().chars().take(80).collect();
    wire::failure(StatusCode::NOT_FOUND, &format!("there is no '{path}' here"))
}

async fn check_admin(
    State(guard): State<AdminGuard>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let refused = match request.uri().path() {
        // Open to all: orchestrators request them by any host name, and they change nothing.
        "/livez" | "/readyz" => None,
        "/metrics" => guard.refuse_metrics(request.headers()),
        _ => guard.refuse(&request, peer.ip().to_canonical()),
    };
    match refused {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

impl AdminGuard {
    fn refuse_metrics(&self, headers: &HeaderMap) -> Option<Response> {
        let tokens = [&self.metrics_token, &self.token];
        let mut tokens = tokens.into_iter().flatten().peekable();
        let is_open = tokens.peek().is_none();
        (!is_open && !tokens.any(|token| has_token(headers, token))).then(unauthorized)
    }

    fn refuse(&self, request: &Request, peer: IpAddr) -> Option<Response> {
        let checked = origin::judge(head(request), &self.names, Strictness::Always, "admin_hosts");
        if let Err(stranger) = checked {
            return Some(forbidden(&stranger.to_string()));
        }
        if let Some(token) = &self.token {
            return (!has_token(request.headers(), token)).then(unauthorized);
        }
        if peer.is_loopback() {
            return None;
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match (self.may_be_replica)(peer) {
            Some(true) => Some(forbidden(
                "a container must not command the balancer that keeps it; set `admin_token` to allow more",
            )),
            // After a restart a replica's request can arrive before the first list, so it must not
            // change anything, nor read the logs of other replicas.
            None if !is_read || request.uri().path().starts_with("/api/logs/") => {
                Some(wire::failure(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "it is not known yet which addresses belong to replicas; try again",
                ))
            }
            Some(false) | None => None,
        }
    }
}

async fn check_traffic(
    State(guard): State<TrafficGuard>,
    request: Request,
    next: Next,
) -> Response {
    let checked =
        origin::judge(head(&request), &guard.names, Strictness::MarkedOnly, "control_hosts");
    if let Err(stranger) = checked {
        return forbidden(&stranger.to_string());
    }
    let is_public = guard.public_rep && request.uri().path() == "/rep";
    match &guard.token {
        Some(token) if !is_public && !has_token(request.headers(), token) => unauthorized(),
        _ => next.run(request).await,
    }
}

fn head(request: &Request) -> (&Method, &axum::http::Uri, &HeaderMap) {
    (request.method(), request.uri(), request.headers())
}

/// Whether a request has this token.
fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.to_str().ok()?.split_once(' '));
    // The scheme ignores case, the token does not.
    given.is_some_and(|(scheme, given)| {
        scheme.eq_ignore_ascii_case("bearer") && is_equal(given.as_bytes(), token.as_bytes())
    })
}

/// Compares in a time that does not depend on where they differ.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

fn forbidden(why: &str) -> Response {
    wire::failure(StatusCode::FORBIDDEN, why)
}

fn unauthorized() -> Response {
    let why = "this asks for a token: `Authorization: Bearer <token>`";
    let mut response = wire::failure(StatusCode::UNAUTHORIZED, why);
    let scheme = header::HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tower::ServiceExt;

    use super::*;

    fn open() -> AdminGuard {
        AdminGuard {
            token: None,
            metrics_token: None,
            names: HostNames::default(),
            may_be_replica: Arc::new(|peer| match peer {
                IpAddr::V4(address) if address.octets()[0] == 172 => Some(true),
                IpAddr::V4(address) if address.octets()[0] == 10 => None,
                _ => Some(false),
            }),
        }
    }

    /// The status of a router behind this guard that responds with 200 to everything.
    async fn status(
        guard: &AdminGuard,
        peer: &str,
        (method, path): (&str, &str),
        token: Option<&str>,
    ) -> u16 {
        let anything = Router::new().fallback(|| async {});
        let mut request = axum::http::Request::builder().method(method).uri(path);
        request = request.header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut request = request.body(Body::empty()).unwrap();
        let peer: IpAddr = peer.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer, 1)));
        admin(anything, guard.clone()).oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn without_a_token_containers_on_the_own_networks_are_refused() {
        let guard = open();
        for (peer, read, change) in [
            ("127.0.0.1", 200, 200),
            ("::ffff:127.0.0.1", 200, 200),
            ("192.168.0.7", 200, 200),
            ("172.18.0.2", 403, 403),
            ("::ffff:172.18.0.2", 403, 403),
            ("10.0.0.2", 200, 503),
        ] {
            assert_eq!(status(&guard, peer, ("GET", "/api/status"), None).await, read, "{peer}");
            assert_eq!(status(&guard, peer, ("POST", "/rm"), None).await, change, "{peer}");
            for path in ["/metrics", "/livez", "/readyz"] {
                assert_eq!(status(&guard, peer, ("GET", path), None).await, 200, "{peer} {path}");
            }
        }
    }

    #[tokio::test]
    async fn each_token_opens_its_paths() {
        let admin = Some(Arc::from("a"));
        let metrics = Some(Arc::from("m"));
        // The configured tokens; then the status without a token, with the admin's, with the metrics'.
        let cases = [
            (None, None, "/metrics", [200, 200, 200]),
            (admin.clone(), None, "/metrics", [401, 200, 401]),
            (None, metrics.clone(), "/metrics", [401, 401, 200]),
            (admin.clone(), metrics.clone(), "/metrics", [401, 200, 200]),
            (admin.clone(), metrics.clone(), "/api/status", [401, 200, 401]),
            (None, metrics.clone(), "/api/status", [200, 200, 200]),
            (admin.clone(), metrics.clone(), "/readyz", [200, 200, 200]),
            (admin, metrics, "/livez", [200, 200, 200]),
        ];
        for (token, metrics_token, path, expected) in cases {
            let guard = AdminGuard { token, metrics_token, ..open() };
            for (given, expected) in [None, Some("a"), Some("m")].into_iter().zip(expected) {
                let found = status(&guard, "127.0.0.1", ("GET", path), given).await;
                assert_eq!(found, expected, "{path} {given:?}");
            }
        }
    }
}
