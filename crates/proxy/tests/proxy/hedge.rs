//! A second try for slow requests: when there is one, who gets it, and which answer counts.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{Client, PATIENCE, Proxy, Replica, eventually, instance, refusing, table};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ringmaster_core::fleet::message::FailureKind;
use ringmaster_proxy::{
    AccessLogSettings, Concurrency, LogFormat, ProxyConfig, Totals, UpstreamProtocol,
};

/// What a replica does with a request that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Answer,
    Fail,
    HangUp,
    /// Waits until the other side has closed.
    Listen,
}

/// What was said about each path.
#[derive(Default)]
struct Words {
    said: Mutex<HashMap<String, Word>>,
    news: Condvar,
    asked: AtomicUsize,
    failed: AtomicUsize,
    closed: AtomicUsize,
}

/// A replica that answers at once, but for paths that begin with `/slow`: these wait for a word.
struct Held {
    replica: Replica,
    words: Arc<Words>,
}

impl Held {
    fn start(name: &'static str) -> Self {
        let words = Arc::new(Words::default());
        let known = Arc::clone(&words);
        let replica = Replica::start(move |mut conversation, _| {
            while let Some(request) = conversation.message() {
                let path = request.target().split('?').next().unwrap().to_owned();
                let word = if path.starts_with("/slow") {
                    known.asked.fetch_add(1, Ordering::SeqCst);
                    known.wait(&path)
                } else {
                    Word::Answer
                };
                match word {
                    Word::Answer => conversation.answer(&format!("{name} {}", request.text())),
                    Word::Fail => {
                        conversation.send("HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nfail");
                        known.failed.fetch_add(1, Ordering::SeqCst);
                    }
                    Word::HangUp => return,
                    Word::Listen => {
                        let closed = usize::from(conversation.is_closed());
                        known.closed.fetch_add(closed, Ordering::SeqCst);
                        return;
                    }
                }
            }
        });
        Self { replica, words }
    }

    fn address(&self) -> SocketAddr {
        self.replica.address
    }

    fn say(&self, path: &str, word: Word) {
        self.words.said.lock().unwrap().insert(path.to_owned(), word);
        self.words.news.notify_all();
    }

    /// Slow requests so far.
    fn asked(&self) -> usize {
        self.words.asked.load(Ordering::SeqCst)
    }

    fn wait_for_asked(&self, count: usize) {
        eventually("the replica is asked", || self.asked() == count);
    }

    fn wait_for_close(&self, path: &str) {
        self.say(path, Word::Listen);
        eventually("the close", || self.words.closed.load(Ordering::SeqCst) == 1);
    }
}

impl Words {
    fn wait(&self, path: &str) -> Word {
        let said = self.said.lock().unwrap();
        let waits = |said: &mut HashMap<String, Word>| !said.contains_key(path);
        let (said, _) = self.news.wait_timeout_while(said, PATIENCE * 3, waits).unwrap();
        said.get(path).copied().unwrap_or(Word::HangUp)
    }
}

fn start(addresses: &[SocketAddr], change: impl FnOnce(&mut ProxyConfig)) -> Proxy {
    let change = |config: &mut ProxyConfig| {
        config.hedge_percent = Some(2);
        config.attempts_header = true;
        change(config);
    };
    Proxy::with(addresses, change, axum::Router::new())
}

/// A proxy that hedges, and has learnt what is slow.
fn hedging(addresses: &[SocketAddr]) -> Proxy {
    hedging_with(addresses, |_| {})
}

fn hedging_with(addresses: &[SocketAddr], change: impl FnOnce(&mut ProxyConfig)) -> Proxy {
    let proxy = start(addresses, change);
    learn(&proxy);
    proxy
}

fn learn(proxy: &Proxy) {
    let mut client = proxy.client();
    // Not more than it takes: from then on slow ones would be hedged.
    for number in 0..100 {
        assert_eq!(client.get(&format!("/fast?id={number}")).status(), 200);
    }
    eventually("it is measured", || proxy.workers.metrics().hedge_measurements > 0);
    assert_eq!(proxy.workers.metrics().hedges, 0, "not before it is known what is slow");
}

fn ask(proxy: &Proxy, method: &str, path: &str, rest: &str) -> Client {
    ask_of(proxy, method, path, rest, 0)
}

/// Asks for a path with a key of a replica, by its place in the table.
fn ask_of(proxy: &Proxy, method: &str, path: &str, rest: &str, replica: usize) -> Client {
    let mut client = proxy.client();
    let query = proxy.query_of(replica);
    client.send(format!("{method} {path}?{query} HTTP/1.1\r\nHost: h\r\n{rest}\r\n"));
    client
}

fn get(proxy: &Proxy, path: &str) -> Client {
    ask(proxy, "GET", path, "")
}

fn wait_for_hedges(proxy: &Proxy, count: u64) {
    eventually("the hedge", || proxy.workers.metrics().hedges == count);
}

/// Three replicas that hold, whose first is asked by a request and whose second by its hedge.
fn both_asked(proxy: &Proxy, held: &[Held; 3], path: &str) -> (Client, usize) {
    let before: Vec<usize> = held.iter().map(Held::asked).collect();
    let hedges = proxy.workers.metrics().hedges;
    let client = get(proxy, path);
    wait_for_hedges(proxy, hedges + 1);
    let mut second = 0;
    eventually("both are asked", || {
        let asked = |place: &usize| held[*place].asked() > before[*place];
        second = [1, 2].into_iter().find(asked).unwrap_or(0);
        asked(&0) && second > 0
    });
    (client, second)
}

fn three() -> [Held; 3] {
    [Held::start("a"), Held::start("b"), Held::start("c")]
}

fn addresses(held: &[Held; 3]) -> [SocketAddr; 3] {
    [held[0].address(), held[1].address(), held[2].address()]
}

const NAMES: [&str; 3] = ["a", "b", "c"];

#[test]
fn a_slow_request_is_answered_by_the_successor() {
    let (slow, fast) = (Held::start("slow"), Replica::echo("fast"));
    let mut proxy = hedging(&[slow.address(), fast.address]);
    let served = |totals: &Totals| -> Vec<u64> {
        totals.replicas.values().map(|served| served.requests()).collect()
    };
    let before = served(&proxy.workers.metrics());
    let reply = get(&proxy, "/slow").reply();
    assert_eq!((reply.status(), &reply.text()[..10]), (200, "fast /slow"));
    assert_eq!(reply.field("x-ringmaster-attempts"), ["2"]);
    slow.wait_for_close("/slow");
    let totals = proxy.workers.metrics();
    assert_eq!((totals.hedges, totals.hedges_won, totals.hedges_denied), (1, 1, 0));
    let after = served(&totals);
    let gained: Vec<_> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    assert_eq!(gained, [0, 1], "the answer that was passed on is what counts");
    // The one that lost did not fail.
    assert_eq!((totals.retries, totals.lost, totals.given_up), (0, 0, 0));
    assert!(totals.instances.iter().all(|(_, counted)| counted.errors == 0));
    assert_eq!(proxy.reported(), []);
    assert_eq!(proxy.routes.in_flight(instance(1, 1)), 0);
    assert_eq!(proxy.routes.in_flight(instance(2, 1)), 0);
}

#[test]
fn the_first_wins_if_it_answers_first() {
    let held = three();
    let proxy = hedging(&addresses(&held));
    let (mut client, second) = both_asked(&proxy, &held, "/slow");
    held[0].say("/slow", Word::Answer);
    let reply = client.reply();
    assert_eq!((reply.text(), reply.field("x-ringmaster-attempts")), ("a ", vec!["2"]));
    held[second].wait_for_close("/slow");
    let totals = proxy.workers.metrics();
    assert_eq!((totals.hedges, totals.hedges_won, totals.retries), (1, 0, 0));
    // Its connection is as good as new.
    let connections = held[0].replica.connections();
    assert_eq!(client.get(&format!("/fast?{}", proxy.query_of(0))).text(), "a ");
    assert_eq!(held[0].replica.connections(), connections);
}

#[test]
fn it_is_off_by_default() {
    assert_eq!(ProxyConfig::default().hedge_percent, None);
    let (slow, fast) = (Held::start("slow"), Replica::echo("fast"));
    let addresses = [slow.address(), fast.address];
    let other = hedging(&addresses);
    let proxy = Proxy::start(&addresses);
    let mut client = proxy.client();
    (0..120).for_each(|_| assert_eq!(client.get("/fast").status(), 200));
    let mut client = get(&proxy, "/slow");
    slow.wait_for_asked(1);
    // Who came later elsewhere has waited for long enough.
    assert_eq!(&get(&other, "/slow").reply().text()[..4], "fast");
    slow.say("/slow", Word::Answer);
    assert_eq!(client.reply().text(), "slow ");
    let totals = proxy.workers.metrics();
    assert_eq!((totals.hedges, totals.hedges_denied, totals.hedge_measurements), (0, 0, 0));
}

#[test]
fn only_what_can_be_repeated_is_hedged() {
    let (slow, fast) = (Held::start("slow"), Replica::echo("fast"));
    let proxy = hedging(&[slow.address(), fast.address]);
    let large = format!("Content-Length: 70000\r\n\r\n{}", "x".repeat(70_000 - 2));
    let requests = [
        ("POST", ""),
        ("PATCH", ""),
        ("POST", "Content-Length: 2\r\n\r\n"),
        ("PUT", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"),
        ("PUT", large.as_str()),
        ("GET", "Connection: upgrade\r\nUpgrade: other\r\n"),
    ];
    let mut clients: Vec<Client> =
        requests.iter().map(|(method, rest)| ask(&proxy, method, "/slow/once", rest)).collect();
    slow.wait_for_asked(requests.len());
    // These came later, and are hedged.
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        let head = ask(&proxy, method, "/slow/again", "").0.head().unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{method}: {head}");
    }
    slow.say("/slow/once", Word::Answer);
    for (client, request) in clients.iter_mut().zip(requests) {
        let reply = client.reply();
        assert_eq!(
            &reply.text()[..5],
            "slow ",
            "{} {}",
            request.0,
            &request.1[..20.min(request.1.len())]
        );
        assert_eq!(reply.field("x-ringmaster-attempts"), ["1"]);
    }
    let totals = proxy.workers.metrics();
    assert_eq!((totals.hedges, totals.hedges_won, totals.hedges_denied), (5, 5, 0));
}

#[test]
fn a_kept_body_goes_to_both() {
    let held = three();
    let proxy = hedging(&addresses(&held));
    let mut client = ask(&proxy, "PUT", "/slow", "Content-Length: 4\r\n\r\nbo");
    wait_for_hedges(&proxy, 1);
    held[1].say("/slow", Word::Answer);
    held[2].say("/slow", Word::Answer);
    let text = client.reply().text().to_owned();
    assert!(["b bo\r\n", "c bo\r\n"].contains(&text.as_str()), "{text:?}");
}

#[test]
fn the_budget_holds() {
    let held = three();
    let proxy = hedging(&addresses(&held));
    let mut sent = 0;
    for batch in 0..10 {
        let path = format!("/slow/{batch}");
        held[1].say(&path, Word::Answer);
        held[2].say(&path, Word::Answer);
        let clients: Vec<Client> = (0..100).map(|_| get(&proxy, &path)).collect();
        sent += clients.len() as u64;
        eventually("all are slow", || {
            let totals = proxy.workers.metrics();
            totals.hedges + totals.hedges_denied == sent
        });
        held[0].say(&path, Word::Answer);
        for mut client in clients {
            assert_eq!(client.reply().status(), 200);
        }
    }
    let totals = proxy.workers.metrics();
    assert_eq!(sent, 1_000);
    // 2 % of all, and the burst at the beginning.
    assert!((20..=20 + 10).contains(&totals.hedges), "{}", totals.hedges);
    assert_eq!(totals.answered_5xx, 0);
}

#[test]
fn without_another_replica_or_attempt_there_is_no_hedge() {
    let (slow, fast) = (Held::start("slow"), Replica::echo("fast"));
    let both = [slow.address(), fast.address];
    let other = hedging(&both);
    let proxies = [
        hedging(&both[..1]),
        hedging_with(&both, |config| config.attempts = 1),
        hedging_with(&both[..1], |config| config.attempts = 1),
    ];
    let mut clients: Vec<Client> = proxies.iter().map(|proxy| get(proxy, "/slow")).collect();
    slow.wait_for_asked(3);
    assert_eq!(&get(&other, "/slow").reply().text()[..4], "fast");
    slow.say("/slow", Word::Answer);
    for (client, proxy) in clients.iter_mut().zip(&proxies) {
        assert_eq!(client.reply().text(), "slow ");
        let totals = proxy.workers.metrics();
        assert_eq!((totals.hedges, totals.hedges_denied), (0, 0));
    }
}

#[test]
fn a_hedge_is_one_of_the_attempts() {
    let held = three();
    let mut proxy = hedging_with(&addresses(&held), |config| config.attempts = 2);
    let (mut client, second) = both_asked(&proxy, &held, "/slow");
    held[0].say("/slow", Word::HangUp);
    held[second].say("/slow", Word::HangUp);
    assert_eq!(client.reply().status(), 502);
    assert_eq!(held[3 - second].asked(), 0);
    assert_eq!(proxy.reported().len(), 2);

    // One that was refused leaves two: a slow one, and its hedge.
    let held = three();
    let proxy = hedging(&addresses(&held));
    let new = [Some(refusing()), Some(held[1].address()), Some(held[2].address())];
    let mut moved = table(&new, &[]);
    moved.targets[0].as_mut().unwrap().instance = instance(1, 2);
    proxy.routes.publish(moved);
    eventually("the table", || proxy.workers.metrics().tables == 2);
    let mut client = get(&proxy, "/slow/three");
    wait_for_hedges(&proxy, 1);
    eventually("both are asked", || held[1].asked() == 1 && held[2].asked() == 1);
    held[1].say("/slow/three", Word::Answer);
    let reply = client.reply();
    assert_eq!((reply.text(), reply.field("x-ringmaster-attempts")), ("b ", vec!["3"]));
}

#[test]
fn a_first_that_fails_leaves_the_answer_to_the_hedge() {
    let held = three();
    let mut proxy = hedging(&addresses(&held));
    let (mut client, second) = both_asked(&proxy, &held, "/slow");
    held[0].say("/slow", Word::HangUp);
    // Known at once, though the hedge is still under way.
    eventually("the first is given back", || proxy.routes.in_flight(instance(1, 1)) == 0);
    assert_eq!(proxy.reported(), [(instance(1, 1), FailureKind::Reset)]);
    held[second].say("/slow", Word::Answer);
    let reply = client.reply();
    assert_eq!(reply.text(), format!("{} ", NAMES[second]));
    assert_eq!(reply.field("x-ringmaster-attempts"), ["2"]);
    let totals = proxy.workers.metrics();
    assert_eq!((totals.hedges_won, totals.lost, totals.retries), (1, 1, 0));
    assert_eq!(totals.instances[0].1.errors, 1);
}

#[test]
fn a_hedge_that_fails_leaves_the_answer_to_the_first() {
    let held = three();
    let mut proxy = hedging(&addresses(&held));
    let (mut client, second) = both_asked(&proxy, &held, "/slow");
    held[second].say("/slow", Word::HangUp);
    let id = instance(u32::try_from(second).unwrap() + 1, 1);
    eventually("the hedge is given back", || proxy.routes.in_flight(id) == 0);
    assert_eq!(proxy.reported(), [(id, FailureKind::Reset)]);
    held[0].say("/slow", Word::Answer);
    let reply = client.reply();
    assert_eq!((reply.text(), reply.field("x-ringmaster-attempts")), ("a ", vec!["2"]));
    let totals = proxy.workers.metrics();
    assert_eq!((totals.hedges, totals.hedges_won, totals.retries), (1, 0, 0));
}

#[test]
fn if_both_fail_the_third_is_asked() {
    let held = three();
    let proxy = hedging(&addresses(&held));
    let (mut client, second) = both_asked(&proxy, &held, "/slow");
    let third = 3 - second;
    held[third].say("/slow", Word::Answer);
    held[second].say("/slow", Word::HangUp);
    held[0].say("/slow", Word::HangUp);
    let reply = client.reply();
    assert_eq!(reply.text(), format!("{} ", NAMES[third]));
    assert_eq!(reply.field("x-ringmaster-attempts"), ["3"]);
    let totals = proxy.workers.metrics();
    assert_eq!((totals.hedges, totals.hedges_won, totals.retries), (1, 0, 1));
}

#[test]
fn an_error_of_the_hedge_does_not_replace_what_the_first_says() {
    let held = three();
    let proxy = hedging(&addresses(&held));
    let errors = |proxy: &Proxy| -> u64 {
        proxy.workers.metrics().instances.iter().map(|(_, counted)| counted.errors).sum()
    };
    let fail = |held: &Held, path: &str| {
        let before = held.words.failed.load(Ordering::SeqCst);
        held.say(path, Word::Fail);
        eventually("the error", || held.words.failed.load(Ordering::SeqCst) > before);
        // One turn of the worker's event loop, so that it has seen it.
        assert_eq!(proxy.get("/rep").status(), 404);
    };
    let (mut client, second) = both_asked(&proxy, &held, "/slow/1");
    fail(&held[second], "/slow/1");
    held[0].say("/slow/1", Word::Answer);
    assert_eq!(client.reply().text(), "a ");
    assert_eq!(errors(&proxy), 1);
    // If the first fails, the error is all there is.
    let (mut client, second) = both_asked(&proxy, &held, "/slow/2");
    fail(&held[second], "/slow/2");
    held[0].say("/slow/2", Word::HangUp);
    assert_eq!(client.reply().status(), 500);
    assert_eq!(errors(&proxy), 3);
    // The first one's own error is an answer like another.
    let (mut client, _) = both_asked(&proxy, &held, "/slow/3");
    held[0].say("/slow/3", Word::Fail);
    assert_eq!(client.reply().status(), 500);
}

#[test]
fn an_ejected_first_leaves_the_hedge_alone() {
    let held = three();
    let mut proxy = hedging(&addresses(&held));
    let (mut client, second) = both_asked(&proxy, &held, "/slow");
    let [_, b, c] = addresses(&held).map(Some);
    // Out of the table, but allowed to finish: nothing happens to it.
    proxy.routes.publish(table(&[None, b, c], &[instance(1, 1)]));
    eventually("the table", || proxy.workers.metrics().tables == 2);
    assert_eq!(proxy.routes.in_flight(instance(1, 1)), 1);
    proxy.routes.publish(table(&[None, b, c], &[]));
    held[0].wait_for_close("/slow");
    assert!(proxy.is_drained(instance(1, 1), Duration::from_secs(5)));
    assert_eq!(proxy.workers.metrics().given_up, 1);
    held[second].say("/slow", Word::Answer);
    assert_eq!(client.reply().text(), format!("{} ", NAMES[second]));
    assert_eq!(proxy.reported(), []);
}

#[test]
fn an_ejected_hedge_leaves_the_first_alone() {
    let held = three();
    let proxy = hedging(&addresses(&held));
    let (mut client, second) = both_asked(&proxy, &held, "/slow");
    let mut left = addresses(&held).map(Some);
    left[second] = None;
    proxy.routes.publish(table(&left, &[]));
    held[second].wait_for_close("/slow");
    // Then the first as well: there is nobody but the third.
    let third = 3 - second;
    held[third].say("/slow", Word::Answer);
    assert_eq!(held[third].asked(), 0);
    left[0] = None;
    proxy.routes.publish(table(&left, &[]));
    let reply = client.reply();
    assert_eq!(reply.text(), format!("{} ", NAMES[third]));
    assert_eq!(reply.field("x-ringmaster-attempts"), ["3"]);
    assert_eq!(proxy.workers.metrics().given_up, 2);
}

#[test]
fn if_both_are_ejected_at_once_the_third_is_asked() {
    let held = three();
    let proxy = hedging(&addresses(&held));
    let (mut client, second) = both_asked(&proxy, &held, "/slow");
    let third = 3 - second;
    held[third].say("/slow", Word::Answer);
    let mut left = [None; 3];
    left[third] = Some(held[third].address());
    proxy.routes.publish(table(&left, &[]));
    assert_eq!(client.reply().text(), format!("{} ", NAMES[third]));
    assert_eq!(proxy.workers.metrics().given_up, 2);
    for id in [instance(1, 1), instance(u32::try_from(second).unwrap() + 1, 1)] {
        assert_eq!(proxy.routes.in_flight(id), 0);
    }
}

#[test]
fn the_deadline_is_that_of_the_request() {
    let held = three();
    let change = |config: &mut ProxyConfig| config.first_byte = Duration::from_millis(500);
    let mut proxy = hedging_with(&addresses(&held), change);
    let (mut client, _) = both_asked(&proxy, &held, "/slow");
    assert_eq!(client.reply().status(), 504);
    let reported = proxy.reported();
    assert_eq!(reported.len(), 2, "{reported:?}");
    assert!(reported.iter().all(|(_, kind)| *kind == FailureKind::FirstByteTimeout));
    let totals = proxy.workers.metrics();
    assert!(totals.instances.iter().all(|(_, counted)| counted.in_flight == 0));
}

#[test]
fn a_client_that_leaves_ends_both() {
    let held = three();
    let proxy = hedging(&addresses(&held));
    let (client, second) = both_asked(&proxy, &held, "/slow");
    drop(client);
    held[0].wait_for_close("/slow");
    held[second].wait_for_close("/slow");
    eventually("nothing is in flight", || {
        proxy.workers.metrics().instances.iter().all(|(_, counted)| counted.in_flight == 0)
    });
}

#[test]
fn a_hedge_does_not_queue() {
    let (slow, busy) = (Held::start("slow"), Held::start("busy"));
    let addresses = [slow.address(), busy.address()];
    let one = Concurrency { in_flight_max: 1, waiting_max: 9, deadline: Duration::from_secs(10) };
    let proxy = hedging_with(&addresses, |config| config.concurrency = Some(one));
    let mut occupant = ask_of(&proxy, "POST", "/slow", "", 1);
    busy.wait_for_asked(1);
    let mut client = get(&proxy, "/slow");
    slow.wait_for_asked(1);
    let other = hedging(&[slow.address(), Replica::echo("fast").address]);
    assert_eq!(&get(&other, "/slow").reply().text()[..4], "fast");
    slow.say("/slow", Word::Answer);
    assert_eq!(client.reply().text(), "slow ");
    busy.say("/slow", Word::Answer);
    assert_eq!(occupant.reply().text(), "busy ");
    let totals = proxy.workers.metrics();
    assert_eq!((totals.hedges, totals.queued), (0, 0));
    // Where there is room it is sent.
    let (slow, busy) = (Held::start("slow"), Held::start("busy"));
    busy.say("/slow", Word::Answer);
    let addresses = [slow.address(), busy.address()];
    let proxy = hedging_with(&addresses, |config| config.concurrency = Some(one));
    assert_eq!(get(&proxy, "/slow").reply().text(), "busy ");
}

#[test]
fn the_access_log_says_that_a_hedge_won() {
    let name = format!("ringmaster-hedge-{}.log", std::process::id());
    let file = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&file);
    let (slow, fast) = (Held::start("slow"), Held::start("fast"));
    let settings =
        AccessLogSettings { format: LogFormat::Json, file: Some(file.clone()), sample: 1.0 };
    let mut proxy = hedging_with(&[slow.address(), fast.address()], |config| {
        config.access_log = Some(settings);
    });
    fast.say("/slow/hedge", Word::Answer);
    assert_eq!(get(&proxy, "/slow/hedge").reply().text(), "fast ");
    let mut client = get(&proxy, "/slow/first");
    wait_for_hedges(&proxy, 2);
    slow.say("/slow/first", Word::Answer);
    assert_eq!(client.reply().text(), "slow ");
    drop(client);
    proxy.shutdown(PATIENCE);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let why = |path: &str| {
        let line = text.lines().find(|line| line.contains(path)).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (line["why"].as_str().unwrap().to_owned(), line["attempts"].as_u64().unwrap())
    };
    assert_eq!(why("/slow/hedge"), ("hedge".to_owned(), 2));
    assert_eq!(why("/slow/first"), ("ring".to_owned(), 2));
}

/// Counts when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A server of HTTP/2 that never answers `/slow`, its connections, and those it was told to forget.
fn h2_replica(
    runtime: &tokio::runtime::Runtime,
    is_slow: bool,
) -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, forgotten) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, forget) = (Arc::clone(&connections), Arc::clone(&forgotten));
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let forget = Arc::clone(&forget);
            let service = hyper::service::service_fn(move |request: http::Request<_>| {
                let forget = Arc::clone(&forget);
                let _: &hyper::body::Incoming = request.body();
                async move {
                    if is_slow && request.uri().path() == "/slow" {
                        let _dropped = Dropped(forget);
                        std::future::pending::<()>().await;
                    }
                    let body = if is_slow { "slow" } else { "fast" };
                    Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(body))))
                }
            });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, connections, forgotten)
}

#[test]
fn streams_of_http2_are_hedged_and_cancelled_alone() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (slow, connections, forgotten) = h2_replica(&runtime, true);
    let (fast, ..) = h2_replica(&runtime, false);
    let change = |config: &mut ProxyConfig| config.upstream_protocol = UpstreamProtocol::H2c;
    let mut proxy = hedging_with(&[slow, fast], change);
    assert_eq!(get(&proxy, "/slow").reply().text(), "fast");
    eventually("the stream is reset", || forgotten.load(Ordering::SeqCst) == 1);
    assert_eq!(get(&proxy, "/other").reply().text(), "slow");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    assert_eq!((proxy.workers.metrics().hedges_won, proxy.reported()), (1, vec![]));
}
