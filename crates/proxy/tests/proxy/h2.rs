//! HTTP/2 from clients, HTTP/1.1 to replicas.

mod silent;

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::{PATIENCE, Proxy, Replica, eventually, instance, refusing};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Body as _, Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

type Body = BoxBody<Bytes, std::convert::Infallible>;

fn full(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed()
}

fn pieces(frames: Vec<Frame<Bytes>>) -> Body {
    let frames = frames.into_iter().map(Ok::<_, std::convert::Infallible>);
    StreamBody::new(futures_util::stream::iter(frames)).boxed()
}

async fn connect(address: SocketAddr) -> SendRequest<Body> {
    let stream = TcpStream::connect(address).await.unwrap();
    let io = TokioIo::new(stream);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<Body> {
    Request::get(format!("http://example{path}")).body(full("")).unwrap()
}

async fn text(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.unwrap() })
}

#[test]
fn many_streams_share_a_connection_and_each_finds_its_owner() {
    let replicas = [Replica::echo("a"), Replica::echo("b"), Replica::echo("c")];
    let proxy = Proxy::start(&[0, 1, 2].map(|index: usize| replicas[index].address));
    run(async {
        let sender = connect(proxy.address).await;
        let asked = (0..90).map(|number| {
            let (mut sender, proxy) = (sender.clone(), &proxy);
            async move {
                let owner = number % 3;
                let path = format!("/{number}?{}", proxy.query_of(owner));
                let response = sender.send_request(get(&path)).await.unwrap();
                assert_eq!(response.version(), Version::HTTP_2);
                let name = ["a", "b", "c"][owner];
                assert_eq!(text(response).await, (StatusCode::OK, format!("{name} {path}")));
            }
        });
        futures_util::future::join_all(asked).await;
    });
    let totals = proxy.workers.metrics();
    assert_eq!((totals.requests, totals.connections_h2, totals.connections_accepted), (90, 1, 1));
    let served: Vec<u64> = totals.replicas.values().map(|served| served.requests()).collect();
    assert_eq!(served, [30, 30, 30]);
    eventually("nothing is in flight", || {
        (1..=3).all(|replica| proxy.routes.in_flight(instance(replica, 1)) == 0)
    });
}

#[test]
fn a_head_is_translated() {
    let seen = Arc::new(Mutex::new(String::new()));
    let heads = Arc::clone(&seen);
    let replica = Replica::answering(move |request| {
        heads.lock().unwrap().clone_from(&request.head);
        "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Kept: 2\r\nContent-Length: 0\r\n\r\n"
            .into()
    });
    let proxy = Proxy::start(&[replica.address]);
    run(async {
        let mut sender = connect(proxy.address).await;
        let request = Request::get("http://shop:81/a?b=c")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .header("x-forwarded-for", "6.6.6.6")
            .body(full(""))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let headers = response.headers();
        assert_eq!(headers.get("x-kept").unwrap(), "2");
        assert!(headers.get("connection").is_none() && headers.get("x-hop").is_none());
        assert_eq!(headers.get("via").unwrap(), "1.1 ringmaster");
    });
    let head = seen.lock().unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /a?b=c http/1.1\r\n"), "{head}");
    for line in [
        "host: shop:81",
        "cookie: a=1; b=2",
        "te: trailers",
        "connection: te",
        "via: 2.0 ringmaster",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: shop:81",
    ] {
        assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line}: {head}");
    }
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    let replica = Replica::start(|mut conversation, _| {
        while let Some(request) = conversation.message() {
            let length = request.body.len();
            let trailer = request.trailers.join(";");
            conversation.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n\
                 {:x}\r\n{length}\r\n0\r\ngrpc-status: 0\r\nx-got: {trailer}\r\n\r\n",
                length.to_string().len()
            ));
        }
    });
    let proxy = Proxy::start(&[replica.address]);
    run(async {
        let mut sender = connect(proxy.address).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let frames = vec![
            Frame::data(Bytes::from(vec![b'x'; 300_000])),
            Frame::data(Bytes::from_static(b"yz")),
            Frame::trailers(trailers),
        ];
        let request = Request::post("http://h/up").header("te", "trailers");
        let request = request.header("trailer", "x-sum").body(pieces(frames)).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().unwrap().clone();
        assert_eq!(body.to_bytes(), "300002");
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
        assert_eq!(trailers.get("x-got").unwrap(), "x-sum: 7");
    });
}

#[test]
fn a_large_answer_waits_for_its_reader_and_holds_nobody_else_up() {
    const LARGE: usize = 64 << 20;
    let replica = Replica::start(|mut conversation, _| {
        while let Some(request) = conversation.message() {
            if request.target() != "/large" {
                conversation.answer("small");
                continue;
            }
            conversation.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..64 {
                if conversation.reader.get_mut().write_all(&piece).is_err() {
                    return;
                }
            }
        }
    });
    let proxy = Proxy::start(&[replica.address]);
    run(async {
        let mut sender = connect(proxy.address).await;
        let large = sender.send_request(get("/large")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let read = proxy.workers.metrics().bytes_down;
        assert!(read < LARGE as u64 / 4, "{read} bytes were read for nobody");
        let small = sender.send_request(get("/small")).await.unwrap();
        assert_eq!(text(small).await.1, "small");
        assert_eq!(large.into_body().collect().await.unwrap().to_bytes().len(), LARGE);
    });
}

#[test]
fn what_is_ambiguous_is_refused_and_the_connection_lives_on() {
    let replica = Replica::echo("a");
    let proxy = Proxy::start(&[replica.address]);
    run(async {
        let mut sender = connect(proxy.address).await;
        let mut request = get("/x");
        request.headers_mut().insert("host", "another".parse().unwrap());
        let (status, body) = text(sender.send_request(request).await.unwrap()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(body.contains("contradicts the authority"), "{body}");
        let tunnel = Request::connect("h:80").body(full("")).unwrap();
        let status = sender.send_request(tunnel).await.unwrap().status();
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        let (status, body) = text(sender.send_request(get("/y")).await.unwrap()).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "a /y"));
    });
    assert_eq!(replica.connections(), 1);
}

#[test]
fn a_stream_is_tried_elsewhere_and_may_find_nobody() {
    let replica = Replica::echo("b");
    let proxy = Proxy::start(&[refusing(), replica.address]);
    run(async {
        let mut sender = connect(proxy.address).await;
        let path = format!("/p?{}", proxy.query_of(0));
        let answer = text(sender.send_request(get(&path)).await.unwrap()).await;
        assert_eq!(answer, (StatusCode::OK, format!("b {path}")));
        let known = proxy.workers.metrics().tables;
        proxy.routes.publish(crate::support::table(&[None, None], &[]));
        while proxy.workers.metrics().tables == known {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let answer = sender.send_request(get("/")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    });
}

#[test]
fn a_client_that_resets_a_stream_frees_its_place() {
    let replica = Replica::start(|mut conversation, _| {
        let _ = conversation.message();
        // No answer until the other side goes away.
        let _ = conversation.is_closed();
    });
    let proxy = Proxy::start(&[replica.address]);
    run(async {
        let mut sender = connect(proxy.address).await;
        let waiting = tokio::spawn(sender.send_request(get("/slow")));
        let in_flight = || proxy.routes.in_flight(instance(1, 1));
        while in_flight() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        waiting.abort();
        while in_flight() != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn an_idle_connection_is_told_to_go() {
    let replica = Replica::echo("a");
    let change = |config: &mut ringmaster_proxy::ProxyConfig| {
        config.client_idle = Duration::from_millis(200);
    };
    let proxy = Proxy::with(&[replica.address], change, axum::Router::new());
    run(async {
        let mut sender = connect(proxy.address).await;
        let response = sender.send_request(get("/")).await.unwrap();
        assert_eq!(response.body().size_hint().exact(), Some(3));
        assert_eq!(text(response).await.1, "a /");
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    eventually("it is closed", || proxy.workers.metrics().connections_closed == 1);
}

#[test]
fn a_connection_carries_only_so_many_streams() {
    let replica = Replica::echo("a");
    let change = |config: &mut ringmaster_proxy::ProxyConfig| {
        config.requests_per_connection = Some(3);
    };
    let proxy = Proxy::with(&[replica.address], change, axum::Router::new());
    run(async {
        let mut sender = connect(proxy.address).await;
        for number in 0..3 {
            let answer = text(sender.send_request(get(&format!("/{number}"))).await.unwrap()).await;
            assert_eq!(answer, (StatusCode::OK, format!("a /{number}")));
        }
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(proxy.workers.metrics().connections_worn, 1);
}

#[test]
fn a_shutdown_lets_streams_end() {
    let replica = Replica::start(|mut conversation, _| {
        while let Some(_request) = conversation.message() {
            std::thread::sleep(Duration::from_millis(300));
            conversation.answer("done");
        }
    });
    let mut proxy = Proxy::start(&[replica.address]);
    let address = proxy.address;
    let (began, begun) = std::sync::mpsc::channel();
    let client = std::thread::spawn(move || {
        run(async {
            let mut sender = connect(address).await;
            let answer = sender.send_request(get("/"));
            began.send(()).unwrap();
            text(answer.await.unwrap()).await.1
        })
    });
    begun.recv().unwrap();
    eventually("it is in flight", || proxy.routes.in_flight(instance(1, 1)) == 1);
    proxy.shutdown(Duration::from_secs(5));
    assert_eq!(client.join().unwrap(), "done");
}
