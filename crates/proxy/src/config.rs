//! Every limit and deadline of the data plane, in one place.

use std::{net::SocketAddr, time::Duration};

use http::HeaderValue;
use ringmaster_core::balance::Policy;

use super::{
    access_log::AccessLogSettings, h2::UpstreamProtocol, key::KeySources, mounts::Mounts,
    queue::Concurrency, trusted::TrustedProxies,
};

/// What carries exchanges.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// hyper, on both sides.
    #[default]
    Hyper,
    /// Our own codec; what it does not serve yet is left to the other one.
    Own,
}

/// How the data plane behaves. The defaults are the product's.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyConfig {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Worker threads; 0 means one per core.
    pub workers: usize,
    /// Where the key of a request is looked for.
    pub keys: KeySources,
    /// The largest body that is read for a key in it.
    pub key_body_max: usize,
    /// Whose `X-Forwarded-*` headers are believed and added to, rather than replaced.
    pub trusted_proxies: TrustedProxies,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// How the replica of a request is picked.
    pub policy: Policy,
    /// Under the policy `bounded`: what a replica may have in flight at most, as a multiple of the
    /// average. At least 1.
    pub bounded_factor: f64,
    /// Paths that go to the control router.
    pub mounts: Mounts,
    /// Whether a replica's 404 becomes a 400 that names the path.
    pub not_found_as_400: bool,
    /// The access log; `None`: none.
    pub access_log: Option<AccessLogSettings>,
    /// How much a replica may have in flight; `None`: as much as comes.
    pub concurrency: Option<Concurrency>,
    /// Whether `Forwarded` (RFC 7239) is sent beside `X-Forwarded-*`.
    pub forwarded: bool,
    /// The `Host` that replicas see; `None`: the client's.
    pub upstream_host: Option<HeaderValue>,
    /// Whether clients are told in `X-Ringmaster-Attempts` how many replicas were asked.
    pub attempts_header: bool,
    /// Whether clients are told in `X-Load-Balancer-Server` whose answer it is, and in
    /// `X-Load-Balancer-Response-Time` how many seconds its first byte took.
    pub server_headers: bool,
    /// What clients are told, as plain text, when no replica is in service; `None`: JSON of ours.
    pub no_replica_text: Option<String>,
    /// What replicas are spoken to in.
    pub upstream_protocol: UpstreamProtocol,
    /// How long a connection to a replica may take.
    pub connect: Duration,
    /// How long an answer may keep us waiting, counted from the last byte of the request that moved.
    pub first_byte: Duration,
    /// How long a body may stand still, in either direction.
    pub body_idle: Duration,
    /// Bytes per second at which the body of a request comes at least while it is waited for, taken
    /// over five seconds of waiting; `None`: as slowly as `body_idle` allows.
    pub body_rate_min: Option<u64>,
    /// How long nothing may pass through a tunnel.
    pub upgrade_idle: Duration,
    /// Streams that a client may have open on one HTTP/2 connection.
    pub streams_max: u32,
    /// How long a whole request may take, its answer included; `None`: as long as it takes.
    pub request_timeout: Option<Duration>,
    /// How long an unused connection to a replica is kept. Shorter than what servers usually keep
    /// (5 s and more), so that it is us who close.
    pub upstream_idle: Duration,
    /// Unused connections kept per instance and worker.
    pub upstream_idle_max: usize,
    /// How long a client may take to send the head of a request.
    pub header_read: Duration,
    /// How long a client connection may rest between two requests.
    pub client_idle: Duration,
    /// How many replicas a request tries at most.
    pub attempts: usize,
    /// After how many error answers in a row (in one worker) an instance is suspected; 0: never.
    pub suspect_after_errors: u32,
    /// Retries that could do work twice, in percent of requests.
    pub retry_percent: u32,
    /// Retries that are always allowed, per second and process.
    pub retries_per_second: u32,
    /// Retries that may come at once after a quiet time, per worker.
    pub retry_burst: u32,
    /// Slow requests that are sent to a second replica as well, in percent of requests; `None`: none.
    pub hedge_percent: Option<u32>,
    /// Client connections of the whole process; what comes beyond is shed.
    pub connections_max: usize,
    /// Bytes of a request's target.
    pub uri_max: usize,
    /// Bytes of a request's body; `None`: as many as come.
    pub body_max: Option<u64>,
    /// Requests that a client may send on one connection; `None`: as many as it likes.
    pub requests_per_connection: Option<u64>,
    /// Header fields of a message.
    pub headers_max: usize,
    /// Bytes of a message's head.
    pub header_bytes_max: usize,
    /// Bytes that one side of one connection buffers.
    pub buffer_max: usize,
    /// The smallest body of an answer that passes inside the kernel (HTTP/1.1 on both sides, its length
    /// known); 0: none does.
    pub splice_min: u64,
    /// The largest body that is kept so that an idempotent request can be repeated with it.
    pub kept_body_max: usize,
    /// What carries exchanges; a switch for tests, as long as there are two.
    #[doc(hidden)]
    pub engine: Engine,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 5000)),
            workers: 0,
            keys: KeySources::default(),
            key_body_max: 64 * 1024,
            trusted_proxies: TrustedProxies::default(),
            proxy_protocol: false,
            policy: Policy::default(),
            bounded_factor: 1.25,
            mounts: Mounts::new(["/rep", "/add", "/rm"]),
            not_found_as_400: false,
            access_log: None,
            concurrency: None,
            forwarded: false,
            upstream_host: None,
            attempts_header: false,
            server_headers: false,
            no_replica_text: None,
            upstream_protocol: UpstreamProtocol::default(),
            connect: Duration::from_millis(250),
            first_byte: Duration::from_secs(30),
            body_idle: Duration::from_secs(300),
            body_rate_min: None,
            upgrade_idle: Duration::from_secs(3_600),
            request_timeout: None,
            streams_max: 128,
            upstream_idle: Duration::from_secs(4),
            upstream_idle_max: 1024,
            header_read: Duration::from_secs(10),
            client_idle: Duration::from_secs(75),
            attempts: 3,
            suspect_after_errors: 5,
            retry_percent: 20,
            retries_per_second: 3,
            retry_burst: 256,
            hedge_percent: None,
            connections_max: 10_000,
            uri_max: 8 * 1024,
            body_max: None,
            requests_per_connection: None,
            headers_max: 100,
            header_bytes_max: 32 * 1024,
            buffer_max: 64 * 1024,
            splice_min: 64 * 1024,
            kept_body_max: 64 * 1024,
            engine: Engine::Hyper,
        }
    }
}

impl ProxyConfig {
    /// Whether our own codec carries connections. What it does not serve at all is said in this one
    /// place; of a connection that it does serve, HTTP/2 and requests for another protocol go back to
    /// hyper's.
    pub(crate) fn uses_own_codec(&self) -> bool {
        let fits_heads = self.header_bytes_max <= usize::from(u16::MAX)
            && self.uri_max <= usize::from(u16::MAX)
            && self.headers_max <= usize::from(u8::MAX);
        self.engine == Engine::Own
            && fits_heads
            && self.upstream_protocol == UpstreamProtocol::H1
            && self.hedge_percent.is_none()
            && self.concurrency.is_none()
    }

    /// The number of workers that this configuration means.
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_own_codec_does_not_serve_is_left_to_the_other() {
        let own = || ProxyConfig { engine: Engine::Own, ..ProxyConfig::default() };
        assert!(own().uses_own_codec() && !ProxyConfig::default().uses_own_codec());
        let limit = Concurrency { in_flight_max: 1, waiting_max: 1, deadline: Duration::ZERO };
        for other in [
            ProxyConfig { hedge_percent: Some(1), ..own() },
            ProxyConfig { concurrency: Some(limit), ..own() },
            ProxyConfig { upstream_protocol: UpstreamProtocol::H2c, ..own() },
            ProxyConfig { upstream_protocol: UpstreamProtocol::Auto, ..own() },
            ProxyConfig { header_bytes_max: 65_536, ..own() },
            ProxyConfig { uri_max: 65_536, ..own() },
            ProxyConfig { headers_max: 256, ..own() },
        ] {
            assert!(!other.uses_own_codec(), "{other:?}");
        }
    }
}
