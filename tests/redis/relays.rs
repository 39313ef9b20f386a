//! What a process does for its clients while another one supervises and does not answer.

use std::{
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use crate::{
    harness::{ask, begin, eventually, finish, get},
    shared::Fleet,
};

/// Requests that are passed on at once.
const RELAYED_MAX: usize = 64;
const BODY: &str = r#"{"n":1}"#;

/// The connections that arrive at a listener, so many.
fn arrived(listener: &TcpListener, count: usize) -> Vec<TcpStream> {
    listener.set_nonblocking(true).unwrap();
    let mut arrived = Vec::new();
    eventually("so many requests are passed on", || {
        arrived.extend(listener.accept().map(|(stream, _)| stream));
        arrived.len() == count
    });
    arrived
}

#[test]
fn so_many_requests_wait_for_a_supervisor_and_no_more() {
    let Some(fleet) = Fleet::new(1) else { return };
    // It holds the lease for ever, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = silent.local_addr().unwrap().to_string();
    let lease = fleet.key("lease");
    fleet.redis.command(&["HSET", &lease, "id", "silent", "admin", &admin, "fence", "1"]);
    let standby = fleet.start("a", "supervisor");

    // No table was published yet.
    for path in ["/rep", "/api/ring"] {
        let said = get(standby.admin, path).refusal(503);
        assert_eq!(said, "no routing table has come yet", "{path}");
    }
    let ready = get(standby.admin, "/readyz");
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.text().contains("no routing table has come yet"), "{}", ready.text());

    let send = || begin(standby.admin, "POST", "/rm", &[], BODY).unwrap();
    let waiting: Vec<TcpStream> = (0..RELAYED_MAX).map(|_| send()).collect();
    let passed_on = arrived(&silent, RELAYED_MAX);
    for (method, path, body) in [("POST", "/add", BODY), ("GET", "/api/status", "")] {
        let said = ask(standby.admin, method, path, body).refusal(503);
        assert!(said.contains("too many requests wait for the supervisor"), "{said}");
    }
    // What it answers itself waits for none of them.
    assert_eq!(get(standby.admin, "/livez").status, 200);
    assert_eq!(get(standby.admin, "/rep").status, 503);

    // A client that goes away takes nothing back: its command may be under way.
    drop(waiting);
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_millis(500) {
        let said = ask(standby.admin, "POST", "/rm", BODY).refusal(503);
        assert!(said.contains("too many requests"), "{said}");
    }
    drop(passed_on);
    let mut next = None;
    eventually("the next one is passed on", || {
        let (stream, mut there) = (send(), None);
        stream.set_nonblocking(true).unwrap();
        eventually("it is passed on, or refused", || {
            there = silent.accept().ok();
            there.is_some() || stream.peek(&mut [0]).is_ok()
        });
        stream.set_nonblocking(false).unwrap();
        next = there.map(|(there, _)| (stream, there));
        next.is_some()
    });
    let (stream, there) = next.unwrap();
    drop(there);
    let said = finish(stream).unwrap().refusal(503);
    assert!(said.contains(&format!("the supervisor at {admin} does not answer")), "{said}");
    assert!(said.contains("whether it was carried out is not known"), "{said}");
}
