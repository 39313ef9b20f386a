//! HTTP/2 towards replicas: gRPC's four kinds of calls, and the choice of the protocol.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{PATIENCE, Proxy, Replica, eventually, instance, refusing, table};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::SendRequest,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ringmaster_proxy::{ProxyConfig, UpstreamProtocol};
use tokio::{net::TcpStream, sync::mpsc};

type Body = BoxBody<Bytes, Infallible>;
type Frames = mpsc::UnboundedSender<Frame<Bytes>>;

/// A body that is written piece by piece.
fn channel() -> (Frames, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|frame| (Ok::<_, Infallible>(frame), receiver))
    });
    (sender, StreamBody::new(frames).boxed())
}

fn full(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed()
}

fn status_trailers(status: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    Frame::trailers(trailers)
}

/// A server that speaks only HTTP/2 and sends each piece back as it comes, then trailers.
struct H2Replica {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl H2Replica {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let service = service_fn(|request| async { Ok::<_, Infallible>(echo(request)) });
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, connections, _runtime: runtime }
    }
}

fn echo(request: Request<Incoming>) -> Response<Body> {
    let line = format!("{} {:?}", request.uri(), request.version());
    let forbidden = ["connection", "transfer-encoding", "host", "upgrade"];
    let odd = forbidden.iter().any(|name| request.headers().contains_key(*name));
    let (sender, body) = channel();
    let mut incoming = request.into_body();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = incoming.frame().await {
            if let Ok(data) = frame.into_data() {
                let _ = sender.send(Frame::data(data));
            }
        }
        let _ = sender.send(status_trailers("0"));
    });
    Response::builder()
        .header("x-line", line)
        .header("x-odd", odd.to_string())
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}

fn proxy(protocol: UpstreamProtocol, addresses: &[SocketAddr]) -> Proxy {
    let change = |config: &mut ProxyConfig| {
        config.upstream_protocol = protocol;
        config.workers = 1;
        config.upstream_idle = UPSTREAM_IDLE;
    };
    Proxy::with(addresses, change, axum::Router::new())
}

/// So long that no other test waits for it, so short that one can.
const UPSTREAM_IDLE: Duration = Duration::from_secs(2);

async fn connect(address: SocketAddr) -> SendRequest<Body> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn call(body: Body) -> Request<Body> {
    Request::post("http://shop/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.unwrap() })
}

async fn finished(response: Response<Incoming>) -> (String, String) {
    let body = response.into_body().collect().await.unwrap();
    let status = body.trailers().unwrap().get("grpc-status").unwrap().clone();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    (text, status.to_str().unwrap().to_owned())
}

#[test]
fn a_connection_rests_from_the_end_of_its_last_stream() {
    let replica = H2Replica::start();
    let proxy = proxy(UpstreamProtocol::H2c, &[replica.address]);
    run(async {
        let mut sender = connect(proxy.address).await;
        let (frames, body) = channel();
        let response = sender.send_request(call(body)).await.unwrap();
        // Longer than an unused connection is kept, which this one is not.
        tokio::time::sleep(UPSTREAM_IDLE + UPSTREAM_IDLE / 8).await;
        drop(frames);
        finished(response).await;
        // Time enough for several looks at what is unused, far from enough to be closed by them.
        tokio::time::sleep(UPSTREAM_IDLE / 6).await;
        let response = sender.send_request(call(full("next"))).await.unwrap();
        assert_eq!(finished(response).await.0, "next");
    });
    assert_eq!(replica.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn the_four_kinds_of_calls_pass() {
    let replica = H2Replica::start();
    let proxy = proxy(UpstreamProtocol::H2c, &[replica.address]);
    run(async {
        let mut sender = connect(proxy.address).await;
        // One message each way.
        let response = sender.send_request(call(full("unary"))).await.unwrap();
        let line = response.headers().get("x-line").unwrap();
        assert_eq!(line, "http://shop/pkg.Service/Method HTTP/2.0");
        assert_eq!(response.headers().get("x-odd").unwrap(), "false");
        assert_eq!(response.headers().get("via").unwrap(), "2.0 ringmaster");
        assert_eq!(finished(response).await, ("unary".into(), "0".into()));
        // Both ways at once: each answer comes before the next message is sent.
        let (frames, body) = channel();
        let response = sender.send_request(call(body)).await.unwrap();
        let mut answers = response.into_body();
        for number in 0..5 {
            let message = Bytes::from(format!("message {number}"));
            frames.send(Frame::data(message.clone())).unwrap();
            let answer = answers.frame().await.unwrap().unwrap();
            assert_eq!(answer.into_data().unwrap(), message);
        }
        drop(frames);
        let trailers = answers.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
        // Many messages up, many down.
        let (frames, body) = channel();
        for _ in 0..200 {
            frames.send(Frame::data(Bytes::from(vec![b'x'; 10_000]))).unwrap();
        }
        drop(frames);
        let response = sender.send_request(call(body)).await.unwrap();
        assert_eq!(finished(response).await.0.len(), 2_000_000);
    });
    assert_eq!(replica.connections.load(Ordering::SeqCst), 1, "streams share a connection");
    eventually("nothing is in flight", || proxy.routes.in_flight(instance(1, 1)) == 0);
}

#[test]
fn clients_of_http_1_are_served_too() {
    let replica = H2Replica::start();
    let proxy = proxy(UpstreamProtocol::H2c, &[replica.address]);
    let mut client = proxy.client();
    for method in ["PUT", "POST"] {
        let reply = client.post(method, "/a?b=c", "body");
        assert_eq!((reply.status(), reply.text()), (200, "body"), "{}", reply.head);
        assert_eq!(reply.field("x-line"), ["http://h/a?b=c HTTP/2.0"]);
        assert_eq!(reply.field("via"), ["2.0 ringmaster"]);
    }
    client.send("POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(client.reply().text(), "abc");
    // There is no upgrade over HTTP/2: it is an ordinary request.
    client.send("GET /d HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.reply().status(), 200);
    assert_eq!(replica.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn auto_finds_out_what_each_replica_speaks() {
    let (new, old) = (H2Replica::start(), Replica::echo("old"));
    let proxy = proxy(UpstreamProtocol::Auto, &[new.address, old.address]);
    let mut client = proxy.client();
    for _ in 0..3 {
        let reply = client.get(&format!("/a?{}", proxy.query_of(0)));
        assert!(reply.field("x-line")[0].ends_with("HTTP/2.0"), "{}", reply.head);
        let reply = client.get(&format!("/b?{}", proxy.query_of(1)));
        assert!(reply.text().starts_with("old /b"), "{}", reply.head);
    }
    // One connection to ask, one to use.
    assert_eq!((new.connections.load(Ordering::SeqCst), old.connections()), (2, 2));
    run(async {
        let mut sender = connect(proxy.address).await;
        let uri = format!("http://h/c?{}", proxy.query_of(1));
        let response =
            sender.send_request(Request::get(uri).body(full("")).unwrap()).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(response.status(), StatusCode::OK);
    });
}

#[test]
fn a_replica_that_does_not_speak_it_gives_no_answer() {
    let (old, new) = (Replica::echo("old"), H2Replica::start());
    let proxy = proxy(UpstreamProtocol::H2c, &[old.address, new.address]);
    let reply = proxy.get(&format!("/a?{}", proxy.query_of(0)));
    assert_eq!(reply.status(), 200, "it is tried on the next: {}", reply.head);
    assert!(reply.field("x-line")[0].ends_with("HTTP/2.0"));
}

/// Asks the first replica of a key, which refuses connections, for a path; over both protocols.
fn asks(proxy: &Proxy, path: &str) -> Vec<(StatusCode, String)> {
    let target = format!("{path}?{}", proxy.query_of(0));
    let mut client = proxy.client();
    client.send(format!("POST {target} HTTP/1.1\r\nHost: shop:81\r\nContent-Length: 1\r\n\r\nx"));
    let reply = client.reply();
    let line = |lines: Vec<&str>| lines.first().copied().unwrap_or("none").to_owned();
    let one = (StatusCode::from_u16(reply.status()).unwrap(), line(reply.field("x-line")));
    let two = run(async {
        let mut sender = connect(proxy.address).await;
        let request = Request::post(format!("http://shop:81{target}")).body(full("x")).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let field = response.headers().get("x-line");
        (response.status(), line(field.map(|field| field.to_str().unwrap()).into_iter().collect()))
    });
    vec![one, two]
}

#[test]
fn the_next_replica_is_asked_for_the_same_host() {
    let replica = H2Replica::start();
    for protocol in [UpstreamProtocol::H2c, UpstreamProtocol::Auto] {
        let proxy = proxy(protocol, &[refusing(), replica.address]);
        for (status, line) in asks(&proxy, "/a") {
            let expected = format!("http://shop:81/a?{} HTTP/2.0", proxy.query_of(0));
            assert_eq!((status, line), (StatusCode::OK, expected), "{protocol:?}");
        }
    }
}

#[test]
fn the_next_replica_may_speak_another_protocol() {
    // The first is known to speak HTTP/2 when it goes away; the second speaks only HTTP/1.1.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let first = listener.local_addr().unwrap();
    let probed = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let mut preface = [0; 33];
        stream.read_exact(&mut preface).unwrap();
        drop(listener);
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    });
    let second = Replica::answering(|request| {
        let host = request.field("host").join("|");
        let line = request.head.lines().next().unwrap();
        let odd = request.field("te").len() + request.field("transfer-encoding").len();
        format!("HTTP/1.1 200 OK\r\nX-Line: {line} {host} {odd}\r\nContent-Length: 0\r\n\r\n")
    });
    let proxy = proxy(UpstreamProtocol::Auto, &[first, second.address]);
    let expected = format!("POST /a?{} HTTP/1.1 shop:81 0", proxy.query_of(0));
    for (status, line) in asks(&proxy, "/a") {
        assert_eq!((status, line), (StatusCode::OK, expected.clone()));
    }
    probed.join().unwrap();
}

#[test]
fn a_replica_that_leaves_lets_its_streams_end() {
    let replica = H2Replica::start();
    let proxy = proxy(UpstreamProtocol::H2c, &[replica.address]);
    run(async {
        let mut sender = connect(proxy.address).await;
        let (frames, body) = channel();
        let response = sender.send_request(call(body)).await.unwrap();
        proxy.routes.publish(table(&[None], &[instance(1, 1)]));
        let refused = sender.send_request(call(full("late"))).await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(proxy.routes.in_flight(instance(1, 1)), 1, "a stream is open");
        frames.send(Frame::data(Bytes::from_static(b"still"))).unwrap();
        drop(frames);
        assert_eq!(finished(response).await, ("still".into(), "0".into()));
    });
    assert!(proxy.is_drained(instance(1, 1), Duration::from_secs(5)));
}
