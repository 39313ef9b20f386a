//! A load that runs until it is stopped: an open loop on many connections, which records the time and
//! the reason of each failure.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time};

/// Timeout of a request.
const DEADLINE: Duration = Duration::from_secs(10);

/// The rate and the connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) connections: u32,
    /// Requests per second, of all connections together.
    pub(crate) rate: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { connections: 100, rate: 500 }
    }
}

/// The result of a load.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) answered: u64,
    pub(crate) failures: Vec<String>,
    /// Responses by replica.
    pub(crate) by_replica: BTreeMap<String, u64>,
    pub(crate) slowest: Duration,
}

impl Report {
    /// Connections may have been refused or closed, but every response must be a success.
    #[track_caller]
    pub(crate) fn assert_no_bad_answer(&self) {
        let is_connection = |why: &&String| {
            let cut = ["connect: ", "hyper::Error(", "body: "];
            why.split_once(": ").is_some_and(|(_, why)| cut.iter().any(|cut| why.starts_with(cut)))
        };
        let bad: Vec<_> = self.failures.iter().filter(|why| !is_connection(why)).collect();
        let first: Vec<_> = bad.iter().take(10).collect();
        assert!(bad.is_empty(), "{} bad answers: {first:#?}", bad.len());
        assert!(self.answered > 0, "nothing was asked");
    }

    #[track_caller]
    pub(crate) fn assert_all_answered(&self) {
        let first: Vec<_> = self.failures.iter().take(10).collect();
        let (failed, answered) = (self.failures.len(), self.answered);
        assert_eq!(failed, 0, "of {} requests failed: {first:#?}", answered + failed as u64);
        assert!(answered > 0, "nothing was asked");
    }
}

struct Shared {
    to: SocketAddr,
    began: Instant,
    stop: AtomicBool,
    answered: AtomicU64,
    number: AtomicU64,
    report: Mutex<Report>,
}

/// A load under way. Dropping it ends it too.
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(to: SocketAddr, shape: Shape) -> Self {
        let shared = Arc::new(Shared {
            to,
            began: Instant::now(),
            stop: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            number: AtomicU64::new(0),
            report: Mutex::default(),
        });
        let in_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(in_thread, shape));
        });
        Self { shared, thread: Some(thread) }
    }

    /// Responses so far.
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Ends the load, and waits for open requests.
    pub(crate) fn end(mut self) -> Report {
        self.stop();
        let mut report = std::mem::take(&mut *self.shared.report.lock().unwrap());
        report.answered = self.answered();
        report
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed already.
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn run(shared: Arc<Shared>, shape: Shape) {
    let period = Duration::from_secs(1) * shape.connections / shape.rate;
    let tasks: Vec<_> = (0..shape.connections)
        .map(|index| {
            let first = time::Instant::now() + period * index / shape.connections;
            tokio::spawn(one(Arc::clone(&shared), time::interval_at(first, period)))
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

type Sender = SendRequest<Empty<Bytes>>;

/// One connection. A late request does not delay the next: their moments are fixed.
async fn one(shared: Arc<Shared>, mut due: time::Interval) {
    let mut sender: Option<Sender> = None;
    loop {
        let due = due.tick().await;
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let key = shared.number.fetch_add(1, Ordering::Relaxed);
        let result = time::timeout(DEADLINE, ask(&shared, &mut sender, key)).await;
        let result = result.unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}")));
        let mut report = shared.report.lock().unwrap();
        report.slowest = report.slowest.max(due.elapsed());
        match result {
            Ok(replica) => {
                shared.answered.fetch_add(1, Ordering::Relaxed);
                *report.by_replica.entry(replica).or_default() += 1;
            }
            Err(why) => {
                sender = None;
                let at = shared.began.elapsed();
                report.failures.push(format!("at {at:.3?}, key {key}: {why}"));
            }
        }
    }
}

/// Sends one request, and returns the replica that responded.
async fn ask(shared: &Shared, sender: &mut Option<Sender>, key: u64) -> Result<String, String> {
    let open = match sender {
        Some(open) => open.ready().await.is_ok(),
        None => false,
    };
    if !open {
        *sender = Some(connect(shared.to).await?);
    }
    let sender = sender.as_mut().ok_or("no connection")?;
    let request = Request::get("/home")
        .header("host", shared.to.to_string())
        .header("x-request-id", key.to_string())
        .body(Empty::new());
    let request = request.map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| format!("{error:?}"))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| format!("body: {error:?}"))?;
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    match body.split_once("Hello from Server: ").and_then(|(_, rest)| rest.split_once('"')) {
        Some((replica, _)) if status == 200 => Ok(replica.to_owned()),
        _ => Err(format!("{status}: {body}")),
    }
}

async fn connect(to: SocketAddr) -> Result<Sender, String> {
    let stream = TcpStream::connect(to).await.map_err(|error| format!("connect: {error}"))?;
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // An error also reaches the request in flight.
    tokio::spawn(connection);
    Ok(sender)
}
