//! Peers side by side: what one small GET costs each proxy in CPU time, in one run.
//!
//! Each proxy alone has core 0; this program (the load) and the replicas have the other one. The
//! order rotates from round to round, and ratios are taken within a round, so that what a noisy
//! machine does to one it does to the other.

mod process;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use serde::Serialize;

use self::process::{Child, free_port};
use crate::{
    experiments::write,
    load::{self, Amount, KeySource, Pace, Plan, Shape},
    report::csv,
    target::Target,
};

/// Replicas behind each proxy.
const REPLICAS: usize = 3;
/// Requests before anything is measured.
const WARM_UP: u64 = 2_000;
/// HAProxy's configuration, with places for the ports.
const HAPROXY: &str = include_str!("../../peers/haproxy.cfg");

/// What is compared, and how often.
#[derive(Clone, Debug)]
pub struct Question {
    /// The balancer's program.
    pub ringmaster: PathBuf,
    /// The companion server's program.
    pub server: PathBuf,
    /// Rounds, in each of which every proxy is measured once.
    pub rounds: usize,
    /// Requests per measurement.
    pub requests: u64,
    /// Keep-alive connections.
    pub connections: usize,
    /// The folder for peers.csv.
    pub out: PathBuf,
}

/// The proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Proxy {
    Ringmaster,
    Haproxy,
}

const PROXIES: [Proxy; 2] = [Proxy::Ringmaster, Proxy::Haproxy];

impl Proxy {
    fn name(self) -> &'static str {
        match self {
            Proxy::Ringmaster => "Ringmaster",
            Proxy::Haproxy => "HAProxy",
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    round: usize,
    proxy: Proxy,
    cpu_us_per_request: f64,
    requests_per_second: f64,
}

/// What a run of the comparison found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    measurements: Vec<Measured>,
    /// Our CPU time per request over HAProxy's, by round.
    ratios: Vec<f64>,
    haproxy_version: String,
}

/// Compares the proxies.
///
/// # Errors
/// A program that is missing or does not start, or any failed request.
pub async fn run(question: &Question, bar: &ProgressBar) -> Result<Finding> {
    let haproxy_version = process::version("haproxy").await?;
    let mut servers = Vec::new();
    let mut ports = Vec::new();
    for number in 1..=REPLICAS {
        let port = free_port()?;
        servers.push(process::server(&question.server, number, port).await?);
        ports.push(port);
    }
    let mut measurements = Vec::new();
    for round in 0..question.rounds {
        for turn in 0..PROXIES.len() {
            let proxy = PROXIES[(round + turn) % PROXIES.len()];
            bar.set_message(format!("round {}: {}", round + 1, proxy.name()));
            measurements.push(measure(question, proxy, round, &ports).await?);
        }
    }
    let ratios = ratios(&measurements);
    let finding = Finding { measurements, ratios, haproxy_version };
    write(&question.out, "peers.csv", &finding.csv())?;
    Ok(finding)
}

async fn measure(
    question: &Question,
    proxy: Proxy,
    round: usize,
    replicas: &[u16],
) -> Result<Measured> {
    let port = free_port()?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut child = match proxy {
        Proxy::Ringmaster => ringmaster(&question.ringmaster, port, replicas)?,
        Proxy::Haproxy => haproxy(folder.path(), port, replicas)?,
    };
    child.wait_until_ready(port).await?;
    load(question, port, WARM_UP).await?;
    let before = child.cpu_time()?;
    let run = load(question, port, question.requests).await?;
    let spent = child.cpu_time()?.saturating_sub(before);
    child.stop().await?;
    Ok(Measured {
        round: round + 1,
        proxy,
        cpu_us_per_request: spent.as_secs_f64() * 1e6 / question.requests as f64,
        requests_per_second: question.requests as f64 / run.as_secs_f64(),
    })
}

async fn load(question: &Question, port: u16, requests: u64) -> Result<Duration> {
    let plan = Plan {
        target: Target::resolve(&format!("http://127.0.0.1:{port}")).await?,
        shape: Shape::default(),
        keys: KeySource::Random,
        seed: 1,
        pace: Pace::Closed,
        amount: Amount::Requests(requests),
        connections: question.connections,
        deadline: Duration::from_secs(10),
        keep_samples: false,
    };
    let run = load::run(&plan, &ProgressBar::hidden()).await?;
    match run.tally.failed() {
        0 => Ok(run.elapsed),
        failed => bail!("{failed} of {requests} requests failed; nothing is compared"),
    }
}

fn ringmaster(program: &Path, port: u16, replicas: &[u16]) -> Result<Child> {
    let mut arguments = vec![
        "serve".to_owned(),
        "--workers=1".to_owned(),
        format!("--listen=127.0.0.1:{port}"),
        "--admin=127.0.0.1:0".to_owned(),
    ];
    for (index, replica) in replicas.iter().enumerate() {
        arguments.push(format!("--upstream=server_{}=127.0.0.1:{replica}", index + 1));
    }
    Child::on_core_0(program, &arguments)
}

fn haproxy(folder: &Path, port: u16, replicas: &[u16]) -> Result<Child> {
    let servers: Vec<String> = replicas
        .iter()
        .enumerate()
        .map(|(index, replica)| {
            // A pool as large as ours, kept as long as ours.
            format!(
                "    server server_{} 127.0.0.1:{replica} pool-max-conn 1024 pool-purge-delay 4s",
                index + 1
            )
        })
        .collect();
    let text =
        HAPROXY.replace("{port}", &port.to_string()).replace("{servers}", &servers.join("\n"));
    let path = folder.join("haproxy.cfg");
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let arguments = ["-db".to_owned(), "-f".to_owned(), path.display().to_string()];
    Child::on_core_0(Path::new("haproxy"), &arguments)
}

/// Ours over HAProxy's, round by round.
fn ratios(measurements: &[Measured]) -> Vec<f64> {
    let ours = measurements.iter().filter(|one| one.proxy == Proxy::Ringmaster);
    ours.filter_map(|our| {
        let theirs = measurements
            .iter()
            .find(|other| other.proxy == Proxy::Haproxy && other.round == our.round)?;
        Some(our.cpu_us_per_request / theirs.cpu_us_per_request)
    })
    .collect()
}

/// Median, least and greatest.
fn spread(values: impl IntoIterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (Some(&least), Some(&greatest)) = (values.first(), values.last()) else {
        return (f64::NAN, f64::NAN, f64::NAN);
    };
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    };
    (median, least, greatest)
}

impl Finding {
    fn csv(&self) -> String {
        let header = ["round", "proxy", "cpu_us_per_request", "requests_per_second"];
        let rows: Vec<Vec<String>> = self
            .measurements
            .iter()
            .map(|one| {
                vec![
                    one.round.to_string(),
                    one.proxy.name().to_owned(),
                    format!("{:.2}", one.cpu_us_per_request),
                    format!("{:.0}", one.requests_per_second),
                ]
            })
            .collect();
        csv(&header.map(str::to_owned), &rows)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "CPU time per small GET, each proxy on one core ({}):", self.haproxy_version)?;
        for proxy in PROXIES {
            let of = |part: fn(&Measured) -> f64| {
                spread(self.measurements.iter().filter(|one| one.proxy == proxy).map(part))
            };
            let (cpu, least, greatest) = of(|one| one.cpu_us_per_request);
            let (rate, ..) = of(|one| one.requests_per_second);
            writeln!(
                f,
                "  {:<12} {cpu:>6.2} µs median ({least:.2} to {greatest:.2}), {rate:>7.0} requests/s",
                proxy.name()
            )?;
        }
        let (ratio, least, greatest) = spread(self.ratios.iter().copied());
        write!(f, "  ratio        {ratio:>6.2}    median ({least:.2} to {greatest:.2})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let one = |round, proxy, cpu_us_per_request| Measured {
            round,
            proxy,
            cpu_us_per_request,
            requests_per_second: 1.0,
        };
        let measurements = [
            one(1, Proxy::Ringmaster, 10.0),
            one(1, Proxy::Haproxy, 20.0),
            one(2, Proxy::Haproxy, 40.0),
            one(2, Proxy::Ringmaster, 30.0),
        ];
        assert_eq!(ratios(&measurements), [0.5, 0.75]);
        assert_eq!(spread([3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread([1.0, 2.0]), (1.5, 1.0, 2.0));
    }
}
