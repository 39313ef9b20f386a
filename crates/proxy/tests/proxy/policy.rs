//! Who gets a request under each policy, with replicas that can be kept busy.

use std::{
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use crate::support::{
    Client, PATIENCE, Proxy, Replica, eventually, instance, refusing, table, weighted_table,
};
use ringmaster_core::{balance::Policy, fleet::message::FailureKind};
use ringmaster_proxy::ProxyConfig;

/// Holds the answers to `/hold` back until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let shut = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(shut, PATIENCE, |open| !*open).unwrap());
    }
}

/// Replicas that answer with their letter.
struct Fleet {
    proxy: Proxy,
    gate: Gate,
    replicas: Vec<Replica>,
}

impl Fleet {
    fn new(policy: Policy, count: usize) -> Self {
        Self::with(count, |config| config.policy = policy)
    }

    fn with(count: usize, change: impl FnOnce(&mut ProxyConfig)) -> Self {
        let gate = Gate::default();
        let replicas: Vec<Replica> = (0..count).map(|number| gated(number, &gate)).collect();
        let addresses: Vec<SocketAddr> = replicas.iter().map(|replica| replica.address).collect();
        let proxy = Proxy::with(&addresses, change, axum::Router::new());
        Self { proxy, gate, replicas }
    }

    /// The same replicas with weights.
    fn weigh(&self, weights: &[u32]) {
        let addresses: Vec<_> = self.replicas.iter().map(|replica| Some(replica.address)).collect();
        let before = self.proxy.workers.metrics().tables;
        self.proxy.routes.publish(weighted_table(&addresses, weights));
        eventually("the new table", || self.proxy.workers.metrics().tables > before);
    }

    /// Who answers so many requests without a key of their own, as letters.
    fn letters(&self, requests: usize) -> String {
        let mut client = self.proxy.client();
        (0..requests).map(|_| letter(&mut client, "/")).collect()
    }

    /// A request that stays open until the gate opens.
    fn hold(&self, query: &str) -> Client {
        let before = self.in_flight().iter().sum::<u64>();
        let mut client = self.proxy.client();
        client.send(format!("GET /hold?{query} HTTP/1.1\r\nHost: h\r\n\r\n"));
        eventually("it is open", || self.in_flight().iter().sum::<u64>() == before + 1);
        client
    }

    fn in_flight(&self) -> Vec<u64> {
        let one = |id| self.proxy.routes.in_flight(instance(id, 1));
        (1..=self.replicas.len() as u32).map(one).collect()
    }
}

fn letter(client: &mut Client, target: &str) -> char {
    let reply = client.get(target);
    assert_eq!(reply.status(), 200, "{}", reply.head);
    reply.text().chars().next().unwrap()
}

fn gated(number: usize, gate: &Gate) -> Replica {
    let (letter, gate) = (name_of(number), gate.clone());
    Replica::start(move |mut conversation, _| {
        while let Some(request) = conversation.message() {
            if request.target().starts_with("/hold") {
                gate.pass();
            }
            conversation.answer(&letter);
        }
    })
}

fn name_of(number: usize) -> String {
    char::from(b'a' + number as u8).to_string()
}

fn count(letters: &str, wanted: char) -> usize {
    letters.chars().filter(|letter| *letter == wanted).count()
}

#[test]
fn round_robin_goes_round() {
    let fleet = Fleet::new(Policy::RoundRobin, 3);
    assert_eq!(fleet.letters(9), "abcabcabc");
    // The key does not matter, nor does the connection.
    let query = fleet.proxy.query_of(1);
    let by_key: String =
        (0..3).map(|_| letter(&mut fleet.proxy.client(), &format!("/?{query}"))).collect();
    assert_eq!(by_key, "abc");
    assert_eq!(fleet.proxy.workers.metrics().keys_random, 0, "no key is looked for");
    // Who is not admitted is left out, and takes part again when it is back.
    let addresses: Vec<_> = fleet.replicas.iter().map(|replica| Some(replica.address)).collect();
    let publish = |addresses: &[Option<SocketAddr>]| {
        let before = fleet.proxy.workers.metrics().tables;
        fleet.proxy.routes.publish(table(addresses, &[]));
        eventually("the new table", || fleet.proxy.workers.metrics().tables > before);
    };
    publish(&[addresses[0], None, addresses[2]]);
    assert_eq!(fleet.letters(4), "acac");
    publish(&addresses);
    assert_eq!(fleet.letters(4), "abca");
}

#[test]
fn weighted_round_robin_goes_by_weight_and_not_in_blocks() {
    let fleet = Fleet::new(Policy::WeightedRoundRobin, 3);
    fleet.weigh(&[5, 1, 1]);
    assert_eq!(fleet.letters(14), "aabacaaaabacaa");
}

#[test]
fn retries_leave_out_who_was_tried() {
    for (policy, name) in Policy::ALL {
        let gate = Gate::default();
        let good = gated(0, &gate);
        let addresses = [refusing(), good.address, refusing()];
        let proxy = Proxy::with(&addresses, |config| config.policy = policy, axum::Router::new());
        let mut client = proxy.client();
        for number in 0..20 {
            assert_eq!(letter(&mut client, &format!("/?id={number}")), 'a', "{name}");
        }
        let totals = proxy.workers.metrics();
        assert!(totals.retries > 0 && totals.unanswered == 0, "{name}: {totals:?}");
    }
}

#[test]
fn a_full_owner_spills_to_the_next_of_its_keys_and_that_is_counted() {
    let fleet = Fleet::with(4, |config| {
        config.policy = Policy::Bounded;
        config.bounded_factor = 1.0;
    });
    let query = fleet.proxy.query_of(2);
    let mut held = Vec::new();
    let ring = fleet.proxy.routes.current().ring;
    let slot = ring.slot_of(query.trim_start_matches("id=").as_bytes());
    let order: Vec<usize> = ring.preference(slot).map(|member| member.0.into()).collect();
    assert_eq!(order[0], 2);
    // With little in flight the bound is three above the average, and so four.
    held.extend((0..4).map(|_| fleet.hold(&query)));
    assert_eq!((fleet.in_flight()[2], fleet.in_flight()[order[1]]), (4, 0));
    assert_eq!(fleet.proxy.workers.metrics().spills, 0);
    for already in 1..=2 {
        held.push(fleet.hold(&query));
        assert_eq!(fleet.in_flight()[2], 4);
        assert_eq!(fleet.in_flight()[order[1]], already, "the second of the same list");
        assert_eq!(fleet.proxy.workers.metrics().spills, already);
    }
    // No key moves but those of the full one.
    let other = fleet.proxy.query_of(order[3]);
    let expected = name_of(order[3]).chars().next().unwrap();
    assert_eq!(letter(&mut fleet.proxy.client(), &format!("/?{other}")), expected);
    assert_eq!(fleet.proxy.workers.metrics().spills, 2);
    fleet.gate.open();
    for client in &mut held {
        assert_eq!(client.reply().status(), 200);
    }
    eventually("nothing is open", || fleet.in_flight().iter().sum::<u64>() == 0);
    assert_eq!(letter(&mut fleet.proxy.client(), &format!("/?{query}")), 'c', "back to its owner");
}

#[test]
fn under_ring_an_owner_keeps_its_keys_whatever_it_has_to_do() {
    let fleet = Fleet::new(Policy::Ring, 3);
    let query = fleet.proxy.query_of(1);
    let mut held: Vec<Client> = (0..10).map(|_| fleet.hold(&query)).collect();
    assert_eq!(fleet.in_flight(), [0, 10, 0]);
    fleet.gate.open();
    held.iter_mut().for_each(|client| assert_eq!(client.reply().status(), 200));
    assert_eq!(fleet.proxy.workers.metrics().spills, 0);
}

#[test]
fn least_in_flight_fills_up_evenly_and_by_weight() {
    let fleet = Fleet::new(Policy::LeastInFlight, 3);
    let mut held: Vec<Client> = (0..3).map(|_| fleet.hold("")).collect();
    assert_eq!(fleet.in_flight(), [1, 1, 1]);
    fleet.weigh(&[1, 2, 1]);
    held.push(fleet.hold(""));
    assert_eq!(fleet.in_flight(), [1, 2, 1], "half of the others' for its weight");
    held.extend((0..4).map(|_| fleet.hold("")));
    assert_eq!(fleet.in_flight(), [2, 4, 2]);
    fleet.gate.open();
    held.iter_mut().for_each(|client| assert_eq!(client.reply().status(), 200));
}

#[test]
fn the_busier_of_two_is_left_alone() {
    let fleet = Fleet::new(Policy::P2c, 2);
    let mut held = Vec::new();
    for each in 1..=5 {
        held.extend((0..2).map(|_| fleet.hold("")));
        assert_eq!(fleet.in_flight(), [each; 2]);
    }
    fleet.gate.open();
    held.iter_mut().for_each(|client| assert_eq!(client.reply().status(), 200));
}

#[test]
fn who_fails_fast_does_not_attract_load_under_peak_ewma() {
    let bad = Replica::answering(|_| "HTTP/1.1 500 Oh\r\nContent-Length: 1\r\n\r\nb".into());
    let slow = Replica::start(|mut conversation, _| {
        while conversation.message().is_some() {
            thread::sleep(Duration::from_millis(5));
            conversation.answer("a");
        }
    });
    for addresses in [[slow.address, bad.address], [slow.address, refusing()]] {
        let change = |config: &mut ProxyConfig| config.policy = Policy::PeakEwma;
        let proxy = Proxy::with(&addresses, change, axum::Router::new());
        let mut client = proxy.client();
        let answers = (0..100).filter(|_| client.get("/").text() == "a").count();
        assert!(answers >= 98, "{answers}");
        let totals = proxy.workers.metrics();
        assert!(totals.instances[1].1.requests <= 2, "{totals:?}");
    }
}

/// Under many clients at a time, each of which sends its next request when it has an answer.
#[test]
fn who_fails_fast_gets_no_more_than_its_part_under_load() {
    const CLIENTS: usize = 30;
    const EACH: usize = 100;
    for policy in [Policy::LeastInFlight, Policy::P2c, Policy::PeakEwma] {
        let bad = Replica::answering(|_| "HTTP/1.1 500 Oh\r\nContent-Length: 1\r\n\r\nb".into());
        let busy = || {
            Replica::start(|mut conversation, _| {
                while conversation.message().is_some() {
                    thread::sleep(Duration::from_millis(5));
                    conversation.answer("a");
                }
            })
        };
        let addresses = [busy().address, bad.address, busy().address];
        let change = |config: &mut ProxyConfig| config.policy = policy;
        let mut proxy = Proxy::with(&addresses, change, axum::Router::new());
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                let mut client = proxy.client();
                scope.spawn(move || (0..EACH).for_each(|_| drop(client.get("/"))));
            }
        });
        let totals = proxy.workers.metrics();
        assert_eq!(totals.requests, (CLIENTS * EACH) as u64);
        let requests = totals.instances[1].1.requests;
        let share = requests as f64 / totals.requests as f64;
        assert!(requests > 0 && share < 0.2, "{policy}: {requests} requests");
        // Its errors are worth one question, not one each.
        let reported = proxy.reported();
        assert_eq!(reported.len() as u64, totals.error_runs);
        assert!(reported.len() <= 1, "{policy}: {reported:?}");
        assert!(reported.iter().all(|one| *one == (instance(2, 1), FailureKind::Errors)));
    }
}

#[test]
fn random_goes_by_weight() {
    let fleet = Fleet::new(Policy::Random, 3);
    fleet.weigh(&[1, 4, 1]);
    let letters = fleet.letters(600);
    // 400 are expected; 300 is more than eight standard deviations away.
    assert!((300..500).contains(&count(&letters, 'b')), "{letters}");
    assert!(count(&letters, 'a') > 40 && count(&letters, 'c') > 40, "{letters}");
}
