//! What is ours on the traffic port: mounted paths, words of our own, and requests of our own.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, Response};
use bytes::Bytes;
use ringmaster_proxy::{Mounts, OwnError, ProxyConfig};

use crate::support::{Proxy, Replica, refusing};

const PEER: ([u8; 4], u16) = ([10, 1, 2, 3], 4);

fn route(
    proxy: &Proxy,
    key: &str,
    target: &str,
    headers: HeaderMap,
) -> Result<Response<Bytes>, OwnError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let own = proxy.workers.own_requests();
    runtime.block_on(own.get(key, target, headers, PEER.into()))
}

fn with(addresses: &[SocketAddr], change: impl FnOnce(&mut ProxyConfig)) -> Proxy {
    Proxy::with(addresses, change, axum::Router::new())
}

#[test]
fn a_request_of_our_own_goes_to_the_owner_of_its_key() {
    let heads = Replica::answering(|request| {
        let (head, length) = (&request.head, request.head.len());
        format!("HTTP/1.1 203 X\r\nContent-Type: text/x\r\nContent-Length: {length}\r\n\r\n{head}")
    });
    let others = [Replica::echo("b"), Replica::echo("c")];
    let addresses = [heads.address, others[0].address, others[1].address];
    let proxy = with(&addresses, |config| config.server_headers = true);
    for (replica, name) in ["server_1", "server_2", "server_3"].into_iter().enumerate() {
        let query = proxy.query_of(replica);
        let key = query.strip_prefix("id=").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-a", "b".parse().unwrap());
        headers.insert("content-length", "7".parse().unwrap());
        headers.insert("transfer-encoding", "chunked".parse().unwrap());
        headers.insert("connection", "x-gone".parse().unwrap());
        headers.insert("x-gone", "1".parse().unwrap());
        let response = route(&proxy, key, "/some/path?x=1&id=other", headers).unwrap();
        assert_eq!(response.headers()["x-load-balancer-server"], name);
        let body = std::str::from_utf8(response.body()).unwrap();
        if replica > 0 {
            assert!(body.ends_with(" /some/path?x=1&id=other"), "{body}");
            continue;
        }
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (203, &"text/x".parse().unwrap())
        );
        assert!(body.starts_with("GET /some/path?x=1&id=other HTTP/1.1\r\n"), "{body}");
        let lower = body.to_lowercase();
        for line in ["x-a: b", "x-forwarded-for: 10.1.2.3", "host: ", "x-request-id: "] {
            assert!(lower.contains(&format!("\r\n{line}")), "{line}: {body}");
        }
        for line in ["content-length", "transfer-encoding", "x-gone"] {
            assert!(!lower.contains(line), "{line}: {body}");
        }
    }
    let totals = proxy.workers.metrics();
    assert_eq!((totals.requests, totals.answered_2xx), (3, 3));
    assert!(totals.replicas.values().all(|served| served.requests() == 1));
    assert_eq!(totals.instances.iter().map(|(_, counted)| counted.in_flight).sum::<u64>(), 0);
}

#[test]
fn it_is_retried_and_answered_for_as_any_other() {
    let good = Replica::echo("good");
    let proxy = with(&[good.address, refusing()], |_| {});
    let key = proxy.query_of(1);
    let key = key.strip_prefix("id=").unwrap();
    let response = route(&proxy, key, "/a", HeaderMap::new()).unwrap();
    assert_eq!(response.body(), "good /a");
    assert_eq!(proxy.workers.metrics().retries, 1);
    let lonely = with(&[refusing()], |_| {});
    let response = route(&lonely, "k", "/a", HeaderMap::new()).unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(lonely.workers.metrics().unserved, 1);
    let long = with(&[good.address], |config| config.uri_max = 4);
    assert_eq!(route(&long, "k", "/1234", HeaderMap::new()).unwrap().status(), 414);
}

#[test]
fn it_has_bounds() {
    let bad = Replica::start(|mut conversation, _| {
        let Some(request) = conversation.message() else { return };
        match request.target() {
            "/large" => {
                let length = 17 << 20;
                conversation.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
                conversation.send(vec![b'x'; length]);
            }
            "/cut" => conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfive!"),
            "/still" => {
                conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfive!");
                let _ = conversation.message();
            }
            _ => {
                let _ = conversation.message();
            }
        }
    });
    let mut proxy = with(&[bad.address], |config| {
        config.request_timeout = Some(Duration::from_millis(500));
    });
    let get = |proxy: &Proxy, target: &str| route(proxy, "k", target, HeaderMap::new());
    for target in ["", "a", "http://h/", "/a b", "/a\r\nX: y", "//\u{0}"] {
        assert_eq!(get(&proxy, target).unwrap_err(), OwnError::Target, "{target}");
    }
    assert_eq!(get(&proxy, "/large").unwrap_err(), OwnError::TooLarge);
    assert_eq!(get(&proxy, "/cut").unwrap_err(), OwnError::BrokeOff);
    for target in ["/still", "/silent"] {
        let began = Instant::now();
        match get(&proxy, target) {
            Ok(response) => assert_eq!(response.status(), 504, "{target}"),
            Err(error) => assert_eq!(error, OwnError::TimedOut, "{target}"),
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{target}");
    }
    let own = proxy.workers.own_requests();
    proxy.shutdown(Duration::from_secs(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let late = runtime.block_on(own.get("k", "/", HeaderMap::new(), PEER.into()));
    assert_eq!(late.unwrap_err(), OwnError::Stopped);
}

#[test]
fn mounted_paths_are_ours_as_they_are_spelled_and_all_others_are_for_replicas() {
    let replica = Replica::echo("replica");
    let control = axum::Router::new()
        .fallback(|uri: axum::http::Uri| async move { format!("ours {}", uri.path()) });
    let proxy = Proxy::with(
        &[replica.address],
        |config| config.mounts = Mounts::new(["/rep", "/api/servers", "/api/servers/"]),
        control,
    );
    let mut client = proxy.client();
    for path in ["/rep", "/api/servers", "/api/servers/a/weight", "/api/servers/a%20b"] {
        assert_eq!(client.get(path).text(), format!("ours {path}"));
        assert_eq!(client.get(&format!("{path}?x=/rep")).text(), format!("ours {path}"));
    }
    for path in [
        "/",
        "/api/unknown",
        "/api/servers/",
        "/api/servers/../unknown",
        "/api/servers/%2e%2e/unknown",
        "/api/%73ervers",
        "/api/Servers",
        "//rep",
        "/rep/",
    ] {
        assert_eq!(client.get(path).text(), format!("replica {path}"));
    }
    assert_eq!(proxy.workers.metrics().control_requests, 8);
}

#[test]
fn where_no_replica_is_in_service_the_text_is_the_configured_one() {
    let text: Arc<str> = "No available nodes".into();
    let said = text.to_string();
    let proxy = with(&[], |config| config.no_replica_text = Some(said));
    let reply = proxy.get("/get?key=a");
    assert_eq!((reply.status(), reply.text()), (503, &*text));
    assert_eq!(reply.field("content-type"), ["text/plain; charset=utf-8"]);
    assert_eq!(reply.field("retry-after"), ["1"]);
    let reply = with(&[], |_| {}).get("/");
    assert_eq!(reply.field("content-type"), ["application/json"]);
    assert!(reply.text().contains("<Error> No replica is in service"), "{}", reply.text());
    // Other failures keep their own words.
    let proxy = with(&[refusing()], |config| config.no_replica_text = Some("none".into()));
    let reply = proxy.get("/");
    assert_eq!(reply.status(), 502);
    assert!(reply.text().contains("<Error> No replica answered"), "{}", reply.text());
}
