//! What a stranger says of itself does not reach a replica, wherever it says it.

use std::sync::{Arc, Mutex};

use ringmaster_proxy::{Engine, ProxyConfig, TrustedProxies};

use super::over_http2;
use crate::support::{Proxy, Replica, engine};

const CLAIMS: [&str; 16] = [
    "x-real-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "forwarded",
    "x-client-ip",
    "x-cluster-client-ip",
    "fastly-client-ip",
    "x-forwarded",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-scheme",
    "x-forwarded-user",
    "x_forwarded_for",
    "x_real_ip",
];
const REPLACED: [&str; 3] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
const CLAIM: &str = "6.6.6.6";

/// A replica that keeps what it is sent, head and trailers.
fn keeping() -> (Replica, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let keep = Arc::clone(&seen);
    let replica = Replica::start(move |mut conversation, _| {
        while let Some(request) = conversation.message() {
            let all = request.head + &request.trailers.join("\r\n") + "\r\n";
            keep.lock().unwrap().push(all.to_ascii_lowercase());
            conversation.answer("ok");
        }
    });
    (replica, seen)
}

/// A request that claims everything, in its head and in its trailers, in this spelling.
fn claiming(spelling: fn(&str) -> String) -> String {
    let names = CLAIMS.iter().chain(&REPLACED).map(|name| spelling(name));
    let lines: String = names.map(|name| format!("{name}: {CLAIM}\r\n")).collect();
    format!(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX-Kept: {CLAIM}\r\n\
         {lines}\r\n2\r\nab\r\n0\r\n{lines}\r\n"
    )
}

#[test]
fn a_stranger_says_nothing_about_itself() {
    let (replica, seen) = keeping();
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    for spelling in [str::to_owned, str::to_ascii_uppercase as fn(&str) -> String] {
        client.send(claiming(spelling));
        assert_eq!(client.reply().status(), 200);
    }
    let fields: Vec<(&str, &str)> = CLAIMS
        .iter()
        .chain(&REPLACED)
        .map(|name| (*name, CLAIM))
        .chain([("x-kept", CLAIM)])
        .collect();
    assert_eq!(over_http2(&proxy, &fields, None).as_deref(), Some("200"));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    for request in seen.iter() {
        let claimed = request.matches(CLAIM).count();
        assert_eq!(claimed, 1, "all but `x-kept` are claims: {request}");
        assert!(request.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"), "{request}");
        assert!(request.contains("\r\nx-forwarded-host: h\r\n"), "{request}");
    }
}

#[test]
fn a_trusted_proxy_speaks_for_its_client() {
    let (replica, seen) = keeping();
    let trust = |config: &mut ProxyConfig| {
        config.trusted_proxies = TrustedProxies::parse(["127.0.0.1"]).unwrap();
    };
    let proxy = Proxy::with(&[replica.address], trust, axum::Router::new());
    let mut client = proxy.client();
    client.send(claiming(str::to_owned));
    assert_eq!(client.reply().status(), 200);
    let seen = seen.lock().unwrap();
    for name in CLAIMS {
        let line = format!("\r\n{name}: {CLAIM}\r\n");
        // Our own codec drops what CGI cannot tell from a claim, whoever sends it.
        let is_dropped = name.contains('_') && engine() == Engine::Own;
        let expected = usize::from(!is_dropped);
        assert_eq!(
            seen[0].matches(&line).count(),
            expected,
            "in the head only, {name}: {}",
            seen[0]
        );
    }
    let added = format!("\r\nx-forwarded-for: {CLAIM}, 127.0.0.1\r\n");
    assert!(seen[0].contains(&added), "{}", seen[0]);
}
