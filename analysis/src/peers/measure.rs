//! One proxy in one row: started, warmed up, measured, stopped.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};

use super::{
    Question,
    generators::{self, Crowd},
    proxies::{self, Running},
    rows::{Proxy, Row, Unit, Work},
};

/// How long every proxy is loaded before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// Time for the work that a proxy does after a response.
const SETTLE: Duration = Duration::from_millis(500);

/// The result of a measurement.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The measured values with their units.
    Figures(Vec<(Unit, f64)>),
    /// The proxy serves, but does not support the protocol of the row.
    NotYet,
}

/// Measures one proxy in one row. `rate`: of the open loop.
pub(super) async fn measure(
    question: &Question,
    row: &Row,
    proxy: Proxy,
    replicas: u16,
    rate: f64,
) -> Result<Outcome> {
    let running = proxies::start(question, proxy, row, replicas).await?;
    let warm = generators::closed(row.work, running.address, WARM_UP).await;
    if warm.is_err() && matches!(row.work, Work::H2 { .. }) && speaks_http_1(&running).await {
        running.child.stop().await?;
        return Ok(Outcome::NotYet);
    }
    warm.context("while it warmed up")?;
    let figures = match row.work {
        Work::OpenLoop { connections } => {
            let direct = super::replica::address(0, replicas);
            added_latency(question, &running, direct, rate, connections).await
        }
        Work::Idle { connections } => idle_memory(&running, connections).await,
        _ => cpu_per_request(question, row.work, &running).await,
    };
    let figures = figures?;
    running.child.stop().await?;
    Ok(Outcome::Figures(figures))
}

/// Whether a proxy that failed with HTTP/2 serves HTTP/1.
async fn speaks_http_1(running: &Running) -> bool {
    let get = Work::Get { connections: 1, bytes: 64 };
    generators::closed(get, running.address, WARM_UP).await.is_ok()
}

async fn cpu_per_request(
    question: &Question,
    work: Work,
    running: &Running,
) -> Result<Vec<(Unit, f64)>> {
    let before = running.child.cpu_time()?;
    let counts = generators::closed(work, running.address, question.time).await?;
    let spent = running.child.cpu_time()?.saturating_sub(before);
    let answered = counts.answered as f64;
    Ok(vec![
        (Unit::CpuMicros, spent.as_secs_f64() * 1e6 / answered),
        (Unit::Throughput, answered / counts.elapsed.as_secs_f64()),
    ])
}

/// The same load without the proxy and through it, one right after the other.
async fn added_latency(
    question: &Question,
    running: &Running,
    direct: SocketAddr,
    rate: f64,
    connections: usize,
) -> Result<Vec<(Unit, f64)>> {
    let [p50, p99] = generators::open(direct, rate, connections, question.time).await?;
    let through = generators::open(running.address, rate, connections, question.time).await?;
    Ok(vec![(Unit::AddedP50, through[0] - p50), (Unit::AddedP99, through[1] - p99)])
}

async fn idle_memory(running: &Running, connections: usize) -> Result<Vec<(Unit, f64)>> {
    tokio::time::sleep(SETTLE).await;
    let before = running.child.memory()?;
    let crowd = Crowd::gather(running.address, connections).await?;
    tokio::time::sleep(SETTLE).await;
    let after = running.child.memory()?;
    if crowd.len() < connections {
        bail!("{} of {connections} idle connections were closed", connections - crowd.len());
    }
    Ok(vec![(Unit::Memory, (after as f64 - before as f64) / connections as f64)])
}

/// Half the rate that the slower one of HAProxy and us reaches.
pub(super) async fn half_the_peak(
    question: &Question,
    row: &Row,
    proxies: &[Proxy],
    replicas: u16,
) -> Result<f64> {
    let mut slowest = f64::INFINITY;
    for proxy in [Proxy::Ringmaster, Proxy::Haproxy] {
        if !proxies.contains(&proxy) {
            continue;
        }
        let running = proxies::start(question, proxy, row, replicas).await?;
        generators::closed(row.work, running.address, WARM_UP).await?;
        let counts = generators::closed(row.work, running.address, question.time).await?;
        running.child.stop().await?;
        slowest = slowest.min(counts.answered as f64 / counts.elapsed.as_secs_f64());
    }
    if !slowest.is_finite() {
        bail!("neither HAProxy nor Ringmaster takes part");
    }
    Ok(slowest / 2.0)
}
