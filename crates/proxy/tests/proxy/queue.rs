//! What a replica has in flight at most, and those who wait for a place.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, Proxy, Replica, eventually, instance, table};
use ringmaster_proxy::{Concurrency, ProxyConfig};

/// A replica that answers one request for each word it is given, and the most it had at once.
struct Busy {
    replica: Replica,
    go_on: mpsc::Sender<()>,
    most: Arc<AtomicUsize>,
    /// The targets that it was asked for.
    seen: Arc<Mutex<Vec<String>>>,
}

fn busy() -> Busy {
    let (go_on, wait) = mpsc::channel();
    let wait = Arc::new(Mutex::new(wait));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = Arc::clone(&most);
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let targets = Arc::clone(&seen);
    let replica = Replica::start(move |mut conversation, _| {
        while let Some(request) = conversation.message() {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            targets.lock().unwrap().push(request.target().to_owned());
            let told = wait.lock().unwrap().recv();
            now.fetch_sub(1, Ordering::SeqCst);
            if told.is_err() {
                return;
            }
            conversation.answer(request.target());
        }
    });
    Busy { replica, go_on, most, seen }
}

fn limited(addresses: &[std::net::SocketAddr], limit: Concurrency) -> Proxy {
    let change = |config: &mut ProxyConfig| {
        config.concurrency = Some(limit);
        config.workers = 1;
    };
    Proxy::with(addresses, change, axum::Router::new())
}

const LIMIT: Concurrency =
    Concurrency { in_flight_max: 2, waiting_max: 3, deadline: Duration::from_secs(10) };

fn ask(proxy: &Proxy, target: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    client
}

/// Asks so many, each after the one before has been taken in.
fn ask_in_order(proxy: &Proxy, count: u64) -> Vec<Client> {
    (0..count)
        .map(|number| {
            let client = ask(proxy, &format!("/{number}"));
            eventually("it is taken in", || proxy.workers.metrics().requests == number + 1);
            client
        })
        .collect()
}

#[test]
fn requests_wait_in_order_and_never_more_than_allowed_are_in_flight() {
    let busy = busy();
    let proxy = limited(&[busy.replica.address], LIMIT);
    let clients = ask_in_order(&proxy, 5);
    eventually("three wait", || proxy.workers.metrics().queued == 3);
    assert_eq!(proxy.routes.in_flight(instance(1, 1)), 2);
    for next in 2..5 {
        // Whichever of the two that the replica has is answered, one more gets to it.
        busy.go_on.send(()).unwrap();
        eventually("the next", || busy.seen.lock().unwrap().len() == next + 1);
        assert_eq!(busy.seen.lock().unwrap()[next], format!("/{next}"));
    }
    busy.go_on.send(()).unwrap();
    busy.go_on.send(()).unwrap();
    for (number, mut client) in clients.into_iter().enumerate() {
        assert_eq!(client.reply().text(), format!("/{number}"));
    }
    assert_eq!(busy.most.load(Ordering::SeqCst), 2);
    let totals = proxy.workers.metrics();
    assert_eq!((totals.queue_full, totals.queue_timeouts, totals.answered_2xx), (0, 0, 5));
}

#[test]
fn who_finds_the_queue_full_or_waits_too_long_is_told_to_come_back() {
    let busy = busy();
    let limit = Concurrency { waiting_max: 1, deadline: Duration::from_millis(200), ..LIMIT };
    let proxy = limited(&[busy.replica.address], limit);
    let _held = ask_in_order(&proxy, 2);
    let began = Instant::now();
    let mut waiting = ask(&proxy, "/waits");
    eventually("it waits", || proxy.workers.metrics().queued == 1);
    let refused = proxy.get("/full");
    assert_eq!((refused.status(), refused.field("retry-after")), (503, vec!["1"]));
    assert!(refused.text().contains("too many requests in flight"), "{}", refused.text());
    assert!(began.elapsed() < Duration::from_millis(150), "it did not wait");
    let late = waiting.reply();
    assert_eq!((late.status(), late.field("retry-after")), (503, vec!["1"]));
    assert!(began.elapsed() >= Duration::from_millis(200));
    let totals = proxy.workers.metrics();
    assert_eq!((totals.queue_full, totals.queue_timeouts), (1, 1));
}

#[test]
fn a_client_that_leaves_the_queue_leaves_no_gap() {
    let busy = busy();
    let proxy = limited(&[busy.replica.address], LIMIT);
    let mut held = ask_in_order(&proxy, 2);
    let gone = ask(&proxy, "/gone");
    eventually("it waits", || proxy.workers.metrics().queued == 1);
    let mut last = ask(&proxy, "/last");
    eventually("it waits, too", || proxy.workers.metrics().queued == 2);
    drop(gone);
    eventually("it has gone", || proxy.workers.metrics().connections_closed == 1);
    for _ in 0..3 {
        busy.go_on.send(()).unwrap();
    }
    assert_eq!(last.reply().text(), "/last");
    assert!(held.iter_mut().all(|client| client.reply().status() == 200));
    eventually("nothing is in flight", || proxy.routes.in_flight(instance(1, 1)) == 0);
}

#[test]
fn those_who_wait_for_an_instance_that_leaves_are_served_by_others() {
    let (busy, other) = (busy(), Replica::echo("b"));
    let proxy = limited(&[busy.replica.address, other.address], LIMIT);
    let query = proxy.query_of(0);
    let _held: Vec<Client> = (0..2).map(|_| ask(&proxy, &format!("/held?{query}"))).collect();
    eventually("both are held", || proxy.routes.in_flight(instance(1, 1)) == 2);
    let mut waiting = ask(&proxy, &format!("/waits?{query}"));
    eventually("it waits", || proxy.workers.metrics().queued == 1);
    proxy.routes.publish(table(&[None, Some(other.address)], &[instance(1, 1)]));
    assert_eq!(waiting.reply().text(), format!("b /waits?{query}"));
}

#[test]
fn the_limit_holds_across_workers() {
    let busy = busy();
    let change = |config: &mut ProxyConfig| {
        config.concurrency = Some(Concurrency { waiting_max: 100, ..LIMIT });
        config.workers = 4;
    };
    let proxy = Proxy::with(&[busy.replica.address], change, axum::Router::new());
    let go_on = busy.go_on.clone();
    let feeder = thread::spawn(move || {
        for _ in 0..40 {
            thread::sleep(Duration::from_millis(2));
            let _ = go_on.send(());
        }
    });
    let mut clients: Vec<Client> = (0..40).map(|n| ask(&proxy, &format!("/{n}"))).collect();
    assert!(clients.iter_mut().all(|client| client.reply().status() == 200));
    feeder.join().unwrap();
    assert!(busy.most.load(Ordering::SeqCst) <= 2, "{}", busy.most.load(Ordering::SeqCst));
}
