//! What sends the requests: wrk, h2load, our own open loop, and a crowd of idle connections.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use tokio::{
    net::TcpSocket,
    process::Command,
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};

use super::rows::Work;
use crate::{
    load::{self, Amount, KeySource, Pace, Plan, Shape},
    target::Target,
};

/// What wrk runs.
const SCRIPT: &str = include_str!("../../peers/load.lua");
/// Different keys of small requests; of uploads, each of which takes its size in memory.
const KEYS: usize = 8_192;
const UPLOAD_KEYS: usize = 128;
/// How long a program may take beyond the requested time.
const GRACE: Duration = Duration::from_secs(20);
/// Timeout of a request.
const DEADLINE: Duration = Duration::from_secs(10);
/// Idle connections that one source address has; there are not enough ports for all.
const PER_SOURCE: usize = 2_500;
/// Idle connections that are opened at the same time.
const OPENING: usize = 64;

/// The result of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counts {
    /// Successful requests.
    pub(crate) answered: u64,
    /// The duration of the load.
    pub(super) elapsed: Duration,
}

/// Sends requests in a closed loop for this time. All of them must succeed.
pub(crate) async fn closed(work: Work, address: SocketAddr, time: Duration) -> Result<Counts> {
    match work {
        Work::H2 { connections, streams } => h2load(address, time, connections, streams).await,
        Work::Upload { connections, bytes } => {
            let what = ["POST", "/upload", &bytes.to_string(), &UPLOAD_KEYS.to_string(), "keep"];
            wrk(address, time, connections, &what).await
        }
        Work::Connect { connections } => {
            let what = ["GET", "/bytes/64", "0", &KEYS.to_string(), "close"];
            wrk(address, time, connections, &what).await
        }
        Work::Get { connections, bytes } => {
            let path = format!("/bytes/{bytes}");
            wrk(address, time, connections, &["GET", &path, "0", &KEYS.to_string(), "keep"]).await
        }
        // Only to warm up, and to find the peak rate.
        Work::OpenLoop { .. } | Work::Idle { .. } => {
            let what = ["GET", "/bytes/64", "0", &KEYS.to_string(), "keep"];
            wrk(address, time, 64, &what).await
        }
    }
}

async fn wrk(
    address: SocketAddr,
    time: Duration,
    connections: usize,
    what: &[&str],
) -> Result<Counts> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let script = folder.path().join("load.lua");
    std::fs::write(&script, SCRIPT)?;
    let mut command = Command::new("wrk");
    command
        .args(["-t", "1", "-c", &connections.to_string()])
        .args(["-d", &whole_seconds(time), "--timeout", "10", "-s"])
        .args([script.as_os_str(), format!("http://{address}").as_ref(), "--".as_ref()])
        .args(what);
    let said = run("wrk", command, time).await?;
    of_wrk(&said)
}

async fn h2load(
    address: SocketAddr,
    time: Duration,
    connections: usize,
    streams: usize,
) -> Result<Counts> {
    let mut command = Command::new("h2load");
    command
        .args(["-t", "1", "-c", &connections.to_string(), "-m", &streams.to_string()])
        .args(["-D", &whole_seconds(time), "-H", "x-request-id: 1"])
        .arg(format!("http://{address}/bytes/64"));
    of_h2load(&run("h2load", command, time).await?)
}

/// Both programs count time in whole seconds.
fn whole_seconds(time: Duration) -> String {
    time.as_secs().max(1).to_string()
}

async fn run(name: &str, mut command: Command, time: Duration) -> Result<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(time + GRACE, command.output()).await;
    let output = output.with_context(|| format!("{name} does not end"))?;
    let output = output.with_context(|| format!("cannot run {name}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, words.lines().next().unwrap_or(&said));
    }
    Ok(said)
}

/// The line that our script writes: requests, microseconds, and five kinds of errors.
fn of_wrk(said: &str) -> Result<Counts> {
    let line = said.lines().find_map(|line| line.strip_prefix("counts "));
    let line = line.with_context(|| format!("wrk says no counts: {said:?}"))?;
    let numbers: Vec<u64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
    let &[answered, micros, connect, read, write, status, timeout] = numbers.as_slice() else {
        bail!("wrk says {line:?}");
    };
    if connect + read + write + status + timeout > 0 || answered == 0 {
        bail!(
            "of {answered} answers {status} had a bad status; \
             errors: {connect} connect, {read} read, {write} write, {timeout} timeout"
        );
    }
    Ok(Counts { answered, elapsed: Duration::from_micros(micros) })
}

/// Lines such as `finished in 2.01s, 5000.00 req/s, 1.20MB/s` and
/// `requests: 10 total, 10 started, 10 done, 9 succeeded, 1 failed, 1 errored, 0 timeout`.
fn of_h2load(said: &str) -> Result<Counts> {
    let line = |start: &str| said.lines().find_map(|line| line.strip_prefix(start));
    let counts = line("requests: ").with_context(|| format!("h2load says no counts: {said:?}"))?;
    let count = |name: &str| {
        let mut parts = counts.split(", ").filter_map(|part| part.split_once(' '));
        parts.find(|(_, word)| *word == name).and_then(|(number, _)| number.parse::<u64>().ok())
    };
    let (Some(answered), Some(failed)) = (count("succeeded"), count("failed")) else {
        bail!("h2load says {counts:?}");
    };
    if answered == 0 {
        bail!("no request was answered");
    }
    if failed > 0 {
        bail!("{failed} of {} requests failed", answered + failed);
    }
    let rate = line("finished in ")
        .and_then(|rest| rest.split(", ").nth(1)?.strip_suffix(" req/s")?.parse::<f64>().ok())
        .filter(|rate| *rate > 0.0)
        .context("h2load says no rate")?;
    Ok(Counts { answered, elapsed: Duration::from_secs_f64(answered as f64 / rate) })
}

/// Median and 99th percentile in microseconds at a fixed rate, from when each request was due.
pub(super) async fn open(
    address: SocketAddr,
    rate: f64,
    connections: usize,
    time: Duration,
) -> Result<[f64; 2]> {
    let plan = Plan {
        target: Target::resolve(&format!("http://{address}")).await?,
        shape: Shape { path: "/bytes/64".to_owned(), ..Shape::default() },
        keys: KeySource::Random,
        seed: 1,
        pace: Pace::Open { rate },
        amount: Amount::Duration(time),
        connections,
        deadline: DEADLINE,
        keep_samples: false,
    };
    let run = load::run(&plan, &ProgressBar::hidden()).await?;
    match run.tally.failed() {
        0 => Ok([0.5, 0.99].map(|part| run.tally.latency.value_at_quantile(part) as f64)),
        failed => bail!("{failed} of {} requests failed", failed + run.tally.answered),
    }
}

/// Connections that wait; they close with this value.
pub(super) struct Crowd {
    connections: Vec<Waiting>,
}

struct Waiting {
    _sender: SendRequest<Empty<Bytes>>,
    task: AbortHandle,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Crowd {
    /// Opens connections, and sends one request on each.
    pub(super) async fn gather(address: SocketAddr, count: usize) -> Result<Crowd> {
        let places = Arc::new(Semaphore::new(OPENING));
        let mut opening = JoinSet::new();
        for number in 0..count {
            let place = Arc::clone(&places).acquire_owned().await?;
            opening.spawn(async move {
                let opened = tokio::time::timeout(DEADLINE, wait_at(address, number)).await;
                drop(place);
                opened.context("a connection is not served")?
            });
        }
        let mut connections = Vec::with_capacity(count);
        while let Some(opened) = opening.join_next().await {
            connections.push(opened??);
        }
        Ok(Crowd { connections })
    }

    /// How many are still open.
    pub(super) fn len(&self) -> usize {
        self.connections.iter().filter(|one| !one.task.is_finished()).count()
    }
}

async fn wait_at(address: SocketAddr, number: usize) -> Result<Waiting> {
    let socket = TcpSocket::new_v4()?;
    let source = u8::try_from(number / PER_SOURCE).context("too many connections")?;
    socket.bind((Ipv4Addr::new(127, 2, 0, source + 1), 0).into())?;
    let stream = socket.connect(address).await.context("cannot connect")?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let task = tokio::spawn(async move {
        // The end of the task shows that the connection has ended.
        let _ = connection.await;
    });
    let waiting = task.abort_handle();
    let request = Request::get("/bytes/64")
        .header(HOST, address.to_string())
        .header("x-request-id", number.to_string())
        .body(Empty::new())?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        bail!("a connection is answered with {}", response.status());
    }
    response.into_body().collect().await?;
    Ok(Waiting { _sender: sender, task: waiting })
}

/// Instructions per request from header to replica, as valgrind counts them.
///
/// The difference of two runs with different numbers of turns leaves out the start of the program.
pub(super) async fn instructions(program: &Path, replicas: usize) -> Result<f64> {
    const TURNS: [u64; 2] = [20_000, 120_000];
    let mut counted = [0.0; 2];
    for (turns, counted) in TURNS.into_iter().zip(&mut counted) {
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(program)
            .args(["walk".to_owned(), format!("--replicas={replicas}"), format!("--turns={turns}")])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(6 * GRACE, command.output()).await;
        let output = output.context("valgrind does not end")?.context("cannot run valgrind")?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            bail!("valgrind failed: {}", words.lines().last().unwrap_or_default());
        }
        *counted = collected(&words).with_context(|| format!("no count in {words:?}"))?;
    }
    Ok((counted[1] - counted[0]) / (TURNS[1] - TURNS[0]) as f64)
}

/// A line such as `==7== Collected : 123456`.
fn collected(words: &str) -> Option<f64> {
    let (_, number) = words.lines().find_map(|line| line.split_once("Collected : "))?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_other_programs_are_read() {
        let counts = of_wrk("Running 2s test\ncounts 5000 2000000 0 0 0 0 0\n").unwrap();
        assert_eq!(counts, Counts { answered: 5_000, elapsed: Duration::from_secs(2) });
        assert!(of_wrk("counts 5000 2000000 0 0 0 3 0").unwrap_err().to_string().contains("3 had"));
        assert!(of_wrk("counts 0 2000000 0 0 0 0 0").is_err() && of_wrk("").is_err());

        let said = "finished in 2.00s, 250.00 req/s, 1MB/s\nrequests: 500 total, 500 started, \
                    500 done, 500 succeeded, 0 failed, 0 errored, 0 timeout\n";
        let counts = of_h2load(said).unwrap();
        assert_eq!(counts, Counts { answered: 500, elapsed: Duration::from_secs(2) });
        assert!(of_h2load(&said.replace("0 failed", "2 failed")).is_err());
        assert!(of_h2load(&said.replace("500 succeeded", "0 succeeded")).is_err());

        assert_eq!(collected("==7== \n==7== Collected : 1234\n"), Some(1234.0));
    }

    #[tokio::test]
    async fn idle_connections_stay_open_until_they_are_dropped() {
        let port = crate::process::free_port().unwrap();
        let server = tokio::spawn(crate::peers::replica::serve(1, port));
        let address = crate::peers::replica::address(0, port);
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        let crowd = Crowd::gather(address, 100).await.unwrap();
        assert_eq!(crowd.len(), 100);
        server.abort();
    }
}
