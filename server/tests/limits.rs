//! The limits on connections, with small values.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use ringmaster_server::{Limits, Settings, serve};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(10);

/// Serves on a thread that ends with the test process.
fn start(limits: Limits) -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            let settings = Settings::from_lookup(|_| None).unwrap();
            serve(listener, &settings, limits, std::future::pending()).await;
        });
    });
    receiver.recv_timeout(PATIENCE).unwrap()
}

fn ask(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /heartbeat HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    stream
}

fn is_answered(stream: &mut TcpStream) {
    let mut start = [0; 15];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
}

#[test]
fn a_connection_too_many_waits_until_another_one_ends() {
    let address = start(Limits { connections: 2, ..Limits::default() });
    let mut first = ask(address);
    let mut second = ask(address);
    is_answered(&mut first);
    is_answered(&mut second);
    let mut third = ask(address);
    third.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let nothing = third.read(&mut [0; 1]).unwrap_err().kind();
    assert!(matches!(nothing, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{nothing}");
    drop(first);
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    is_answered(&mut third);
}

#[test]
fn a_slow_head_and_an_idle_connection_are_closed() {
    let address = start(Limits { head: Duration::from_millis(150), ..Limits::default() });
    let mut slow = TcpStream::connect(address).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.write_all(b"GET /home HTTP/1.1\r\nHost:").unwrap();
    let mut idle = ask(address);
    let mut rest = Vec::new();
    // Both reads end because the server closes, long before their own deadline.
    idle.read_to_end(&mut rest).unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 200 OK"));
    rest.clear();
    slow.read_to_end(&mut rest).unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}
