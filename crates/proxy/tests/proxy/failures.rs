//! What a client gets when replicas fail, and what the control core hears of it.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, Proxy, Replica, eventually, instance, refusing, table};
use ringmaster_core::fleet::message::FailureKind;
use ringmaster_proxy::ProxyConfig;

/// Takes a whole request and closes without a word.
fn hanging_up() -> Replica {
    Replica::start(|mut conversation, _| {
        conversation.message();
    })
}

#[test]
fn a_refused_connection_is_passed_on_whatever_the_method() {
    let good = Replica::echo("good");
    let bad = refusing();
    let mut proxy = Proxy::start(&[good.address, bad]);
    let query = proxy.query_of(1);
    for method in ["GET", "POST", "PATCH", "DELETE"] {
        let reply = proxy.client().post(method, &format!("/?{query}"), "body");
        assert_eq!((reply.status(), &reply.text()[..4]), (200, "good"), "{method}");
    }
    let large = "x".repeat(1 << 20);
    let reply = proxy.client().post("POST", &format!("/?{query}"), &large);
    assert_eq!(reply.status(), 200);
    assert_eq!(proxy.reported(), [(instance(2, 1), FailureKind::Refused); 5]);
    let totals = proxy.workers.metrics();
    assert_eq!((totals.retries, totals.connects_failed), (5, 5));
    assert_eq!(totals.instances[1].1.errors, 5);
}

#[test]
fn refused_by_all_is_502_after_three_attempts_and_nobody_is_503() {
    let addresses: Vec<SocketAddr> = (0..5).map(|_| refusing()).collect();
    let mut proxy = Proxy::start(&addresses);
    let reply = proxy.get("/");
    assert_eq!(reply.status(), 502);
    assert_eq!(reply.text(), r#"{"message":"<Error> No replica answered","status":"failure"}"#);
    assert_eq!(reply.field("content-type"), ["application/json"]);
    assert_eq!(proxy.reported().len(), 3);
    proxy.routes.publish(table(&[None, None], &[]));
    let mut client = proxy.client();
    eventually("the empty table", || client.get("/").status() == 503);
    let reply = client.get("/");
    assert_eq!(reply.field("retry-after"), ["1"]);
    assert_eq!(
        reply.text(),
        r#"{"message":"<Error> No replica is in service","status":"failure"}"#
    );
}

#[test]
fn a_lost_connection_is_passed_on_only_for_what_may_be_done_twice() {
    let good = Replica::start(|mut conversation, _| {
        while let Some(request) = conversation.message() {
            let mark = request.field("x-mark").join("+");
            conversation.answer(&format!("good {}{mark}", request.text()));
        }
    });
    let bad = hanging_up();
    let mut proxy = Proxy::start(&[good.address, bad.address]);
    let target = format!("/?{}", proxy.query_of(1));
    for method in ["GET", "OPTIONS", "PUT", "DELETE"] {
        let reply = proxy.client().post(method, &target, "body");
        assert_eq!((reply.status(), reply.text()), (200, "good body"), "{method}");
    }
    let reply = proxy.client().request("GET", &target, "X-Mark: a\r\nX-Mark: b\r\n\r\n");
    assert_eq!(reply.text(), "good a+b");
    for method in ["POST", "PATCH"] {
        assert_eq!(proxy.client().post(method, &target, "body").status(), 502, "{method}");
    }
    let too_large = "x".repeat(65 * 1024);
    assert_eq!(proxy.client().post("PUT", &target, &too_large).status(), 502);
    let fits = "x".repeat(64 * 1024);
    assert_eq!(proxy.client().post("PUT", &target, &fits).status(), 200);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    assert_eq!(proxy.client().request("PUT", &target, chunked).status(), 502);
    assert_eq!(proxy.reported(), [(instance(2, 1), FailureKind::Reset); 10]);
    assert_eq!(bad.connections(), 10);
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let good = Replica::echo("good");
    let (next, wait) = mpsc::sync_channel::<()>(0);
    let wait = std::sync::Mutex::new(wait);
    let bad = Replica::start(move |mut conversation, _| {
        let request = conversation.message().unwrap();
        conversation.send(match request.target().starts_with("/head") {
            true => "HTTP/1.1 200 O",
            false => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!",
        });
        let _ = wait.lock().unwrap().recv();
    });
    let proxy = Proxy::start(&[good.address, bad.address]);
    let query = proxy.query_of(1);
    let mut client = proxy.client();
    client.send(format!("GET /head?{query} HTTP/1.1\r\nHost: h\r\n\r\n"));
    next.send(()).unwrap();
    assert_eq!(client.reply().status(), 502);
    client.send(format!("GET /body?{query} HTTP/1.1\r\nHost: h\r\n\r\n"));
    let head = client.0.head().unwrap();
    next.send(()).unwrap();
    assert!(client.0.body(head, false).is_none(), "the break is passed on");
    assert_eq!(good.connections(), 0);
    eventually("the count", || proxy.workers.metrics().cut_short == 1);
}

#[test]
fn what_is_not_http_is_502() {
    let good = Replica::echo("good");
    let bad = Replica::answering(|request| match request.target() {
        "/switch" => "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".into(),
        "/coding" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".into(),
        "/framing" => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".into(),
        _ => "SSH-2.0-OpenSSH\r\n".into(),
    });
    let mut proxy = Proxy::start(&[good.address, bad.address]);
    let key = proxy.query_of(1).replace("id=", "X-Request-ID: ");
    for target in ["/switch", "/coding", "/framing", "/"] {
        let reply = proxy.client().request("GET", target, &format!("{key}\r\n\r\n"));
        assert_eq!(reply.status(), 502, "{target}");
    }
    assert_eq!((proxy.reported(), good.connections()), (vec![], 0));
}

#[test]
fn a_connection_that_the_replica_has_just_closed_is_nobodys_failure() {
    let replica = Replica::start(|mut conversation, number| {
        conversation.message().unwrap();
        conversation.answer(&number.to_string());
        // The next request on this connection is read and then lost, as if it had crossed the
        // replica's close.
        conversation.message();
    });
    let good = Replica::echo("good");
    let mut proxy = Proxy::start(&[replica.address, good.address]);
    let target = format!("/?{}", proxy.query_of(0));
    let mut client = proxy.client();
    for number in 0..5 {
        assert_eq!(client.get(&target).text(), number.to_string());
    }
    assert_eq!(client.post("PUT", &target, "kept").text(), "5");
    let totals = proxy.workers.metrics();
    assert_eq!((totals.stale, totals.retries, proxy.reported()), (5, 0, vec![]));
    // A POST may have been done: it is not sent again.
    assert_eq!(client.post("POST", &target, "once").status(), 502);
    assert_eq!((proxy.reported(), good.connections()), (vec![], 0));
}

#[test]
fn a_connection_that_is_known_to_be_closed_is_not_used() {
    let (closed, is_closed) = mpsc::channel();
    let replica = Replica::start(move |mut conversation, number| {
        conversation.message().unwrap();
        conversation.answer(&number.to_string());
        drop(conversation);
        closed.send(()).unwrap();
    });
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    for number in 0..5 {
        assert_eq!(client.post("POST", "/", "x").text(), number.to_string());
        is_closed.recv().unwrap();
        // One turn of the worker's event loop, so that it has seen the close.
        assert_eq!(proxy.get("/rep").status(), 404);
    }
    assert_eq!(proxy.workers.metrics().lost, 0);
}

/// What a replica thinks of its requests is its own affair; a row of errors is worth a question.
#[test]
fn a_run_of_errors_is_reported_once_and_any_other_answer_ends_it() {
    let replica = || {
        Replica::start(|mut conversation, _| {
            while let Some(request) = conversation.message() {
                match request.target() {
                    "/500" => conversation.send("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
                    "/404" => conversation.send("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
                    _ => return conversation.send("no HTTP\r\n\r\n"),
                }
            }
        })
    };
    let one = replica();
    let mut proxy = Proxy::start(&[one.address]);
    let asked = |proxy: &mut Proxy, targets: &[&str]| {
        targets.iter().for_each(|target| drop(proxy.get(target)));
        proxy.reported()
    };
    let suspected = [(instance(1, 1), FailureKind::Errors)];
    assert_eq!(asked(&mut proxy, &["/500"; 4]), []);
    assert_eq!(asked(&mut proxy, &["/404"]), []);
    assert_eq!(asked(&mut proxy, &["/500"; 4]), []);
    assert_eq!(asked(&mut proxy, &["/500"]), suspected);
    assert_eq!(asked(&mut proxy, &["/500"; 30]), [], "it was asked about");
    assert_eq!(asked(&mut proxy, &["/404", "/500", "/500", "/500", "/500", "/none"]), suspected);
    assert_eq!(proxy.workers.metrics().error_runs, 2);
    let never = |config: &mut ProxyConfig| config.suspect_after_errors = 0;
    let mut proxy = Proxy::with(&[one.address], never, axum::Router::new());
    assert_eq!(asked(&mut proxy, &["/500"; 30]), []);
}

#[test]
fn an_answer_that_does_not_come_is_504() {
    let silent = Replica::start(|mut conversation, _| {
        conversation.message();
        conversation.message();
    });
    let good = Replica::echo("good");
    let mut proxy = Proxy::with(
        &[silent.address, good.address],
        |config| config.first_byte = Duration::from_millis(300),
        axum::Router::new(),
    );
    let target = format!("/?{}", proxy.query_of(0));
    let began = Instant::now();
    let reply = proxy.get(&target);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(reply.status(), 504);
    assert_eq!(
        reply.text(),
        r#"{"message":"<Error> The replica did not answer in time","status":"failure"}"#
    );
    assert_eq!(proxy.reported(), [(instance(1, 1), FailureKind::FirstByteTimeout)]);
    // A body that stops coming is the client's delay.
    for method in ["PUT", "POST"] {
        let mut client = proxy.client();
        client
            .send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc"));
        assert_eq!(client.reply().status(), 408, "{method}");
        assert!(client.0.is_closed());
    }
    assert_eq!(proxy.reported(), []);
    assert_eq!(proxy.routes.in_flight(instance(1, 1)), 0);
}

#[test]
fn clients_that_do_not_come_to_the_point_are_closed() {
    let replica = Replica::echo("a");
    let proxy = Proxy::with(
        &[replica.address],
        |config| {
            config.header_read = Duration::from_millis(300);
            config.client_idle = Duration::from_millis(300);
        },
        axum::Router::new(),
    );
    let mut slow = proxy.client();
    let mut silent = proxy.client();
    let mut idle = proxy.client();
    assert_eq!(idle.get("/").status(), 200);
    slow.send("GET / HTTP/1.1\r\nHo");
    // Bytes that trickle in do not buy time.
    let mut socket = slow.0.reader.get_ref().try_clone().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let is_done = Arc::clone(&done);
    let trickle = thread::spawn(move || {
        while !is_done.load(Ordering::SeqCst) && socket.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(slow.reply().status(), 408);
    assert!(slow.0.is_closed());
    assert!(silent.0.is_closed());
    assert!(idle.0.is_closed());
    done.store(true, Ordering::SeqCst);
    trickle.join().unwrap();
    assert_eq!(proxy.workers.metrics().header_timeouts, 1);
}

/// A replica that takes requests and never answers; counts them.
fn hung(requests: &Arc<AtomicUsize>) -> Replica {
    let requests = Arc::clone(requests);
    Replica::start(move |mut conversation, _| {
        while let Some(request) = conversation.message() {
            requests.fetch_add(1, Ordering::SeqCst);
            if request.target().starts_with("/stream") {
                conversation
                    .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
            }
            if request.target().starts_with("/end") {
                conversation.answer("end");
            }
        }
    })
}

#[test]
fn requests_that_wait_for_an_ejected_instance_are_tried_elsewhere_at_once() {
    let requests = Arc::new(AtomicUsize::new(0));
    let bad = hung(&requests);
    let good = Replica::echo("good");
    let mut proxy = Proxy::start(&[bad.address, good.address]);
    let query = proxy.query_of(0);
    let ask = |method: &str, path: &str| {
        let mut client = proxy.client();
        client.send(format!(
            "{method} {path}?{query} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
        ));
        client
    };
    let mut waiting: Vec<Client> = (0..40).map(|_| ask("GET", "/wait")).collect();
    let mut unrepeatable = ask("POST", "/wait");
    let mut streaming = ask("GET", "/stream");
    streaming.0.head().unwrap();
    assert_eq!(streaming.0.chunk().unwrap(), b"a");
    eventually("all requests", || requests.load(Ordering::SeqCst) == 42);
    // Out of the table, but allowed to finish: nothing happens to them.
    let addresses = [None, Some(good.address)];
    proxy.routes.publish(table(&addresses, &[instance(1, 1)]));
    eventually("the acknowledgement", || proxy.workers.metrics().tables == 2);
    assert_eq!(proxy.routes.in_flight(instance(1, 1)), 42);
    let began = Instant::now();
    proxy.routes.publish(table(&addresses, &[]));
    for client in &mut waiting {
        let reply = client.reply();
        assert_eq!((reply.status(), &reply.text()[..4]), (200, "good"));
    }
    assert_eq!(unrepeatable.reply().status(), 502);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(proxy.routes.in_flight(instance(1, 1)), 1, "the streaming one goes on");
    assert!(!proxy.is_drained(instance(1, 1), Duration::from_millis(50)));
    drop(streaming);
    assert!(proxy.is_drained(instance(1, 1), Duration::from_secs(5)));
    let totals = proxy.workers.metrics();
    assert_eq!((totals.given_up, totals.retries_denied, proxy.reported()), (41, 0, vec![]));
}

#[test]
fn a_request_is_routed_by_what_was_published_before_it_came() {
    let replicas = ["one", "two"].map(|name| {
        Replica::start(move |mut conversation, _| {
            while conversation.message().is_some() {
                conversation.answer(name);
            }
        })
    });
    let proxy = Proxy::start(&[replicas[0].address]);
    let mut client = proxy.client();
    for round in 1..300 {
        let of = round % 2;
        proxy.routes.publish(table(&[Some(replicas[of].address)], &[]));
        assert_eq!(client.get("/").text(), ["one", "two"][of], "round {round}");
    }
}

#[test]
fn pooled_connections_of_an_instance_that_left_are_closed() {
    let (closed, is_closed) = mpsc::channel();
    let replica = Replica::start(move |mut conversation, _| {
        while let Some(_request) = conversation.message() {
            conversation.answer("a");
        }
        closed.send(()).unwrap();
    });
    let proxy = Proxy::start(&[replica.address]);
    assert_eq!(proxy.get("/").status(), 200);
    proxy.routes.publish(table(&[None], &[instance(1, 1)]));
    is_closed.recv_timeout(Duration::from_secs(2)).unwrap();
}

#[test]
fn rested_connections_are_closed_before_the_replica_does() {
    let (closed, is_closed) = mpsc::channel();
    let replica = Replica::start(move |mut conversation, _| {
        while let Some(_request) = conversation.message() {
            conversation.answer("a");
        }
        closed.send(()).unwrap();
    });
    let proxy = Proxy::with(
        &[replica.address],
        |config| config.upstream_idle = Duration::from_millis(200),
        axum::Router::new(),
    );
    assert_eq!(proxy.get("/").status(), 200);
    is_closed.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(replica.connections(), 2);
}

/// A hundred clients that ask all the time while a replica dies with all its connections: not one
/// request fails, though the table never learns of it.
#[test]
fn a_killed_replica_costs_no_repeatable_request() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mortal = listener.local_addr().unwrap();
    let sockets = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = Arc::clone(&sockets);
    let dead = Arc::new(AtomicBool::new(false));
    let is_dead = Arc::clone(&dead);
    let acceptor = thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            if is_dead.load(Ordering::SeqCst) {
                return;
            }
            kept.lock().unwrap().push(stream.try_clone().unwrap());
            thread::spawn(move || {
                let mut conversation = crate::support::Conversation::new(stream);
                while conversation.message().is_some() {
                    thread::sleep(Duration::from_millis(2));
                    conversation.answer("mortal");
                }
            });
        }
    });
    let others = [Replica::echo("b"), Replica::echo("c")];
    let addresses = [mortal, others[0].address, others[1].address];
    let proxy = Proxy::with(&addresses, |config| config.workers = 2, axum::Router::new());
    let asked = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let target = format!("/?{}", proxy.query_of(0));
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let mut client = proxy.client();
            let (asked, stop, target) = (Arc::clone(&asked), Arc::clone(&stop), target.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let reply = client.get(&target);
                    assert_eq!(reply.status(), 200, "{}", reply.text());
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    eventually("traffic", || asked.load(Ordering::SeqCst) > 2_000);
    dead.store(true, Ordering::SeqCst);
    for socket in sockets.lock().unwrap().drain(..) {
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }
    let _ = std::net::TcpStream::connect(mortal);
    acceptor.join().unwrap();
    let before = asked.load(Ordering::SeqCst);
    eventually("more traffic", || asked.load(Ordering::SeqCst) > before + 2_000);
    stop.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(proxy.workers.metrics().answered_5xx, 0);
}

#[test]
fn connections_beyond_the_limit_are_shed() {
    let replica = Replica::echo("a");
    let proxy =
        Proxy::with(&[replica.address], |config| config.connections_max = 2, axum::Router::new());
    let mut clients = [proxy.client(), proxy.client()];
    for client in &mut clients {
        assert_eq!(client.get("/").status(), 200);
    }
    let mut third = proxy.client();
    let reply = third.reply();
    assert_eq!((reply.status(), reply.field("retry-after")), (503, vec!["1"]));
    drop(clients);
    eventually("room", || proxy.workers.open_connections() == 0);
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(proxy.workers.metrics().connections_shed, 1);
}

#[test]
fn heads_have_a_limit() {
    let replica = Replica::echo("a");
    let proxy = Proxy::start(&[replica.address]);
    let many: String = (0..101).map(|number| format!("X-{number}: a\r\n")).collect();
    let mut client = proxy.client();
    assert_eq!(client.request("GET", "/", &format!("{many}\r\n")).status(), 431);
    let large = format!("X: {}\r\n\r\n", "a".repeat(40_000));
    let mut client = proxy.client();
    assert_eq!(client.request("GET", "/", &large).status(), 431);
    assert_eq!(replica.connections(), 0);
}
