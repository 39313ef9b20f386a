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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use http::HeaderValue;
    use ringmaster_http1::{
        Limits, Method, Scanner,
        framing::Asked,
        request, response,
        write::{self, Connection, ToClient, ToReplica},
    };

    use super::*;
    use crate::{downstream::Clock, watch::Watches};

    /// The lines that a replica gets of a request with these, sorted, in small letters.
    fn sent_as(is_trusted: bool, forwarded: bool, lines: &str) -> Vec<String> {
        let peer = if forwarded { "[2001:db8::1]:4711" } else { "10.1.2.3:4711" };
        let peer = peer.parse().unwrap();
        let watch = Watches::default().open(peer, is_trusted, &Rc::new(Clock::start()));
        let inside = HeaderValue::from_static("inside");
        let upstream_host = forwarded.then_some(inside);
        let config = ProxyConfig { forwarded, upstream_host, ..ProxyConfig::default() };
        let caller = Caller {
            watch: &watch,
            config: &config,
            fallback_host: "10.0.0.1:80",
            request_id: &|| *b"0123456789abcdef",
            asks_for_body: false,
        };
        let bytes = format!("GET /a HTTP/1.1\r\n{lines}\r\n");
        let (mut heads, mut out) = (Heads::default(), Vec::new());
        let limits = Limits::default();
        let read =
            request::read(&mut heads.request, &mut Scanner::request(), bytes.as_bytes(), &limits);
        assert_eq!(read, Ok(request::Read::Head(bytes.len())));
        to_replica(&mut heads, bytes.as_bytes(), &caller).unwrap();
        let view = heads.request.over(bytes.as_bytes());
        write::request(view, &ToReplica::as_read(view), &mut out);
        let text = String::from_utf8(out).unwrap().to_ascii_lowercase();
        let mut lines: Vec<String> = text.trim_end().lines().skip(1).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_a_client_claims_about_itself_is_replaced() {
        let lines = sent_as(
            false,
            false,
            "Host: example\r\nVia: 1.0 fred\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\n\
             X-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Host: evil\r\nX-Forwarded-User: root\r\n\
             X_Forwarded_For: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\nX-Request-ID: 7\r\n\
             Connection: x-secret, x-real-ip\r\nX-Secret: 1\r\nTE: gzip, trailers\r\n",
        );
        let expected = [
            "connection: te",
            "host: example",
            "te: trailers",
            "via: 1.0 fred",
            "via: 1.1 ringmaster",
            "x-forwarded-for: 10.1.2.3",
            "x-forwarded-host: example",
            "x-forwarded-proto: http",
            "x-request-id: 7",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_a_trusted_proxy_says_of_its_client_is_added_to() {
        let lines = sent_as(
            true,
            false,
            "Host: example\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-For: 6.6.6.6,7.7.7.7\r\n\
             X-Forwarded-For: 8.8.8.8\r\nX-Forwarded-Host: outside\r\nX-Forwarded-Proto: https\r\n\
             X-Real-IP: 6.6.6.6\r\n",
        );
        let expected = [
            "forwarded: for=6.6.6.6",
            "host: example",
            "via: 1.1 ringmaster",
            "x-forwarded-for: 6.6.6.6,7.7.7.7, 8.8.8.8, 10.1.2.3",
            "x-forwarded-host: outside",
            "x-forwarded-proto: https",
            "x-real-ip: 6.6.6.6",
            "x-request-id: 0123456789abcdef",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn forwarded_is_said_anew_or_added_to() {
        let lines = "Host: shop:81\r\nForwarded: for=6.6.6.6\r\nForwarded: for=_b\r\n";
        let own = "for=\"[2001:db8::1]\";host=\"shop:81\";proto=http";
        let sent = sent_as(false, true, lines);
        assert!(sent.contains(&format!("forwarded: {own}")), "{sent:?}");
        assert!(sent.contains(&"host: inside".to_owned()), "{sent:?}");
        assert!(sent.contains(&"x-forwarded-host: shop:81".to_owned()), "{sent:?}");
        let sent = sent_as(true, true, lines);
        assert!(sent.contains(&format!("forwarded: for=6.6.6.6, for=_b, {own}")), "{sent:?}");
    }

    #[test]
    fn a_response_says_how_it_was_found_where_that_is_asked_for() {
        let bytes =
            b"HTTP/1.0 404 No\r\nX-Load-Balancer-Server: me\r\nX-Ringmaster-Attempts: 9\r\n\
            Ringmaster-Keep-Status: 1\r\nContent-Length: 0\r\n\r\n";
        for asks in [false, true] {
            let config = ProxyConfig {
                attempts_header: asks,
                server_headers: asks,
                ..ProxyConfig::default()
            };
            let told = Told { config: &config, replica: "server_1", attempts: 2, micros: 1_500 };
            let (mut heads, mut out) = (Heads::default(), Vec::new());
            let asked = Asked::by(Method::Get);
            let (limits, mut scanner) = (Limits::default(), Scanner::response());
            response::read(&mut heads.response, &mut scanner, bytes, &asked, &limits).unwrap();
            to_client(&mut heads, bytes, &told).unwrap();
            let view = heads.response.over(bytes);
            let to = ToClient::as_read(view, Version::Http11, Connection::Keep);
            write::response(view, &to, &mut out);
            let text = String::from_utf8(out).unwrap();
            let expected = if asks {
                "x-ringmaster-attempts: 2\r\nx-load-balancer-server: server_1\r\n\
                 x-load-balancer-response-time: 0.002\r\nvia: 1.0 ringmaster\r\n"
            } else {
                "X-Load-Balancer-Server: me\r\nX-Ringmaster-Attempts: 9\r\nvia: 1.0 ringmaster\r\n"
            };
            assert!(
                text.contains(&format!(" 404 No\r\n{expected}content-length: 0\r\n")),
                "{text}"
            );
        }
    }
}
