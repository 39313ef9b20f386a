//! Connections that say for whom they come (the PROXY protocol).

use std::time::Duration;

use crate::support::{Client, Proxy, Replica, eventually};
use ringmaster_proxy::{ProxyConfig, TrustedProxies};

/// Answers with the client that it was told of.
fn telling() -> Replica {
    Replica::answering(|request| {
        let client = request.field("x-forwarded-for").join("|");
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{client}", client.len())
    })
}

fn announced(replica: &Replica, change: impl FnOnce(&mut ProxyConfig)) -> Proxy {
    let change = |config: &mut ProxyConfig| {
        config.proxy_protocol = true;
        change(config);
    };
    Proxy::with(&[replica.address], change, axum::Router::new())
}

fn begin(proxy: &Proxy, header: &[u8]) -> Client {
    let mut client = proxy.client();
    client.send(header);
    client
}

#[test]
fn the_announced_client_is_the_client() {
    let replica = telling();
    let proxy = announced(&replica, |_| {});
    let mut client = begin(&proxy, b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n");
    for _ in 0..2 {
        assert_eq!(client.get("/").text(), "203.0.113.9");
    }
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([203, 0, 113, 7, 127, 0, 0, 1, 0x12, 0x67, 0, 80]);
    // In one write with the request, and in pieces.
    let mut client = begin(&proxy, &[&header[..], b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"].concat());
    assert_eq!(client.reply().text(), "203.0.113.7");
    let mut client = begin(&proxy, &header[..5]);
    std::thread::sleep(Duration::from_millis(20));
    client.send(&header[5..]);
    assert_eq!(client.get("/").text(), "203.0.113.7");
    // Whoever speaks for nobody is the client itself.
    assert_eq!(begin(&proxy, b"PROXY UNKNOWN\r\n").get("/").text(), "127.0.0.1");
}

#[test]
fn who_is_not_announced_is_not_served() {
    let replica = telling();
    let proxy = announced(&replica, |config| config.header_read = Duration::from_millis(200));
    let mut client = begin(&proxy, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(client.0.is_closed(), "a request instead of the header");
    assert!(begin(&proxy, b"PROXY TCP4 1.2").0.is_closed(), "a header that does not end");
    eventually("both are counted", || proxy.workers.metrics().connections_unannounced == 2);
    assert_eq!(replica.connections(), 0);
}

#[test]
fn only_who_is_trusted_may_announce() {
    let replica = telling();
    let trusting = |networks: &'static [&'static str]| {
        announced(&replica, |config| {
            config.trusted_proxies = TrustedProxies::parse(networks.iter().copied()).unwrap();
        })
    };
    let header = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n";
    assert!(begin(&trusting(&["192.0.2.0/24"]), header).0.is_closed());
    let proxy = trusting(&["127.0.0.0/8"]);
    let mut client = begin(&proxy, header);
    // What the announced client claims of itself does not count.
    let reply = client.request("GET", "/", "X-Forwarded-For: 6.6.6.6\r\n\r\n");
    assert_eq!(reply.text(), "203.0.113.9");
}
