//! A proxy under test, replicas written by hand, and a client that sees every byte.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ringmaster_core::{
    fleet::{
        ids::{Generation, Incarnation, InstanceId, ReplicaId, ReplicaName},
        message::FailureKind,
        table::{RoutingTable, Target},
    },
    ring::{Ring, RingSettings, membership},
};
use ringmaster_proxy::{Engine, ProxyConfig, Routes, Workers};

use tokio::sync::mpsc;

/// No read of a test waits longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What carries exchanges in this run: `RINGMASTER_PROXY_ENGINE=own`, or hyper.
pub(crate) fn engine() -> Engine {
    match std::env::var("RINGMASTER_PROXY_ENGINE").as_deref() {
        Err(_) | Ok("hyper") => Engine::Hyper,
        Ok("own") => Engine::Own,
        Ok(other) => panic!("RINGMASTER_PROXY_ENGINE is 'hyper' or 'own', not '{other}'"),
    }
}

/// Lines in small letters: hyper spells the names of fields like that, our own codec leaves them as
/// they came.
pub(crate) fn small<'a>(lines: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    lines.into_iter().map(|line| line.to_ascii_lowercase()).collect()
}

/// Whether long answers pass inside the kernel: not yet where our own codec carries them.
pub(crate) fn splices() -> bool {
    engine() == Engine::Hyper
}

pub(crate) fn instance(replica: u32, incarnation: u32) -> InstanceId {
    InstanceId { replica: ReplicaId(replica), incarnation: Incarnation(incarnation) }
}

/// A table of replicas 1, 2, … with the given instances.
pub(crate) fn table(addresses: &[Option<SocketAddr>], finishing: &[InstanceId]) -> RoutingTable {
    let mut table = weighted_table(addresses, &[]);
    table.finishing = finishing.to_vec();
    table
}

/// The same with weights; 1 where none is given.
pub(crate) fn weighted_table(addresses: &[Option<SocketAddr>], weights: &[u32]) -> RoutingTable {
    let settings = RingSettings::default();
    let mut members = Vec::new();
    let mut targets = Vec::new();
    let weights = weights.iter().copied().chain(std::iter::repeat(1));
    for ((id, address), weight) in (1..).zip(addresses).zip(weights) {
        membership::join(&settings, &mut members, ReplicaId(id), weight).unwrap();
        targets.push(address.map(|address| Target {
            instance: instance(id, 1),
            name: ReplicaName::numbered(id),
            address,
        }));
    }
    RoutingTable {
        generation: Generation(1),
        ring: Arc::new(Ring::new(settings, members).unwrap()),
        targets,
        finishing: Vec::new(),
    }
}

pub(crate) struct Proxy {
    pub(crate) workers: Workers,
    pub(crate) routes: Routes,
    pub(crate) failures: mpsc::Receiver<(InstanceId, FailureKind)>,
    pub(crate) address: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

impl Proxy {
    pub(crate) fn start(addresses: &[SocketAddr]) -> Self {
        Self::with(addresses, |_| {}, axum::Router::new())
    }

    pub(crate) fn with(
        addresses: &[SocketAddr],
        change: impl FnOnce(&mut ProxyConfig),
        control: axum::Router,
    ) -> Self {
        let mut config = ProxyConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            workers: 1,
            engine: engine(),
            ..ProxyConfig::default()
        };
        change(&mut config);
        let addresses: Vec<_> = addresses.iter().copied().map(Some).collect();
        let routes = Routes::new(table(&addresses, &[]));
        let (report, failures) = mpsc::channel(1024);
        let workers = Workers::start(config, routes.clone(), report, control).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { address: workers.local_addr(), workers, routes, failures, runtime }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The same client, seen through a fresh connection per request.
    pub(crate) fn get(&self, target: &str) -> Reply {
        self.client().get(target)
    }

    pub(crate) fn shutdown(&mut self, drain: Duration) {
        self.runtime.block_on(self.workers.shutdown(drain));
    }

    /// Whether an instance is drained within a time.
    pub(crate) fn is_drained(&self, instance: InstanceId, within: Duration) -> bool {
        let drained = self.routes.drained(instance);
        self.runtime.block_on(async { tokio::time::timeout(within, drained).await.is_ok() })
    }

    /// A query that leads to a replica, by its place in the table.
    pub(crate) fn query_of(&self, replica: usize) -> String {
        let ring = self.routes.current().ring;
        let key = (0..)
            .map(|number: u32| format!("k{number}"))
            .find(|key| ring.owner(ring.slot_of(key.as_bytes())).unwrap().0 as usize == replica)
            .unwrap();
        format!("id={key}")
    }

    pub(crate) fn reported(&mut self) -> Vec<(InstanceId, FailureKind)> {
        std::iter::from_fn(|| self.failures.try_recv().ok()).collect()
    }
}

/// Waits for something that happens elsewhere.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A replica whose connections are served by a function, each in its thread.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Replica {
    /// `serve` gets each connection with its number, from 0.
    pub(crate) fn start(serve: impl Fn(Conversation, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (Arc::clone(&connections), Arc::new(serve));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(Conversation::new(stream), number));
            }
        });
        Self { address, connections }
    }

    /// Answers every request with a body that names it and its target.
    pub(crate) fn echo(name: &'static str) -> Self {
        Self::start(move |mut conversation, _| {
            while let Some(request) = conversation.message() {
                conversation.answer(&format!("{name} {}", request.target()));
            }
        })
    }

    /// Answers with a head and body made by a function of the request.
    pub(crate) fn answering(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        Self::start(move |mut conversation, _| {
            while let Some(request) = conversation.message() {
                conversation.send(answer(&request));
            }
        })
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// An address that refuses connections.
pub(crate) fn refusing() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Trailer lines of a chunked body.
    pub(crate) trailers: Vec<String>,
}

impl Message {
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// All values of a field.
    pub(crate) fn field(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

pub(crate) type Reply = Message;

/// One end of a connection.
pub(crate) struct Conversation {
    pub(crate) reader: BufReader<TcpStream>,
}

impl Conversation {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // Whether it arrives is seen by what comes back.
        let _ = self.reader.get_mut().write_all(bytes.as_ref());
    }

    pub(crate) fn answer(&mut self, body: &str) {
        let length = body.len();
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line),
        }
    }

    /// A head, with its empty line.
    pub(crate) fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            let line = self.line()?;
            let is_end = line == "\r\n";
            head.push_str(&line);
            if is_end {
                return Some(head);
            }
        }
    }

    /// A chunk; empty at the end.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(self.line()?.trim(), 16).ok()?;
        if length == 0 {
            return Some(Vec::new());
        }
        let mut chunk = vec![0; length + 2];
        self.reader.read_exact(&mut chunk).ok()?;
        chunk.truncate(length);
        Some(chunk)
    }

    /// A whole message with the body that its head announces.
    pub(crate) fn message(&mut self) -> Option<Message> {
        let head = self.head()?;
        self.body(head, false)
    }

    pub(crate) fn body(&mut self, head: String, to_end: bool) -> Option<Message> {
        let mut message = Message { head, body: Vec::new(), trailers: Vec::new() };
        if !message.field("transfer-encoding").is_empty() {
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                message.body.extend(chunk);
            }
            loop {
                let line = self.line()?;
                if line == "\r\n" {
                    break;
                }
                message.trailers.push(line.trim().to_owned());
            }
        } else if let Some(length) = message.field("content-length").first() {
            let mut body = vec![0; length.parse().unwrap()];
            self.reader.read_exact(&mut body).ok()?;
            message.body = body;
        } else if to_end {
            self.reader.read_to_end(&mut message.body).ok()?;
        }
        Some(message)
    }

    /// Whether the other side has closed.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.reader.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
            ),
        }
    }
}

/// A client of the proxy.
pub(crate) struct Client(pub(crate) Conversation);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self(Conversation::new(TcpStream::connect(address).unwrap()))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.send(bytes);
    }

    pub(crate) fn reply(&mut self) -> Reply {
        self.0.message().expect("an answer")
    }

    /// The answer to a HEAD request.
    pub(crate) fn bare_reply(&mut self) -> Reply {
        Message { head: self.0.head().expect("an answer"), body: Vec::new(), trailers: Vec::new() }
    }

    pub(crate) fn request(&mut self, method: &str, target: &str, rest: &str) -> Reply {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{rest}"));
        self.reply()
    }

    pub(crate) fn get(&mut self, target: &str) -> Reply {
        self.request("GET", target, "\r\n")
    }

    pub(crate) fn post(&mut self, method: &str, target: &str, body: &str) -> Reply {
        let rest = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        self.request(method, target, &rest)
    }
}
