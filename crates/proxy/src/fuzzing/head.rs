//! The head of a request on its way up, and the fields of an answer and of trailers on theirs.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, TE, TRANSFER_ENCODING, VIA},
};

use crate::{
    headers::{self, Client},
    trusted::FORWARDED_FOR,
};

/// What belongs to one connection and never goes on, whoever sent it.
const HOP: [&str; 6] =
    ["keep-alive", "proxy-connection", "te", "connection", "transfer-encoding", "upgrade"];

/// Who sends it (one byte), and a head with its line ends. What is kept for a retry is read as it
/// was written, and what goes on can be read in one way only, says nothing that only we may say,
/// and stays as it is when it is prepared again.
pub fn head(data: &[u8]) {
    let Some((&sender, written)) = data.split_first() else { return };
    let Some(request) = headers::parse_request(written, ()) else { return };
    assert_read_back(&request);
    let (mut parts, ()) = request.into_parts();
    let mut trailers = parts.headers.clone();
    headers::clean_trailers(&mut trailers);
    let forbidden = ["host", "content-length", "trailer", "cookie", "authorization", "via"];
    for name in forbidden.iter().chain(&HOP) {
        assert!(!trailers.contains_key(*name), "{name} behind a body");
    }
    assert!(!trailers.keys().any(is_claim), "{trailers:?}");
    let mut answer = parts.headers.clone();
    headers::to_client(&mut answer, Version::HTTP_11, sender & 1 == 1);
    assert!(HOP.iter().all(|name| !answer.contains_key(*name)), "{answer:?}");
    assert!(answer.get_all(CONTENT_LENGTH).iter().count() <= 1);

    let version = if sender & 2 == 2 { Version::HTTP_2 } else { Version::HTTP_11 };
    if headers::check(&parts.method, &parts.uri, version, &parts.headers).is_err() {
        return;
    }
    let peer = HeaderValue::from_static("2001:db8::1");
    let client = Client {
        forwarded_for: &peer,
        is_trusted: sender & 4 == 4,
        version,
        fallback_host: "server_1",
        upstream_host: None,
        forwarded: sender & 8 == 8,
    };
    let given = parts.headers.clone();
    headers::to_upstream(&mut parts.uri, &mut parts.headers, &client);
    sent_up(&parts.uri, &parts.headers, &given, &client);
    let mut again = Request::from_parts(parts, ());
    assert_read_back(&again);
    if !client.is_trusted {
        let before = again.headers().clone();
        let mut uri = again.uri().clone();
        let repeated = Client { version: Version::HTTP_11, ..client };
        headers::to_upstream(&mut uri, again.headers_mut(), &repeated);
        assert_eq!(uri, *again.uri());
        let without_via = |mut headers: HeaderMap| {
            headers.remove(VIA);
            headers
        };
        assert_eq!(without_via(again.headers().clone()), without_via(before), "prepared again");
    }
}

/// What a replica gets.
fn sent_up(uri: &Uri, headers: &HeaderMap, given: &HeaderMap, client: &Client<'_>) {
    assert!(uri.scheme().is_none() && uri.authority().is_none());
    let target = uri.to_string();
    assert!(target.starts_with('/') || target == "*", "{target}");
    assert!(!target.contains(|c: char| c == ' ' || c.is_ascii_control() && c != '\x7f'));
    let lines = |name: HeaderName| headers.get_all(name).iter().count();
    assert_eq!(lines(HOST), 1, "{headers:?}");
    assert_eq!(lines(FORWARDED_FOR), 1, "{headers:?}");
    assert_eq!(lines(TRANSFER_ENCODING), 0);
    let wants_trailers = headers.contains_key(TE);
    for name in &HOP[..2] {
        assert!(!headers.contains_key(*name), "{name}");
    }
    assert!(!headers.contains_key("expect") && !headers.contains_key("upgrade"));
    assert!(headers.get(TE).is_none_or(|te| te == "trailers") && lines(TE) <= 1);
    assert_eq!(headers.get(CONNECTION).is_some_and(|only| only == "te"), wants_trailers);
    assert_eq!(headers.contains_key(CONNECTION), wants_trailers);
    // What a trusted proxy has said stays, also where we do not say it ourselves.
    let may_stay = client.is_trusted && given.contains_key(FORWARDED);
    assert_eq!(headers.contains_key(FORWARDED), client.forwarded || may_stay);
    let last = headers.get_all(VIA).iter().next_back();
    assert!(last.is_some_and(|via| via.as_bytes().ends_with(b" ringmaster")));
    let peer = client.forwarded_for.as_bytes();
    let list = headers.get(FORWARDED_FOR).map_or(&b""[..], HeaderValue::as_bytes);
    assert!(list.ends_with(peer));
    if !client.is_trusted {
        assert_eq!(list, peer, "a client's own claim");
        let known = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];
        let claims = headers.keys().filter(|name| is_claim(name));
        claims.for_each(|name| assert!(known.contains(&name.as_str()), "{name}"));
    }
    if client.version == Version::HTTP_2 {
        assert!(lines(COOKIE) <= 1);
    }
    for name in named_by(given) {
        let is_ours = [HOST, CONTENT_LENGTH, VIA, FORWARDED, TE, CONNECTION].contains(&name);
        assert!(is_ours || is_claim(&name) || !headers.contains_key(&name), "{name} was named");
    }
}

fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    let others = ["forwarded", "x-real-ip", "true-client-ip", "cf-connecting-ip"];
    name.starts_with("x-forwarded-") || others.contains(&name.as_str())
}

/// The fields that `Connection` keeps on it.
fn named_by(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
    lines
        .flat_map(|line| line.split(|byte| *byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .collect()
}

/// A head as hyper writes it.
fn assert_read_back(request: &Request<()>) {
    let mut text = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri()).into_bytes();
    for (name, value) in request.headers() {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    let read = headers::parse_request(&[&text[..], b"a body: 1\r\n\r\n"].concat(), ());
    let read = read.unwrap_or_else(|| panic!("it is not read back: {}", text.escape_ascii()));
    assert_eq!(read.method(), request.method());
    assert_eq!(read.uri().to_string(), request.uri().to_string());
    assert_eq!(read.headers(), request.headers());
}
