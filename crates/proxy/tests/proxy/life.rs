//! Starting, draining, stopping.

mod own;
mod statistics;

use std::{
    io::Write as _,
    net::TcpStream,
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, Proxy, Replica, eventually, instance, table};
use ringmaster_proxy::{ProxyConfig, Routes, Workers};

/// A replica that begins each answer at once and ends it when told.
fn slow() -> (Replica, mpsc::SyncSender<()>) {
    let (next, wait) = mpsc::sync_channel::<()>(0);
    let wait = Mutex::new(wait);
    let replica = Replica::start(move |mut conversation, _| {
        while let Some(_request) = conversation.message() {
            conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
            if wait.lock().unwrap().recv().is_err() {
                return;
            }
            conversation.send("lf");
        }
    });
    (replica, next)
}

fn begun(proxy: &Proxy) -> (Client, String) {
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.0.head().unwrap();
    (client, head)
}

#[test]
fn drained_means_that_the_last_body_has_ended() {
    let (replica, next) = slow();
    let proxy = Proxy::with(&[replica.address], |config| config.workers = 2, axum::Router::new());
    let first = instance(1, 1);
    let (mut client, head) = begun(&proxy);
    assert_eq!(proxy.routes.in_flight(first), 1);
    assert!(!proxy.is_drained(first, Duration::from_millis(30)), "still a target");
    proxy.routes.publish(table(&[None], &[first]));
    assert!(!proxy.is_drained(first, Duration::from_millis(100)), "still streaming");
    next.send(()).unwrap();
    assert_eq!(client.0.body(head, false).unwrap().text(), "half");
    assert!(proxy.is_drained(first, Duration::from_secs(5)));
    assert_eq!(proxy.routes.in_flight(first), 0);
    assert_eq!(client.get("/").status(), 503, "the client's connection lives on");
}

#[test]
fn workers_that_ended_hold_no_drain_up() {
    let replica = Replica::echo("a");
    let mut proxy = Proxy::start(&[replica.address]);
    assert_eq!(proxy.get("/").status(), 200);
    proxy.shutdown(Duration::ZERO);
    proxy.routes.publish(table(&[None], &[]));
    assert!(proxy.is_drained(instance(1, 1), Duration::from_secs(5)));
}

#[test]
fn a_shutdown_finishes_what_is_in_flight() {
    let (replica, next) = slow();
    let mut proxy =
        Proxy::with(&[replica.address], |config| config.workers = 2, axum::Router::new());
    let (mut client, head) = begun(&proxy);
    let mut idle = proxy.client();
    assert_eq!(idle.get("/rep").status(), 404);
    let address = proxy.address;
    let (stopped, is_stopped) = mpsc::channel();
    let stopping = thread::spawn(move || {
        let began = Instant::now();
        proxy.shutdown(Duration::from_secs(10));
        stopped.send(began.elapsed()).unwrap();
    });
    assert!(idle.0.is_closed());
    eventually("the end of listening", || TcpStream::connect(address).is_err());
    assert!(is_stopped.try_recv().is_err());
    next.send(()).unwrap();
    assert_eq!(client.0.body(head, false).unwrap().text(), "half");
    assert!(client.0.is_closed());
    let took = is_stopped.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
    stopping.join().unwrap();
}

#[test]
fn a_shutdown_does_not_wait_beyond_its_deadline() {
    let (replica, _next) = slow();
    let mut proxy = Proxy::start(&[replica.address]);
    let (mut client, head) = begun(&proxy);
    let began = Instant::now();
    proxy.shutdown(Duration::from_millis(300));
    assert!((300..3_000).contains(&began.elapsed().as_millis()));
    assert!(client.0.body(head, false).is_none());
    assert_eq!(proxy.routes.in_flight(instance(1, 1)), 0);
}

/// Clients that connect and ask all the time while the balancer stops: whoever got a connection
/// gets an answer.
#[test]
fn connections_that_wait_to_be_accepted_are_served() {
    let replica = Replica::echo("a");
    let mut proxy = Proxy::start(&[replica.address]);
    let address = proxy.address;
    let (connected, is_connected) = mpsc::channel();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let connected = connected.clone();
            thread::spawn(move || {
                let mut served = 0;
                while let Ok(mut stream) = TcpStream::connect(address) {
                    stream.write_all(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
                    let mut conversation = crate::support::Conversation::new(stream);
                    // A connection made in the instant of the close is reset by the kernel; all
                    // that were accepted before are served.
                    match conversation.message() {
                        Some(reply) => assert_eq!(reply.text(), "a /x"),
                        None => break,
                    }
                    served += 1;
                    let _ = connected.send(());
                }
                served
            })
        })
        .collect();
    for _ in 0..200 {
        is_connected.recv().unwrap();
    }
    proxy.shutdown(Duration::from_secs(5));
    let served: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(proxy.workers.metrics().answered_2xx, served);
}

#[test]
fn a_taken_port_is_refused_in_words() {
    let replica = Replica::echo("a");
    let proxy = Proxy::start(&[replica.address]);
    let config = ProxyConfig { listen: proxy.address, workers: 1, ..ProxyConfig::default() };
    let routes = Routes::new(table(&[], &[]));
    let (failures, _reports) = tokio::sync::mpsc::channel(1);
    let error = Workers::start(config, routes, failures, axum::Router::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&proxy.address.to_string()), "{error}");
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn a_port_is_free_again_after_a_shutdown() {
    let replica = Replica::echo("a");
    let mut first = Proxy::start(&[replica.address]);
    assert_eq!(first.get("/").status(), 200);
    let address = first.address;
    first.shutdown(Duration::from_secs(1));
    let again =
        Proxy::with(&[replica.address], |config| config.listen = address, axum::Router::new());
    assert_eq!(again.get("/").status(), 200);
}

#[test]
fn an_instance_with_a_new_address_is_reached_there() {
    let (old, new) = (Replica::echo("old"), Replica::echo("new"));
    let proxy = Proxy::start(&[old.address]);
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "old /");
    proxy.routes.publish(table(&[Some(new.address)], &[]));
    eventually("the move", || client.get("/").text() == "new /");
    assert_eq!(proxy.workers.metrics().instances.len(), 1);
}
