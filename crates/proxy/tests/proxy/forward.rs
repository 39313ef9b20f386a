//! What goes through unharmed, and what is changed on the way.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::support::{
    Client, Message, PATIENCE, Proxy, Replica, engine, eventually, refusing, small,
};
use ringmaster_proxy::{Engine, ProxyConfig};

#[test]
fn connections_live_on_and_pipelined_requests_are_answered_in_order() {
    let replica = Replica::echo("a");
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    for number in 0..3 {
        let reply = client.get(&format!("/{number}"));
        assert_eq!(reply.text(), format!("a /{number}"));
        assert!(reply.field("connection").is_empty(), "{}", reply.head);
    }
    let request = |target| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    client.send(["/x", "/y", "/z"].map(request).concat());
    for target in ["/x", "/y", "/z"] {
        assert_eq!(client.reply().text(), format!("a {target}"));
    }
    assert_eq!(replica.connections(), 1);
    client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!(client.reply().field("connection"), ["close"]);
    assert!(client.0.is_closed());
    assert_eq!(replica.connections(), 1, "a client's close is not the replica's");
    let totals = proxy.workers.metrics();
    assert_eq!((totals.requests, totals.answered_2xx, totals.connects), (7, 7, 1));
    assert_eq!(totals.instances[0].1.answers.count(), 7);
}

#[test]
fn heads_are_cleaned_in_both_directions() {
    let (seen, heads) = mpsc::channel();
    let replica = Replica::start(move |mut conversation, _| {
        while let Some(request) = conversation.message() {
            seen.send(request.head).unwrap();
            conversation.send(
                "HTTP/1.1 203 Fine Thing\r\nContent-Length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
                 Keep-Alive: timeout=5\r\nVia: 1.0 inner\r\nX-Stays: a\r\nX-Stays: b\r\n\r\nok",
            );
        }
    });
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    client.send(
        "PATCH /a/b?c=%20d HTTP/1.1\r\nHost: example:80\r\nConnection: keep-alive, x-secret\r\n\
         X-Secret: 1\r\nTE: gzip\r\nUpgrade: h2c\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X-Forwarded-Port: 1\r\nAccept: */*\r\n\r\n",
    );
    let reply = client.reply();
    assert!(reply.head.starts_with("HTTP/1.1 203 Fine Thing\r\n"), "{}", reply.head);
    assert_eq!(reply.field("via"), ["1.0 inner", "1.1 ringmaster"]);
    assert_eq!(reply.field("x-stays"), ["a", "b"]);
    assert_eq!(reply.field("content-length"), ["2"]);
    // A response without a date gets one from hyper, and from us only where it is our own.
    assert_eq!(reply.field("date").len(), usize::from(engine() == Engine::Hyper));
    for gone in ["connection", "x-hop", "keep-alive"] {
        assert!(reply.field(gone).is_empty(), "{}", reply.head);
    }
    let head = heads.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("PATCH /a/b?c=%20d HTTP/1.1\r\n"), "{head}");
    let head = small([&head]).remove(0);
    let mut lines: Vec<_> = head.trim_end().split("\r\n").skip(1).collect();
    lines.sort_unstable();
    // It had none, so it got one.
    let made = lines.pop().and_then(|line| line.strip_prefix("x-request-id: ")).unwrap();
    assert!(made.len() == 16 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    let expected = [
        "accept: */*",
        "host: example:80",
        "via: 1.1 ringmaster",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: example:80",
        "x-forwarded-proto: http",
    ];
    assert_eq!(lines, expected);
    // An upgrade that was not granted leaves an ordinary connection.
    let given = client.request("GET", "/again", "X-Request-ID: mine\r\n\r\n");
    assert_eq!(given.text(), "ok");
    let head = small([&heads.recv_timeout(PATIENCE).unwrap()]).remove(0);
    assert_eq!(head.matches("x-request-id: mine\r\n").count(), 1, "{head}");
}

#[test]
fn trailers_pass_in_both_directions() {
    let replica = Replica::start(move |mut conversation, _| {
        let request = conversation.message().unwrap();
        conversation.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\n",
        );
        let seen = request.trailers.join(",");
        conversation.send(format!("X-Sum: {} {seen}\r\n\r\n", request.text()));
    });
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    let reply = client.request(
        "POST",
        "/",
        "TE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-Up\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Up: 1\r\n\r\n",
    );
    assert_eq!(reply.text(), "ok");
    assert_eq!(small(&reply.trailers), ["x-sum: abc x-up: 1"]);
}

#[test]
fn bodies_stream_both_ways() {
    let (next, wait) = mpsc::sync_channel::<()>(0);
    let wait = std::sync::Mutex::new(wait);
    let replica = Replica::start(move |mut conversation, _| {
        let head = conversation.head().unwrap();
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        // The first chunk is here before the client has sent the last one.
        assert_eq!(conversation.chunk().unwrap(), b"one");
        conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nuno\r\n");
        assert_eq!(conversation.chunk().unwrap(), b"two");
        wait.lock().unwrap().recv().unwrap();
        conversation.send("3\r\ndos\r\n0\r\n\r\n");
    });
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    client.0.head().unwrap();
    assert_eq!(client.0.chunk().unwrap(), b"uno");
    client.send("3\r\ntwo\r\n0\r\n\r\n");
    next.send(()).unwrap();
    assert_eq!(client.0.chunk().unwrap(), b"dos");
    assert_eq!(client.0.chunk().unwrap(), b"");
}

/// More than all buffers on the way hold, kernel's included.
const LARGE: usize = 64 << 20;

#[test]
fn bytes_are_counted_with_the_replica_that_they_went_to() {
    let answering = |_: &Message| "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned();
    let replica = Replica::answering(answering);
    let in_body = |config: &mut ProxyConfig| config.keys = "query:id,body:/id".parse().unwrap();
    for address in [replica.address, refusing()] {
        let proxy = Proxy::with(&[address, replica.address], in_body, axum::Router::new());
        let query = proxy.query_of(0);
        let mut client = proxy.client();
        // Kept, streamed, and begun to be read for its key.
        assert_eq!(client.post("PUT", &format!("/?{query}"), "four").text(), "hello");
        assert_eq!(client.post("POST", &format!("/?{query}"), "and more").text(), "hello");
        let key = query.trim_start_matches("id=");
        let document = format!("{{\"id\":\"{key}\"}}");
        assert_eq!(client.post("POST", "/", &document).text(), "hello");
        let totals = proxy.workers.metrics();
        let up = 12 + document.len() as u64;
        assert_eq!((totals.bytes_up, totals.bytes_down), (up, 15), "{totals:?}");
        let of = |index: usize| {
            let (_, counted) = &totals.instances[index];
            (counted.bytes_up, counted.bytes_down)
        };
        let expected =
            if address == replica.address { [(up, 15), (0, 0)] } else { [(0, 0), (up, 15)] };
        assert_eq!([of(0), of(1)], expected);
    }
}

#[test]
fn a_client_that_does_not_read_holds_the_replica_back() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let replica = Replica::start(move |mut conversation, _| {
        conversation.message().unwrap();
        conversation.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
        let block = [7; 65536];
        while count.load(Ordering::SeqCst) < LARGE {
            conversation.reader.get_mut().write_all(&block).unwrap();
            count.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    stalls(&sent);
    let reply = client.reply();
    assert_eq!(reply.body.len(), LARGE);
    assert!(reply.body.iter().all(|byte| *byte == 7));
}

#[test]
fn a_replica_that_does_not_read_holds_the_client_back() {
    let (next, wait) = mpsc::sync_channel::<()>(0);
    let wait = std::sync::Mutex::new(wait);
    let replica = Replica::start(move |mut conversation, _| {
        let head = conversation.head().unwrap();
        wait.lock().unwrap().recv().unwrap();
        let request = conversation.body(head, false).unwrap();
        conversation.answer(&request.body.len().to_string());
    });
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    let mut socket = client.0.reader.get_ref().try_clone().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let upload = thread::spawn(move || {
        write!(socket, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {LARGE}\r\n\r\n").unwrap();
        let block = [7; 65536];
        while count.load(Ordering::SeqCst) < LARGE {
            socket.write_all(&block).unwrap();
            count.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    stalls(&sent);
    next.send(()).unwrap();
    assert_eq!(client.reply().text(), LARGE.to_string());
    upload.join().unwrap();
}

/// Waits until a number has begun to rise and stands still, well before the end.
fn stalls(sent: &AtomicUsize) {
    let (mut last, mut same) = (0, 0);
    eventually("a standstill", || {
        thread::sleep(Duration::from_millis(10));
        let now = sent.load(Ordering::SeqCst);
        same = if now > 0 && now == last { same + 1 } else { 0 };
        last = now;
        same == 30
    });
    assert!(last < LARGE / 2, "{last} bytes went into buffers");
}

#[test]
fn answers_without_a_body_keep_their_framing() {
    let replica = Replica::answering(|request| match request.target() {
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
        "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n".into(),
        _ if request.head.starts_with("HEAD") => {
            "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".into()
        }
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
    });
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    let reply = client.bare_reply();
    assert_eq!(reply.field("content-length"), ["1234"]);
    for target in ["/204", "/304"] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let reply = client.bare_reply();
        assert_eq!(reply.status().to_string(), target[1..]);
        assert!(reply.field("transfer-encoding").is_empty(), "{}", reply.head);
    }
    assert_eq!(client.get("/").field("content-length"), ["0"]);
    assert_eq!(replica.connections(), 1);
}

#[test]
fn versions_are_translated() {
    let replica = Replica::start(|mut conversation, _| {
        let request = conversation.message().unwrap();
        assert!(request.head.contains(" HTTP/1.1\r\n"), "{}", request.head);
        assert_eq!(request.field("host").len(), 1, "{}", request.head);
        if request.target() == "/old" {
            conversation.send("HTTP/1.0 200 OK\r\n\r\nuntil the end");
        } else {
            conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            conversation.send("2\r\nok\r\n0\r\n\r\n");
        }
    });
    let proxy = Proxy::start(&[replica.address]);
    let mut client = proxy.client();
    client.send("GET /new HTTP/1.0\r\n\r\n");
    let head = client.0.head().unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    let reply = client.0.body(head, true).unwrap();
    assert_eq!(reply.text(), "ok");
    let reply = proxy.get("/old");
    assert_eq!(reply.text(), "until the end");
    assert_eq!(reply.field("transfer-encoding"), ["chunked"]);
    assert_eq!(reply.field("via"), ["1.0 ringmaster"]);
}

#[test]
fn the_target_of_an_absolute_form_becomes_a_path() {
    let replica = Replica::answering(|request| {
        let body = format!("{} {}", request.target(), request.field("host").join("+"));
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let proxy = Proxy::start(&[replica.address]);
    assert_eq!(proxy.get("http://real:81/a?b").text(), "/a?b real:81");
    let mut client = proxy.client();
    assert_eq!(client.request("OPTIONS", "*", "\r\n").text(), "* h");
}

#[test]
fn nobody_is_asked_for_a_body_that_has_nowhere_to_go() {
    let nobody = Proxy::start(&[]);
    let mut client = nobody.client();
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.reply().status(), 503, "the body is not even asked for");
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let replica = Replica::echo("a");
    let proxy = Proxy::start(&[replica.address]);
    let refused = |request: &str| {
        let mut client = proxy.client();
        client.send(request);
        let reply = client.reply();
        assert!(client.0.is_closed(), "{request:?}");
        reply
    };
    let ambiguous = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    ];
    for request in ambiguous {
        assert_eq!(refused(request).status(), 400, "{request:?}");
    }
    let reply = refused("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
    assert_eq!(reply.status(), 405);
    assert_eq!(
        reply.text(),
        r#"{"message":"<Error> CONNECT is not supported","status":"failure"}"#
    );
    assert_eq!(replica.connections(), 0);
    // Both framings: hyper goes by the chunks, and the next parser sees only them.
    let mut client = proxy.client();
    client.send(
        "POST /both HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\n",
    );
    assert_eq!(client.reply().text(), "a /both");
    assert!(client.0.is_closed());
}

#[test]
fn a_replicas_404_becomes_a_400_where_that_is_wanted() {
    let replica = Replica::answering(|request| match request.target() {
        "/own" => {
            "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nRingmaster-Keep-Status: 1\r\n\r\nown"
                .into()
        }
        "/large" => {
            format!("HTTP/1.1 404 Not Found\r\nContent-Length: 9999\r\n\r\n{}", "x".repeat(9999))
        }
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno".into(),
    });
    let mapping = Proxy::with(
        &[replica.address],
        |config| config.not_found_as_400 = true,
        axum::Router::new(),
    );
    let mut client = mapping.client();
    for (target, path) in [("/other", "/other"), ("/large?a=b", "/large"), ("/a%22b", "/a%22b")] {
        let reply = client.get(target);
        assert_eq!(reply.status(), 400);
        assert_eq!(reply.field("content-type"), ["application/json"]);
        let expected = format!(
            r#"{{"message":"<Error> '{path}' endpoint does not exist in server replicas","status":"failure"}}"#
        );
        assert_eq!(reply.text(), expected);
    }
    let reply = client.post("POST", "/other", "body");
    let expected = r#"{"message":"<Error> 'POST /other' endpoint does not exist in server replicas","status":"failure"}"#;
    assert_eq!((reply.status(), reply.text()), (400, expected));
    let reply = client.get("/own");
    assert_eq!((reply.status(), reply.text()), (404, "own"));
    assert!(reply.field("ringmaster-keep-status").is_empty());
    assert_eq!(replica.connections(), 1, "unwanted bodies do not cost connections");
    let plain = Proxy::start(&[replica.address]);
    let reply = plain.get("/other");
    assert_eq!((reply.status(), reply.text()), (404, "no"));
}

#[test]
fn only_the_exact_mounted_paths_are_ours() {
    let replica = Replica::echo("a");
    let control = axum::Router::new().route("/rep", axum::routing::get(|| async { "ours" }));
    let proxy = Proxy::with(&[replica.address], |_| {}, control);
    let mut client = proxy.client();
    assert_eq!(client.get("/rep?x").text(), "ours");
    client.send("HEAD /rep HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.bare_reply().status(), 200);
    let reply = client.post("POST", "/rep", "{}");
    assert_eq!((reply.status(), reply.field("allow")), (405, vec!["GET,HEAD"]));
    for target in ["/rep/", "/replica", "/Rep", "/"] {
        assert_eq!(client.get(target).text(), format!("a {target}"));
    }
}

#[test]
fn a_key_always_leads_to_its_owner() {
    let replicas = ["a", "b", "c"].map(Replica::echo);
    let proxy = Proxy::start(&replicas.each_ref().map(|replica| replica.address));
    let mut client = proxy.client();
    for (owner, name) in ["a", "b", "c"].into_iter().enumerate() {
        let query = proxy.query_of(owner);
        let key = query.trim_start_matches("id=").to_owned();
        for _ in 0..3 {
            assert!(client.get(&format!("/?{query}")).text().starts_with(name));
            let header = format!("X-Request-ID: {key}\r\n\r\n");
            assert!(client.request("GET", "/?id=other", &header).text().starts_with(name));
        }
    }
    let seen: std::collections::BTreeSet<_> =
        (0..100).map(|_| client.get("/").text()[..1].to_owned()).collect();
    assert_eq!(seen.len(), 3, "requests without a key are spread");
}

#[test]
fn an_answer_may_come_before_the_end_of_the_request() {
    let replica = Replica::start(|mut conversation, _| {
        while conversation.head().is_some() {
            conversation.answer("enough");
        }
    });
    let proxy = Proxy::start(&[replica.address]);
    for _ in 0..2 {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nonly this");
        assert_eq!(client.reply().text(), "enough");
    }
    assert_eq!(replica.connections(), 2, "a half-sent request's connection is not used again");
}

#[test]
fn a_client_that_goes_away_takes_its_request_along() {
    let replica = Replica::start(|mut conversation, _| {
        conversation.message().unwrap();
        let mut rest = Vec::new();
        let _ = conversation.reader.read_to_end(&mut rest);
    });
    let proxy = Proxy::start(&[replica.address]);
    let mut client: Client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let instance = crate::support::instance(1, 1);
    eventually("the request", || proxy.routes.in_flight(instance) == 1);
    drop(client);
    eventually("the end of the request", || proxy.routes.in_flight(instance) == 0);
}
