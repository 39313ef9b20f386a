//! What a proxy changes in a head: framing that two parsers could read differently is refused, what
//! belongs to one connection stays on it, and what a client claims about itself is replaced, unless it
//! is a proxy that is trusted.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{
        AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHORIZATION, RANGE, SET_COOKIE, TE,
        TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
    },
    uri::PathAndQuery,
};

use super::{claims::is_claim, errors::Failure, trusted::FORWARDED_FOR};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const ATTEMPTS: HeaderName = HeaderName::from_static("x-ringmaster-attempts");
/// The replica that an answer is from, and the seconds to its first byte.
pub(crate) const SERVER: HeaderName = HeaderName::from_static("x-load-balancer-server");
pub(crate) const RESPONSE_TIME: HeaderName =
    HeaderName::from_static("x-load-balancer-response-time");
/// Says that a 404 is the application's own.
pub(crate) const KEEP_STATUS: HeaderName = HeaderName::from_static("ringmaster-keep-status");

/// Refuses a request that can be read in two ways, or that no proxy of our kind serves.
pub(crate) fn check(
    method: &Method,
    uri: &Uri,
    version: Version,
    headers: &HeaderMap,
) -> Result<(), Failure> {
    if *method == Method::CONNECT {
        return Err(Failure::Tunnel);
    }
    if uri.scheme().is_none() && uri.authority().is_some() {
        return Err(Failure::Ambiguous("The request target has no path"));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        return Err(Failure::Ambiguous("The request has more than one Host header"));
    }
    match (version, host, uri.authority()) {
        (Version::HTTP_2, None, None) | (Version::HTTP_11, None, _) => {
            return Err(Failure::Ambiguous("The request has no Host header"));
        }
        // RFC 9113, 8.3.1: both must say the same.
        (Version::HTTP_2, Some(host), Some(authority))
            if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            return Err(Failure::Ambiguous("The Host header contradicts the authority"));
        }
        _ => {}
    }
    if !is_plainly_chunked(headers) {
        return Err(Failure::Ambiguous("The Transfer-Encoding is not supported"));
    }
    Ok(())
}

/// Reads back the head of a request that we have written ourselves.
pub(crate) fn parse_request<B>(written: &[u8], body: B) -> Option<Request<B>> {
    let end = written.windows(4).position(|four| four == b"\r\n\r\n")?;
    let mut lines = written[..end].split(|byte| *byte == b'\n');
    let mut first = lines.next()?.trim_ascii().split(|byte| *byte == b' ');
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(first.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(first.next()?).ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

/// Whether there is no transfer coding, or `chunked` once and nothing else: any other coding is
/// one that we would have to undo, since the header does not go on.
pub(crate) fn is_plainly_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match codings.next() {
        None => true,
        Some(coding) => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none()
        }
    }
}

/// Removes from trailers what nobody may say behind a body: framing, routing, who somebody is, and how
/// the body is to be read (RFC 9110, 6.5.1).
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    const FORBIDDEN: [HeaderName; 18] = [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        EXPECT,
        HOST,
        PROXY_AUTHORIZATION,
        RANGE,
        SET_COOKIE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        VIA,
    ];
    for name in &FORBIDDEN {
        trailers.remove(name);
    }
    for name in [
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &REQUEST_ID,
        &KEEP_STATUS,
        &ATTEMPTS,
        &SERVER,
        &RESPONSE_TIME,
    ] {
        trailers.remove(name);
    }
    remove_claims(trailers);
}

/// What replaces the client's own claims.
pub(crate) struct Client<'a> {
    pub(crate) forwarded_for: &'a HeaderValue,
    /// Whether its claims are added to instead.
    pub(crate) is_trusted: bool,
    pub(crate) version: Version,
    /// For a request without a host.
    pub(crate) fallback_host: &'a str,
    /// Instead of the client's.
    pub(crate) upstream_host: Option<&'a HeaderValue>,
    /// Whether `Forwarded` is sent, too.
    pub(crate) forwarded: bool,
}

/// Prepares the head of a request for a replica. The target becomes a path.
pub(crate) fn to_upstream(uri: &mut Uri, headers: &mut HeaderMap, client: &Client<'_>) {
    if let Some(authority) = uri.authority() {
        // The target of an absolute form beats the Host header (RFC 9112, 3.2.2).
        let host = authority.as_str();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if let Ok(host) = HeaderValue::try_from(host) {
            headers.insert(HOST, host);
        }
        // Before a fragment an empty path is kept as one, and would leave no target at all.
        let path = uri.path_and_query().filter(|path| path.as_str() != "/").cloned();
        *uri = path.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
    }
    if client.version == Version::HTTP_2 {
        join_cookies(headers);
    }
    let wants_trailers = headers.get_all(TE).iter().any(|value| names(value, "trailers"));
    let earlier = (client.forwarded && client.is_trusted).then(|| joined(headers, &FORWARDED));
    strip(headers, Sender::Client { is_trusted: client.is_trusted });
    if client.is_trusted && headers.contains_key(FORWARDED_FOR) {
        append_forwarded_for(headers, client.forwarded_for);
    } else {
        headers.insert(FORWARDED_FOR, client.forwarded_for.clone());
    }
    if !client.is_trusted || !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    match headers.get(HOST).cloned() {
        Some(host) => {
            if !client.is_trusted || !headers.contains_key(FORWARDED_HOST) {
                headers.insert(FORWARDED_HOST, host);
            }
        }
        None => {
            if let Ok(host) = HeaderValue::try_from(client.fallback_host) {
                headers.insert(HOST, host);
            }
        }
    }
    if client.forwarded {
        forwarded(headers, client, earlier.flatten());
    }
    if let Some(host) = client.upstream_host {
        headers.insert(HOST, host.clone());
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    headers.append(VIA, via(client.version));
}

/// HTTP/2 may cut the cookie into pieces (RFC 9113, 8.2.3); others expect one line.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let pieces = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    // An empty one would leave a space at an end of the value, where no value has one.
    let pieces: Vec<&[u8]> = pieces.filter(|piece| !piece.is_empty()).collect();
    // Made of valid values, so it is one.
    if let Ok(cookie) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

/// All lines of a field as one list.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}

/// Says in `Forwarded` what is known of the client, behind what a trusted proxy has said (RFC 7239).
fn forwarded(headers: &mut HeaderMap, client: &Client<'_>, earlier: Option<Vec<u8>>) {
    let mut list = earlier.unwrap_or_default();
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    let peer = client.forwarded_for.as_bytes();
    // Colons are no part of a token, and addresses with them stand in brackets.
    let (open, close): (&[u8], &[u8]) =
        if peer.contains(&b':') { (b"\"[", b"]\"") } else { (b"", b"") };
    list.extend([b"for=", open, peer, close].concat());
    let is_quotable = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    if let Some(host) = host.filter(|host| host.iter().all(is_quotable)) {
        list.extend([b";host=\"", host, b"\""].concat());
    }
    list.extend_from_slice(b";proto=http");
    // Made of valid values, so it is one.
    if let Ok(list) = HeaderValue::from_bytes(&list) {
        headers.insert(FORWARDED, list);
    }
}

/// Adds the peer to the list, which becomes one line if it was several.
fn append_forwarded_for(headers: &mut HeaderMap, peer: &HeaderValue) {
    let mut list = Vec::new();
    for line in headers.get_all(FORWARDED_FOR) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(peer.as_bytes());
    // Made of valid values, so it is one.
    let list = HeaderValue::from_bytes(&list).unwrap_or_else(|_| peer.clone());
    headers.insert(FORWARDED_FOR, list);
}

/// Whether an answer in HTTP/1.1 says twice how long its body is, so that its readers may disagree
/// (RFC 9112, 6.3).
pub(crate) fn has_two_lengths(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH)
}

/// Prepares the head of an answer for the client. `sized` says that the body's length is known from
/// the message itself, so that the header is not needed and cannot contradict it.
pub(crate) fn to_client(headers: &mut HeaderMap, version: Version, sized: bool) {
    strip(headers, Sender::Replica);
    if sized || !has_one_length(headers) {
        headers.remove(CONTENT_LENGTH);
    }
    headers.append(VIA, via(version));
}

/// Whether there is no length, or one that all readers understand alike.
fn has_one_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return true };
    let is_number = length.as_bytes().iter().all(u8::is_ascii_digit) && !length.is_empty();
    is_number && lengths.next().is_none()
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0 ringmaster",
        Version::HTTP_2 => "2.0 ringmaster",
        _ => "1.1 ringmaster",
    })
}

/// Who sent a head.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    Client { is_trusted: bool },
    Replica,
}

/// Removes what belongs to one connection, and of a request what only we may say. One walk over the
/// names finds whether there is anything to remove, for mostly there is little.
fn strip(headers: &mut HeaderMap, sender: Sender) {
    let request = sender != Sender::Replica;
    let claims = sender == Sender::Client { is_trusted: false };
    let mut found = 0_u32;
    for name in headers.keys() {
        match *name {
            CONNECTION => found |= 1,
            TRANSFER_ENCODING => found |= 1 << 1,
            TE => found |= 1 << 2,
            UPGRADE => found |= 1 << 3,
            EXPECT if request => found |= 1 << 4,
            _ if *name == KEEP_ALIVE => found |= 1 << 5,
            _ if *name == PROXY_CONNECTION => found |= 1 << 6,
            _ if claims && is_claim(name.as_str()) => found |= 1 << 7,
            _ => {}
        }
    }
    if found == 0 {
        return;
    }
    if found & 1 != 0 {
        remove_named(headers);
    }
    const PLAIN: [HeaderName; 6] =
        [TRANSFER_ENCODING, TE, UPGRADE, EXPECT, KEEP_ALIVE, PROXY_CONNECTION];
    for (bit, name) in PLAIN.iter().enumerate() {
        if found & (1 << (bit + 1)) != 0 {
            headers.remove(name);
        }
    }
    if found & 1 << 7 != 0 {
        remove_claims(headers);
    }
}

/// Removes `Connection` and the fields it names; never those that framing and routing stand on, and
/// not what a trusted proxy says of the client, which its client could else make it unsay.
fn remove_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH))
        .filter(|name| !is_claim(name.as_str()))
        .collect();
    headers.remove(CONNECTION);
    for name in named {
        headers.remove(name);
    }
}

fn remove_claims(headers: &mut HeaderMap) {
    let claimed: Vec<HeaderName> =
        headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
}

/// Whether the connection that a head came on serves another message after this one, as far as the
/// head tells.
pub(crate) fn goes_on(version: Version, headers: &HeaderMap) -> bool {
    let closes = || headers.get_all(CONNECTION).iter().any(|value| names(value, "close"));
    version == Version::HTTP_11 && !closes()
}

/// Whether a list names a token, whatever its parameters.
pub(crate) fn names(value: &HeaderValue, wanted: &str) -> bool {
    let tokens = value.as_bytes().split(|byte| *byte == b',');
    tokens.into_iter().any(|token| {
        let name = token.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn sorted(headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<String> = headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    fn upstream(uri: &str, lines: &[(&'static str, &'static str)]) -> (String, Vec<String>) {
        sent_by(false, uri, lines)
    }

    fn sent_by(
        is_trusted: bool,
        uri: &str,
        lines: &[(&'static str, &'static str)],
    ) -> (String, Vec<String>) {
        sent_as(is_trusted, false, uri, lines)
    }

    fn sent_as(
        is_trusted: bool,
        forwarded: bool,
        uri: &str,
        lines: &[(&'static str, &'static str)],
    ) -> (String, Vec<String>) {
        let mut uri: Uri = uri.parse().unwrap();
        let mut headers = map(lines);
        let inside = HeaderValue::from_static("inside");
        let client = Client {
            forwarded_for: &HeaderValue::from_static(if forwarded {
                "2001:db8::1"
            } else {
                "10.1.2.3"
            }),
            is_trusted,
            version: Version::HTTP_11,
            fallback_host: "server_1",
            upstream_host: forwarded.then_some(&inside),
            forwarded,
        };
        to_upstream(&mut uri, &mut headers, &client);
        (uri.to_string(), sorted(&headers))
    }

    #[test]
    fn what_belongs_to_one_connection_stays_on_it() {
        let (_, headers) = upstream(
            "/a",
            &[
                ("host", "example"),
                ("connection", "close, X-Secret , host"),
                ("connection", "keep-alive"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("x-secret", "1"),
                ("te", "gzip"),
                ("upgrade", "websocket"),
                ("expect", "100-continue"),
                ("transfer-encoding", "chunked"),
                ("accept", "*/*"),
            ],
        );
        let expected = [
            "accept: */*",
            "host: example",
            "via: 1.1 ringmaster",
            "x-forwarded-for: 10.1.2.3",
            "x-forwarded-host: example",
            "x-forwarded-proto: http",
        ];
        assert_eq!(headers, expected);
    }

    #[test]
    fn what_a_client_claims_about_itself_is_replaced() {
        let (_, headers) = upstream(
            "/a",
            &[
                ("host", "example"),
                ("via", "1.0 fred"),
                ("forwarded", "for=6.6.6.6"),
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-for", "7.7.7.7"),
                ("x-forwarded-host", "evil"),
                ("x-forwarded-port", "1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-user", "root"),
                ("x_forwarded_for", "6.6.6.6"),
                ("x-real-ip", "6.6.6.6"),
                ("true-client-ip", "6.6.6.6"),
                ("cf-connecting-ip", "6.6.6.6"),
                ("connection", "x-real-ip"),
            ],
        );
        let expected = [
            "host: example",
            "via: 1.0 fred",
            "via: 1.1 ringmaster",
            "x-forwarded-for: 10.1.2.3",
            "x-forwarded-host: example",
            "x-forwarded-proto: http",
        ];
        assert_eq!(headers, expected);
    }

    #[test]
    fn what_a_trusted_proxy_says_of_its_client_is_added_to() {
        let (_, headers) = sent_by(
            true,
            "/a",
            &[
                ("host", "example"),
                ("connection", "x-forwarded-for, x-hop, x-real-ip, forwarded"),
                ("x-hop", "1"),
                ("forwarded", "for=6.6.6.6"),
                ("x-forwarded-for", "6.6.6.6,7.7.7.7"),
                ("x-forwarded-for", "8.8.8.8"),
                ("x-forwarded-host", "outside"),
                ("x-forwarded-port", "443"),
                ("x-forwarded-proto", "https"),
                ("x-real-ip", "6.6.6.6"),
            ],
        );
        let expected = [
            "forwarded: for=6.6.6.6",
            "host: example",
            "via: 1.1 ringmaster",
            "x-forwarded-for: 6.6.6.6,7.7.7.7, 8.8.8.8, 10.1.2.3",
            "x-forwarded-host: outside",
            "x-forwarded-port: 443",
            "x-forwarded-proto: https",
            "x-real-ip: 6.6.6.6",
        ];
        assert_eq!(headers, expected);
        let (_, headers) = sent_by(true, "/a", &[("host", "example")]);
        let expected = [
            "host: example",
            "via: 1.1 ringmaster",
            "x-forwarded-for: 10.1.2.3",
            "x-forwarded-host: example",
            "x-forwarded-proto: http",
        ];
        assert_eq!(headers, expected);
    }

    #[test]
    fn trailers_say_nothing_of_framing_or_routing() {
        let mut trailers = map(&[
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("host", "evil"),
            ("authorization", "Basic x"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-request-id", "7"),
            ("grpc-status", "0"),
            ("x-sum", "1"),
        ]);
        clean_trailers(&mut trailers);
        assert_eq!(sorted(&trailers), ["grpc-status: 0", "x-sum: 1"]);
    }

    #[test]
    fn forwarded_is_said_anew_or_added_to() {
        let lines = [("host", "shop:81"), ("forwarded", "for=6.6.6.6"), ("forwarded", "for=_b")];
        let (_, headers) = sent_as(false, true, "/a", &lines);
        let own = "for=\"[2001:db8::1]\";host=\"shop:81\";proto=http";
        assert!(headers.contains(&format!("forwarded: {own}")), "{headers:?}");
        assert!(headers.contains(&"host: inside".to_string()), "{headers:?}");
        assert!(headers.contains(&"x-forwarded-host: shop:81".to_string()), "{headers:?}");
        let (_, headers) = sent_as(true, true, "/a", &lines);
        assert!(headers.contains(&format!("forwarded: for=6.6.6.6, for=_b, {own}")), "{headers:?}");
    }

    #[test]
    fn the_target_of_an_absolute_form_beats_the_host() {
        for bare in ["http://real", "http://real#fragment"] {
            assert_eq!(upstream(bare, &[]).0, "/", "{bare}");
        }
        let (uri, headers) = upstream("http://me@real:81/a?b=c", &[("host", "claimed")]);
        assert_eq!(uri, "/a?b=c");
        assert!(headers.contains(&"host: real:81".to_string()), "{headers:?}");
        let (_, headers) = upstream("/a", &[("te", "deflate;q=0.5, Trailers")]);
        assert!(headers.contains(&"host: server_1".to_string()), "{headers:?}");
        assert!(headers.contains(&"te: trailers".to_string()), "{headers:?}");
        assert!(headers.contains(&"connection: te".to_string()), "{headers:?}");
    }

    #[test]
    fn what_was_written_can_be_read_back() {
        let written =
            b"PUT /a?b=%20 HTTP/1.1\r\nhost: h\r\nx: a: b\r\nx: \r\ny: \xff\r\n\r\nbody\r\n\r\n";
        let request = parse_request(written, ()).unwrap();
        assert_eq!(
            (request.method(), request.uri().to_string().as_str()),
            (&Method::PUT, "/a?b=%20")
        );
        let fields: Vec<_> =
            request.headers().iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        let expected: [(&str, &[u8]); 4] =
            [("host", b"h"), ("x", b"a: b"), ("x", b""), ("y", b"\xff")];
        assert_eq!(fields, expected);
        let bare = parse_request(b"OPTIONS * HTTP/1.1\r\n\r\n", ()).unwrap();
        assert_eq!((bare.uri().path(), bare.headers().len()), ("*", 0));
        assert!(parse_request(&written[..30], ()).is_none(), "cut off");
        assert!(parse_request(b"", ()).is_none());
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        let refused = |uri: &str, lines: &[_]| {
            let uri: Uri = uri.parse().unwrap();
            check(&Method::GET, &uri, Version::HTTP_11, &map(lines)).is_err()
        };
        assert!(!refused("/", &[("host", "a"), ("transfer-encoding", "Chunked")]));
        assert!(refused("/", &[]));
        assert!(refused("/", &[("host", "a"), ("host", "a")]));
        assert!(refused("/", &[("host", "a"), ("transfer-encoding", "gzip, chunked")]));
        assert!(refused("example:80", &[("host", "a")]));
        let twice =
            [("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert!(refused("/", &twice));
        let uri = Uri::from_static("/");
        assert_eq!(check(&Method::GET, &uri, Version::HTTP_10, &map(&[])), Ok(()));
    }

    #[test]
    fn answers_keep_no_length_that_could_contradict_the_body() {
        let lines = [("content-length", "5"), ("connection", "x-a"), ("x-a", "1")];
        let mut headers = map(&lines);
        to_client(&mut headers, Version::HTTP_10, true);
        assert_eq!(sorted(&headers), ["via: 1.0 ringmaster"]);
        let mut headers = map(&lines[..1]);
        to_client(&mut headers, Version::HTTP_11, false);
        assert_eq!(sorted(&headers), ["content-length: 5", "via: 1.1 ringmaster"]);
    }
}
