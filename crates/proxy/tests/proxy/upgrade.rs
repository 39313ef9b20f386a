//! Upgrades: bytes both ways after a replica agreed, and nothing of the kind when it did not.

use std::{io::Read as _, net::Shutdown, time::Duration};

use crate::support::{Client, Conversation, Proxy, Replica, eventually, instance, table};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: xyz\r\n\r\n";

fn read(conversation: &mut Conversation, length: usize) -> String {
    let mut bytes = vec![0; length];
    conversation.reader.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Agrees, says hello in the same write, then sends everything back in capitals.
fn shouting() -> Replica {
    Replica::start(|mut conversation, _| {
        let Some(request) = conversation.message() else { return };
        assert_eq!(request.field("upgrade"), ["websocket"], "{}", request.head);
        assert_eq!(request.field("connection"), ["upgrade"], "{}", request.head);
        assert_eq!(request.field("sec-websocket-key"), ["abc"]);
        conversation.send(format!("{AGREED}hello"));
        let mut bytes = [0; 1024];
        while let Ok(length) = conversation.reader.read(&mut bytes) {
            if length == 0 {
                break;
            }
            conversation.send(bytes[..length].to_ascii_uppercase());
        }
        conversation.send("bye");
    })
}

/// A client that has been agreed with, and has read the hello.
fn tunnel(proxy: &Proxy, early: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!("{ASK}{early}"));
    let head = client.0.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let lower = head.to_ascii_lowercase();
    for line in ["upgrade: websocket\r\n", "connection: upgrade\r\n", "sec-websocket-accept: xyz"] {
        assert!(lower.contains(line), "{head}");
    }
    assert!(!lower.contains("content-length") && !lower.contains("transfer-encoding"), "{head}");
    assert_eq!(read(&mut client.0, 5), "hello");
    client
}

#[test]
fn bytes_pass_both_ways_until_an_end_closes() {
    let replica = shouting();
    let proxy = Proxy::start(&[replica.address]);
    // What comes right behind the request is not lost.
    let mut client = tunnel(&proxy, "early ");
    assert_eq!(read(&mut client.0, 6), "EARLY ");
    for text in ["one", "\0\r\n\r\n", "two"] {
        client.send(text);
        assert_eq!(read(&mut client.0, text.len()), text.to_ascii_uppercase());
    }
    assert_eq!(proxy.routes.in_flight(instance(1, 1)), 1, "a tunnel is in flight");
    assert_eq!(proxy.workers.metrics().upgrades, 1);
    // Half a close goes through, and what follows it comes back.
    client.0.reader.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(read(&mut client.0, 3), "bye");
    assert!(client.0.is_closed());
    eventually("nothing is in flight", || proxy.routes.in_flight(instance(1, 1)) == 0);
}

#[test]
fn a_megabyte_each_way_arrives_whole() {
    let replica = shouting();
    let proxy = Proxy::start(&[replica.address]);
    let mut client = tunnel(&proxy, "");
    let text = "abcdefgh".repeat(1 << 17);
    let mut writer = Conversation::new(client.0.reader.get_ref().try_clone().unwrap());
    let sent = text.clone();
    let sender = std::thread::spawn(move || writer.send(sent));
    assert_eq!(read(&mut client.0, text.len()), text.to_ascii_uppercase());
    sender.join().unwrap();
    let totals = proxy.workers.metrics();
    assert!(totals.bytes_up >= 1 << 20 && totals.bytes_down >= 1 << 20, "{totals:?}");
    let (_, replica) = &totals.instances[0];
    let by_replica = (replica.bytes_up, replica.bytes_down);
    assert_eq!(by_replica, (totals.bytes_up, totals.bytes_down), "all of it is its");
}

#[test]
fn an_upgrade_that_is_not_granted_leaves_an_ordinary_connection() {
    let replica = Replica::echo("a");
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send(ASK);
        assert_eq!(client.reply().text(), "a /chat");
    }
    assert_eq!(client.get("/next").text(), "a /next");
    assert_eq!(replica.connections(), 1, "and the replica's, too");
}

#[test]
fn another_http_is_not_asked_for() {
    let replica = Replica::answering(|request| {
        let asked = request.field("upgrade").len() + request.field("http2-settings").len();
        format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{asked}")
    });
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    );
    assert_eq!(client.reply().text(), "0");
    // One with a body is passed on without its upgrade.
    client.send(ASK.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi"));
    assert_eq!(client.reply().text(), "0");
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_closed() {
    let replica = shouting();
    let change = |config: &mut ringmaster_proxy::ProxyConfig| {
        config.upgrade_idle = Duration::from_millis(300);
    };
    let proxy = Proxy::with(&[replica.address], change, axum::Router::new());
    let mut client = tunnel(&proxy, "");
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(100));
        client.send("x");
        assert_eq!(read(&mut client.0, 1), "X", "it lives while something moves");
    }
    assert!(client.0.is_closed());
    eventually("nothing is in flight", || proxy.routes.in_flight(instance(1, 1)) == 0);
}

#[test]
fn a_tunnel_ends_with_its_instance() {
    let replica = shouting();
    let proxy = Proxy::start(&[replica.address]);
    let mut client = tunnel(&proxy, "");
    // Draining leaves it alone, being ejected does not.
    proxy.routes.publish(table(&[None], &[instance(1, 1)]));
    client.send("x");
    assert_eq!(read(&mut client.0, 1), "X");
    proxy.routes.publish(table(&[None], &[]));
    assert!(client.0.is_closed());
}
