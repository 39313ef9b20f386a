//! What is counted of each replica is exactly what clients got, whatever way it came.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, mpsc},
    time::Duration,
};

use ringmaster_core::fleet::ids::ReplicaId;
use ringmaster_proxy::{ProxyConfig, Totals};

use crate::support::{Client, Proxy, Replica, eventually, refusing, splices, table};

/// Answers by the path: `/status/N`, `/cut`, `/still`, else 200.
fn replica() -> Replica {
    cutting(mpsc::sync_channel(0).1)
}

/// The same, and breaks an answer off when told.
fn cutting(told: mpsc::Receiver<()>) -> Replica {
    let told = Mutex::new(told);
    Replica::start(move |mut conversation, _| {
        while let Some(request) = conversation.message() {
            let path = request.target().split('?').next().unwrap().to_owned();
            let status = path.strip_prefix("/status/").unwrap_or("200");
            let upgrade =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n";
            match path.as_str() {
                "/cut" => {
                    conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfive!");
                    let _ = told.lock().unwrap().recv();
                    return;
                }
                // The head alone, until the other side gives up.
                "/still" => conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
                "/early" => conversation.send(
                    "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                ),
                "/tunnel" => conversation.send(format!("{upgrade}\r\n")),
                "/own" => conversation.send(
                    "HTTP/1.1 200 OK\r\nX-Load-Balancer-Server: me\r\nx-load-balancer-server: too\r\n\
                     X-Load-Balancer-Response-Time: never\r\nContent-Length: 0\r\n\r\n",
                ),
                _ => conversation.send(format!("HTTP/1.1 {status} S\r\nContent-Length: 2\r\n\r\nok")),
            }
        }
    })
}

fn proxy(addresses: &[SocketAddr], change: impl FnOnce(&mut ProxyConfig)) -> Proxy {
    Proxy::with(
        addresses,
        |config| {
            config.server_headers = true;
            config.workers = 2;
            change(config);
        },
        axum::Router::new(),
    )
}

/// Answers and errors by replica; those of replicas that have left are at 0.
fn counted(proxy: &Proxy) -> BTreeMap<u32, (u64, u64)> {
    let Totals { replicas, gone, .. } = proxy.workers.metrics();
    let gone = (ReplicaId(0), gone);
    let all = replicas.into_iter().chain([gone]);
    let all = all.map(|(id, totals)| (id.0, (totals.requests(), totals.errors)));
    all.filter(|(_, counted)| *counted != (0, 0)).collect()
}

/// Who answered, as the head of the answer says.
fn server_of(head: &str) -> Option<u32> {
    let line = head.lines().find_map(|line| line.strip_prefix("x-load-balancer-server: "))?;
    Some(line.strip_prefix("server_").unwrap().parse().unwrap())
}

#[test]
fn what_clients_counted_is_what_is_counted() {
    let replicas = [replica(), replica(), replica()];
    let addresses: Vec<SocketAddr> = replicas.iter().map(|replica| replica.address).collect();
    let proxy = proxy(&addresses, |_| {});
    let paths = ["/", "/status/204", "/status/404", "/status/500", "/status/503", "/early"];
    let mut own = BTreeMap::<u32, (u64, u64)>::new();
    let mut clients = [proxy.client(), proxy.client(), proxy.client()];
    for number in 0..600 {
        let path = paths[number % paths.len()];
        let target = format!("{path}?id=key-{number}");
        let client = &mut clients[number % 3];
        let mut reply = match path {
            "/status/204" => {
                let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
                client.send(head);
                client.bare_reply()
            }
            _ => client.get(&target),
        };
        if reply.status() == 103 {
            reply = client.reply();
        }
        let one = own.entry(server_of(&reply.head).expect("a name")).or_default();
        *one = (one.0 + 1, one.1 + u64::from(reply.status() >= 500));
        // At once, not eventually.
        assert_eq!(counted(&proxy), own, "after {number}");
    }
    assert_eq!(own.len(), 3);
    let totals = proxy.workers.metrics();
    assert_eq!(totals.unserved, 0);
    for served in totals.replicas.values() {
        assert!(served.times.micros > 0 && served.times.percentile(0.5).is_some());
    }
}

#[test]
fn attempts_that_no_client_saw_are_not_counted() {
    let good = replica();
    let lost = Replica::start(|mut conversation, _| {
        let _ = conversation.message();
    });
    let proxy = proxy(&[good.address, lost.address, refusing()], |_| {});
    for number in 1..=40 {
        let reply = proxy.get(&format!("/?id=key-{number}"));
        assert_eq!((reply.status(), server_of(&reply.head)), (200, Some(1)));
        assert_eq!(counted(&proxy), [(1, (number, 0))].into());
    }
    assert!(proxy.workers.metrics().retries > 0, "some of them had another owner");
}

#[test]
fn an_answer_that_breaks_off_is_one_error() {
    let (cut, told) = mpsc::sync_channel(0);
    let replica = cutting(told);
    let proxy = proxy(&[replica.address], |config| {
        config.body_idle = Duration::from_millis(200);
        config.request_timeout = Some(Duration::from_secs(3));
    });
    for (number, path) in ["/cut", "/still", "/status/500"].into_iter().enumerate() {
        let mut client = proxy.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let head = client.0.head().unwrap();
        assert_eq!(server_of(&head), Some(1));
        if path == "/cut" {
            cut.send(()).unwrap();
        }
        let whole = client.0.body(head, false);
        assert_eq!(whole.is_some(), path == "/status/500", "{path}");
        let seen = number as u64 + 1;
        assert_eq!(counted(&proxy), [(1, (seen, seen))].into(), "{path}");
    }
    // A client that goes away has nobody to blame.
    let mut client = proxy.client();
    client.send("GET /still HTTP/1.1\r\nHost: h\r\n\r\n");
    client.0.head().unwrap();
    drop(client);
    eventually("it has gone", || proxy.workers.open_connections() == 0);
    assert_eq!(counted(&proxy), [(1, (4, 3))].into());
}

#[test]
fn a_large_answer_that_breaks_off_inside_the_kernel_is_an_error() {
    let replica = Replica::start(|mut conversation, _| {
        let _ = conversation.message();
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        conversation.send(vec![b'x'; 700_000]);
    });
    let proxy = proxy(&[replica.address], |_| {});
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.0.head().unwrap();
    assert!(client.0.body(head, false).is_none());
    let totals = proxy.workers.metrics();
    assert_eq!((totals.spliced, counted(&proxy)), (u64::from(splices()), [(1, (1, 1))].into()));
}

#[test]
fn upgrades_and_translated_answers_count_and_answers_of_ours_do_not() {
    let replicas = [replica()];
    let proxy = proxy(&[replicas[0].address], |config| config.not_found_as_400 = true);
    let reply = proxy.get("/status/404");
    assert_eq!((reply.status(), server_of(&reply.head)), (400, Some(1)));
    let upgrade = "Connection: upgrade\r\nUpgrade: x\r\n\r\n";
    let mut client = proxy.client();
    client.send(format!("GET /tunnel HTTP/1.1\r\nHost: h\r\n{upgrade}"));
    let head = client.0.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && server_of(&head) == Some(1), "{head}");
    assert_eq!(counted(&proxy), [(1, (2, 0))].into());
    // Refused before a replica is asked.
    let bad = proxy.client().request("CONNECT", "h:1", "\r\n");
    assert_eq!((bad.status(), server_of(&bad.head)), (405, None));
    assert_eq!(proxy.workers.metrics().unserved, 0);
    proxy.routes.publish(table(&[None], &[]));
    eventually("the table", || proxy.workers.metrics().tables == 4);
    let none = proxy.get("/");
    assert_eq!((none.status(), server_of(&none.head)), (503, None));
    assert_eq!(proxy.workers.metrics().unserved, 1);
    assert_eq!(counted(&proxy), [(1, (2, 0))].into());
}

#[test]
fn what_a_replica_says_in_our_fields_is_replaced_and_only_if_they_are_asked_for() {
    let replicas = [replica()];
    let told = proxy(&[replicas[0].address], |_| {});
    let reply = told.get("/own");
    assert_eq!(reply.field("x-load-balancer-server"), ["server_1"]);
    let [time] = reply.field("x-load-balancer-response-time")[..] else { panic!("{}", reply.head) };
    let (whole, parts) = time.split_once('.').unwrap();
    assert!(whole.parse::<u64>().is_ok() && parts.len() == 3 && parts.parse::<u64>().is_ok());
    let silent = Proxy::start(&[replicas[0].address]);
    assert!(silent.get("/").field("x-load-balancer-server").is_empty());
    assert_eq!(silent.get("/own").field("x-load-balancer-server"), ["me", "too"]);
}

#[test]
fn counts_outlive_instances_and_replicas() {
    let replicas = [replica(), replica()];
    let addresses = [replicas[0].address, replicas[1].address];
    let proxy = proxy(&addresses, |config| config.workers = 1);
    let queries = [proxy.query_of(0), proxy.query_of(1)];
    let mut clients: [Client; 2] = std::array::from_fn(|_| proxy.client());
    for (client, query) in clients.iter_mut().zip(&queries) {
        assert_eq!(client.get(&format!("/status/500?{query}")).status(), 500);
    }
    assert_eq!(counted(&proxy), [(1, (1, 1)), (2, (1, 1))].into());
    let publish = |tables: u64, addresses: &[Option<SocketAddr>]| {
        proxy.routes.publish(table(addresses, &[]));
        eventually("the table", || proxy.workers.metrics().tables == tables);
    };
    // The second one leaves, and then it is forgotten.
    for turn in 0..3 {
        publish(2 + turn, &[Some(addresses[0])]);
        assert_eq!(counted(&proxy), [(0, (1, 1)), (1, (1, 1))].into());
    }
    assert_eq!(proxy.workers.metrics().instances.len(), 1);
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(counted(&proxy), [(0, (1, 1)), (1, (2, 1))].into());
}
