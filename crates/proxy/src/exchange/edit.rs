//! What a proxy changes in a head: what a client claims about itself is replaced, unless it is a proxy
//! that is trusted, and our own fields are added. What belongs to one connection has been dropped
//! where the head was read.

use ringmaster_http1::{EditError, FieldId, Head, Version};

use super::super::{buffers::Heads, config::ProxyConfig, watch::Watch};

/// Who sent a request, and what it lacks.
pub(super) struct Caller<'a> {
    pub(super) watch: &'a Watch,
    pub(super) config: &'a ProxyConfig,
    /// For a request without a host.
    pub(super) fallback_host: &'a str,
    /// For a request without an identity.
    pub(super) request_id: &'a dyn Fn() -> [u8; 16],
    /// Whether it is we who ask for its body.
    pub(super) asks_for_body: bool,
}

fn via(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"1.0 ringmaster",
        Version::Http11 => b"1.1 ringmaster",
    }
}

fn has(head: &Head, bytes: &[u8], id: FieldId) -> bool {
    head.over(bytes).fields().any(|field| field.id == id)
}

/// All lines of a field as one list, and where they are.
fn join(head: &Head, bytes: &[u8], id: FieldId, lines: &mut Vec<u16>, list: &mut Vec<u8>) {
    lines.clear();
    list.clear();
    for field in head.over(bytes).fields().filter(|field| field.id == id) {
        if !lines.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(field.value);
        lines.push(field.line);
    }
}

/// Prepares the head of a request for a replica.
pub(super) fn to_replica(
    heads: &mut Heads,
    bytes: &[u8],
    caller: &Caller<'_>,
) -> Result<(), EditError> {
    let is_trusted = caller.watch.is_trusted;
    let Heads { request: head, lines, text, .. } = heads;
    let drops_expect = caller.asks_for_body;
    head.retain(bytes, |field| {
        (is_trusted || !field.id.is_claim()) && !(drops_expect && field.id == FieldId::Expect)
    });
    let peer = caller.watch.forwarded_for.as_bytes();
    join(head, bytes, FieldId::XForwardedFor, lines, text);
    match lines.split_first() {
        Some((first, rest)) => {
            head.set(*first, &[text, b", ", peer])?;
            rest.iter().for_each(|line| head.drop_line(*line));
        }
        None => head.add(b"x-forwarded-for", &[peer])?,
    }
    if !has(head, bytes, FieldId::XForwardedProto) {
        head.add(b"x-forwarded-proto", &[b"http"])?;
    }
    text.clear();
    match head.over(bytes).host() {
        Some(host) => {
            text.extend_from_slice(host);
            if !has(head, bytes, FieldId::XForwardedHost) {
                head.add(b"x-forwarded-host", &[text])?;
            }
        }
        None => {
            text.extend_from_slice(caller.fallback_host.as_bytes());
            head.add(b"host", &[text])?;
        }
    }
    if caller.config.forwarded {
        forwarded(heads, bytes, peer)?;
    }
    let head = &mut heads.request;
    if let Some(host) = &caller.config.upstream_host {
        head.add(b"host", &[host.as_bytes()])?;
    }
    if head.known().request_id.is_none() {
        head.add(b"x-request-id", &[&(caller.request_id)()])?;
    }
    head.add(b"via", &[via(head.version())])
}

/// Says in `Forwarded` what is known of the client, behind what a trusted proxy has said (RFC 7239).
/// The host is in the text.
fn forwarded(heads: &mut Heads, bytes: &[u8], peer: &[u8]) -> Result<(), EditError> {
    let Heads { request: head, lines, text, .. } = heads;
    let host = std::mem::take(text);
    join(head, bytes, FieldId::Forwarded, lines, text);
    lines.iter().for_each(|line| head.drop_line(*line));
    if !text.is_empty() {
        text.extend_from_slice(b", ");
    }
    // Colons are no part of a token, and addresses with them stand in brackets.
    let (open, close): (&[u8], &[u8]) =
        if peer.contains(&b':') { (b"\"[", b"]\"") } else { (b"", b"") };
    let is_quotable = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let quoted: [&[u8]; 3] =
        if host.iter().all(is_quotable) { [b";host=\"", &host, b"\""] } else { [b"", b"", b""] };
    let [a, b, c] = quoted;
    head.add(b"forwarded", &[text, b"for=", open, peer, close, a, b, c, b";proto=http"])
}

/// What a response says of how it was found, where that is asked for.
pub(super) struct Told<'a> {
    pub(super) config: &'a ProxyConfig,
    pub(super) replica: &'a str,
    pub(super) attempts: usize,
    /// Until its first byte.
    pub(super) micros: u64,
}

/// The names of the fields that say it.
pub(super) const SERVER: &str = "x-load-balancer-server";
pub(super) const RESPONSE_TIME: &str = "x-load-balancer-response-time";

/// The seconds that a response says.
pub(super) fn seconds(micros: u64) -> String {
    format!("{:.3}", micros as f64 / 1e6)
}

/// Prepares the head of a response for the client.
pub(super) fn to_client(heads: &mut Heads, bytes: &[u8], told: &Told<'_>) -> Result<(), EditError> {
    let head = &mut heads.response;
    let is_404 = head.over(bytes).status() == 404;
    let (names_attempts, names_server) = (told.config.attempts_header, told.config.server_headers);
    if is_404 || names_attempts || names_server {
        // What the replica says in our fields is not its to say.
        head.retain(bytes, |field| match field.id {
            FieldId::RingmasterKeepStatus => !is_404,
            FieldId::XRingmasterAttempts => !names_attempts,
            FieldId::XLoadBalancerServer | FieldId::XLoadBalancerResponseTime => !names_server,
            _ => true,
        });
    }
    if names_attempts {
        head.add(b"x-ringmaster-attempts", &[told.attempts.to_string().as_bytes()])?;
    }
    if names_server {
        head.add(SERVER.as_bytes(), &[told.replica.as_bytes()])?;
        head.add(RESPONSE_TIME.as_bytes(), &[seconds(told.micros).as_bytes()])?;
    }
    head.add(b"via", &[via(head.version())])
}
