//! The settings of the data plane.

use std::{net::Ipv4Addr, time::Duration};

use http::{HeaderValue, uri::Authority};
use ringmaster_core::{balance::Policy, fleet::limits::Limits};
use ringmaster_proxy::{
    AccessLogSettings, Concurrency, FormatError, KeySources, Mounts, ProtocolError, ProxyConfig,
    TrustedProxies, UpstreamProtocol,
};

use super::{Checked, Options, address, count, time, wrong};

pub(super) fn proxy_of(options: &Options, limits: &Limits, mounts: Mounts) -> Checked<ProxyConfig> {
    let proxy = ProxyConfig::default();
    let keys = match options.key.as_deref() {
        None => KeySources::default(),
        Some(text) => {
            text.parse::<KeySources>().or_else(|error| wrong("key", error.to_string()))?
        }
    };
    let unspecified = Ipv4Addr::UNSPECIFIED.into();
    Ok(ProxyConfig {
        listen: address("listen", options.listen.as_deref(), unspecified, 5000)?,
        workers: options.workers.unwrap_or(0).min(1_024),
        keys,
        key_body_max: key_body_max_of(options, proxy.key_body_max)?,
        trusted_proxies: trusted_proxies_of(options)?,
        proxy_protocol: options.proxy_protocol.unwrap_or(proxy.proxy_protocol),
        policy: policy_of(options)?,
        bounded_factor: bounded_factor_of(options, proxy.bounded_factor)?,
        mounts,
        not_found_as_400: options.not_found_as_400.unwrap_or(false),
        access_log: access_log_of(options)?,
        concurrency: concurrency_of(options)?,
        forwarded: options.forwarded.unwrap_or(proxy.forwarded),
        upstream_host: upstream_host_of(options)?,
        attempts_header: options.attempts_header.unwrap_or(proxy.attempts_header),
        server_headers: options.server_headers.unwrap_or(proxy.server_headers),
        no_replica_text: no_replica_text_of(options)?,
        upstream_protocol: upstream_protocol_of(options)?,
        suspect_after_errors: options.suspect_after_errors.unwrap_or(proxy.suspect_after_errors),
        connect: time("connect", options.connect.as_ref(), proxy.connect)?,
        first_byte: time("first_byte", options.first_byte.as_ref(), proxy.first_byte)?,
        upstream_idle: time("upstream_idle", options.upstream_idle.as_ref(), proxy.upstream_idle)?,
        attempts: count("attempts", options.attempts, proxy.attempts)?
            .min(limits.replicas_max.max(1)),
        hedge_percent: hedge_percent_of(options)?,
        connections_max: count("connections_max", options.connections_max, proxy.connections_max)?,
        ..limits_of(options, proxy)?
    })
}

/// The limits on clients: sizes, counts and timeouts.
fn limits_of(options: &Options, proxy: ProxyConfig) -> Checked<ProxyConfig> {
    let off = Duration::MAX;
    let request_timeout = time("request_timeout", options.request_timeout.as_ref(), off)?;
    Ok(ProxyConfig {
        header_read: time("header_read", options.header_read.as_ref(), proxy.header_read)?,
        client_idle: time("client_idle", options.client_idle.as_ref(), proxy.client_idle)?,
        body_idle: time("body_idle", options.body_idle.as_ref(), proxy.body_idle)?,
        body_rate_min: match options.body_rate_min {
            Some(0) => return wrong("body_rate_min", "must be at least 1 byte per second"),
            other => other.or(proxy.body_rate_min),
        },
        upgrade_idle: time("upgrade_idle", options.upgrade_idle.as_ref(), proxy.upgrade_idle)?,
        request_timeout: Some(request_timeout).filter(|timeout| *timeout != off),
        uri_max: count("uri_max", options.uri_max, proxy.uri_max)?,
        header_bytes_max: header_bytes_max_of(options, proxy.header_bytes_max)?,
        headers_max: headers_max_of(options, proxy.headers_max)?,
        body_max: options.body_max.or(proxy.body_max),
        splice_min: options.splice_min.unwrap_or(proxy.splice_min),
        requests_per_connection: match options.requests_per_connection {
            Some(0) => return wrong("requests_per_connection", "must be at least 1"),
            other => other.or(proxy.requests_per_connection),
        },
        streams_max: count("streams_max", options.streams_max, proxy.streams_max)?,
        ..proxy
    })
}

/// The smallest limit: the size of the parser's buffer.
const HEADER_BYTES_LEAST: usize = 8 << 10;
/// The largest limit: each connection may use this much memory.
const HEADER_BYTES_MOST: usize = 1 << 20;

fn header_bytes_max_of(options: &Options, default: usize) -> Checked<usize> {
    match options.header_bytes_max {
        Some(bytes) if !(HEADER_BYTES_LEAST..=HEADER_BYTES_MOST).contains(&bytes) => wrong(
            "header_bytes_max",
            format!("must be {HEADER_BYTES_LEAST} to {HEADER_BYTES_MOST} bytes"),
        ),
        other => Ok(other.unwrap_or(default)),
    }
}

/// The largest limit of header fields: more than fit in the largest head.
const HEADERS_MOST: usize = 10_000;

fn headers_max_of(options: &Options, default: usize) -> Checked<usize> {
    match options.headers_max {
        Some(fields) if fields > HEADERS_MOST => {
            wrong("headers_max", format!("must be {HEADERS_MOST} at most"))
        }
        other => count("headers_max", other, default),
    }
}

/// Each open request may use this much memory, so the limit is far below the size of uploaded files.
const KEY_BODY_MOST: usize = 16 << 20;

fn key_body_max_of(options: &Options, default: usize) -> Checked<usize> {
    match options.key_body_max {
        Some(most) if most > KEY_BODY_MOST => {
            wrong("key_body_max", format!("must be {KEY_BODY_MOST} bytes at most"))
        }
        other => count("key_body_max", other, default),
    }
}

fn trusted_proxies_of(options: &Options) -> Checked<TrustedProxies> {
    let texts = options.trusted_proxies.iter().flatten().map(|text| text.trim());
    let parsed = TrustedProxies::parse(texts.filter(|text| !text.is_empty()));
    parsed.or_else(|error| wrong("trusted_proxies", error.to_string()))
}

fn policy_of(options: &Options) -> Checked<Policy> {
    let Some(text) = options.policy.as_deref() else { return Ok(Policy::default()) };
    text.parse::<Policy>().or_else(|error| wrong("policy", error.to_string()))
}

fn access_log_of(options: &Options) -> Checked<Option<AccessLogSettings>> {
    let sample = options.access_log_sample.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&sample) {
        return wrong("access_log_sample", format!("'{sample}' must be a number from 0 to 1"));
    }
    match options.access_log.as_deref() {
        None | Some("off") => Ok(None),
        Some(name) => {
            let format = name.parse();
            let format =
                format.or_else(|error: FormatError| wrong("access_log", error.to_string()))?;
            Ok(Some(AccessLogSettings { format, file: options.access_log_file.clone(), sample }))
        }
    }
}

fn concurrency_of(options: &Options) -> Checked<Option<Concurrency>> {
    let deadline = time("queue_timeout", options.queue_timeout.as_ref(), Duration::from_secs(1))?;
    let waiting_max = options.queue_max.unwrap_or(128);
    match options.replica_in_flight_max {
        Some(0) => wrong("replica_in_flight_max", "must be at least 1"),
        None if options.queue_max.is_some() || options.queue_timeout.is_some() => {
            let key = if options.queue_max.is_some() { "queue_max" } else { "queue_timeout" };
            wrong(key, "nobody waits without `replica_in_flight_max`")
        }
        limit => {
            Ok(limit.map(|in_flight_max| Concurrency { in_flight_max, waiting_max, deadline }))
        }
    }
}

/// Default percentage of requests that are hedged.
const HEDGE_PERCENT: u32 = 2;

fn hedge_percent_of(options: &Options) -> Checked<Option<u32>> {
    let percent = options.hedge_percent.unwrap_or(HEDGE_PERCENT);
    if !(1..=100).contains(&percent) {
        return wrong("hedge_percent", "must be 1 to 100; `hedge` says whether there are any");
    }
    Ok(options.hedge.unwrap_or(false).then_some(percent))
}

fn upstream_host_of(options: &Options) -> Checked<Option<HeaderValue>> {
    let Some(text) = options.upstream_host.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match (Authority::try_from(text), HeaderValue::try_from(text)) {
        (Ok(authority), Ok(host)) if !authority.as_str().contains('@') => Ok(Some(host)),
        _ => wrong(
            "upstream_host",
            format!("'{text}' is not a host like example.org or 10.0.0.1:80"),
        ),
    }
}

fn upstream_protocol_of(options: &Options) -> Checked<UpstreamProtocol> {
    let Some(text) = options.upstream_protocol.as_deref() else {
        return Ok(UpstreamProtocol::default());
    };
    text.parse().or_else(|error: ProtocolError| wrong("upstream_protocol", error.to_string()))
}

fn bounded_factor_of(options: &Options, default: f64) -> Checked<f64> {
    match options.bounded_factor {
        Some(factor) if !factor.is_finite() || factor < 1.0 => {
            wrong("bounded_factor", format!("'{factor}' must be a number of at least 1"))
        }
        other => Ok(other.unwrap_or(default)),
    }
}

/// The longest text of a 503, in bytes.
const NO_REPLICA_TEXT_MOST: usize = 1_024;

fn no_replica_text_of(options: &Options) -> Checked<Option<String>> {
    let text = options.no_replica_text.clone().filter(|text| !text.is_empty());
    if text.as_ref().is_some_and(|text| text.len() > NO_REPLICA_TEXT_MOST) {
        let why = format!("must be {NO_REPLICA_TEXT_MOST} bytes at most");
        return wrong("no_replica_text", why);
    }
    Ok(text)
}
