//! Compares proxies in one run: the CPU time of a request in each of them.
//!
//! Each proxy alone has one core; the load and the replicas have another one. The order rotates
//! from round to round, and ratios are taken within a round, so that noise of the machine affects
//! all of them alike. [`rows`] defines what is measured and the goals; `proxies`
//! configures and starts, `generators` sends, `measure` ties them together, [`finding`] sums up.

pub mod finding;
pub(crate) mod generators;
mod measure;
mod proxies;
pub mod replica;
pub mod rows;
pub mod splice;
pub mod walk;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;

use self::{
    finding::{Figure, Finding, Gap},
    measure::Outcome,
    rows::{Proxy, Row, Unit, Work},
};
use crate::{
    experiments::write,
    process::{self, Child, LOAD_CORE, Others, Ready, free_port},
};

/// Open files without which the row of idle connections cannot be measured.
const FILES_NEEDED: u64 = 15_000;

/// The parameters of a comparison.
#[derive(Clone, Debug)]
pub struct Question {
    /// This program: it serves as replicas and as splice too, and walks the ring.
    pub myself: PathBuf,
    /// The balancer's program.
    pub ringmaster: PathBuf,
    /// Envoy's program.
    pub envoy: PathBuf,
    /// Rounds, in each of which every proxy is measured once in every row.
    pub rounds: usize,
    /// How long a proxy is loaded in each measurement.
    pub time: Duration,
    /// The rows, none for all.
    pub only: Vec<String>,
    /// The folder for the results.
    pub out: PathBuf,
}

/// Compares the proxies, and writes the result.
///
/// # Errors
/// When nothing can be compared. A measurement that fails becomes a gap in the finding.
pub async fn run(question: &Question, bar: &ProgressBar) -> Result<Finding> {
    let rows = rows::chosen(&question.only).map_err(anyhow::Error::msg)?;
    if question.rounds == 0 {
        bail!("at least one round is needed");
    }
    let mut finding = Finding::new(question.rounds, rows.clone());
    let proxies = installed(question, &mut finding).await?;
    let files = process::raise_file_limit()?;
    if files < FILES_NEEDED && rows.iter().any(|row| matches!(row.work, Work::Idle { .. })) {
        bail!("idle-memory needs {FILES_NEEDED} open files, and {files} are allowed");
    }
    let others = Others::watch()?;
    let most = rows.iter().map(|row| row.replicas).max().unwrap_or(1);
    let (replicas, port) = start_replicas(question, most).await?;
    let mut bench = Bench { question, proxies, port, rate: None, finding, bar };
    for round in 0..question.rounds {
        for row in &rows {
            bench.row(round, row).await;
        }
    }
    for row in rows.iter().filter(|row| row.is_about_the_ring()) {
        bench.instructions(row).await;
    }
    replicas.stop().await?;
    bar.finish_and_clear();
    let mut finding = bench.finding;
    finding.note(format!(
        "Other programs had {:.2} cores on average meanwhile; the fewer, the better the figures.",
        others.cores()?
    ));
    keep(&question.out, &finding)?;
    Ok(finding)
}

fn keep(out: &Path, finding: &Finding) -> Result<()> {
    write(out, "bench.csv", &finding.csv())?;
    write(out, "bench.md", &finding.markdown())?;
    write(out, "bench.svg", &finding.chart().svg()?)?;
    Ok(())
}

/// The proxies that can be started, with their versions; those that cannot are named too.
async fn installed(question: &Question, finding: &mut Finding) -> Result<Vec<Proxy>> {
    for generator in ["wrk", "h2load"] {
        let flag = if generator == "wrk" { "-v" } else { "--version" };
        let version = process::version(Path::new(generator), flag).await;
        finding.version(generator, version.with_context(|| format!("{generator} is missing"))?);
    }
    let mut present = Vec::new();
    for proxy in Proxy::ALL {
        let (program, flag) = proxies::program(question, proxy);
        match process::version(&program, flag).await {
            Some(version) => {
                present.push(proxy);
                if matches!(proxy, Proxy::Haproxy | Proxy::Nginx | Proxy::Envoy) {
                    finding.version(proxy.name(), version);
                }
            }
            None if proxy == Proxy::Ringmaster => bail!("there is no {}", program.display()),
            None => finding.version(proxy.name(), "not installed, skipped".to_owned()),
        }
    }
    Ok(present)
}

async fn start_replicas(question: &Question, count: usize) -> Result<(Child, u16)> {
    let port = free_port()?;
    let arguments = ["replicas".to_owned(), format!("--count={count}"), format!("--port={port}")];
    let mut child = Child::on_cores(LOAD_CORE, &question.myself, &arguments)?;
    let last: SocketAddr = replica::address(count - 1, port);
    child.wait_until_ready(last, Ready::Answers).await?;
    Ok((child, port))
}

/// A running comparison.
struct Bench<'a> {
    question: &'a Question,
    proxies: Vec<Proxy>,
    /// The port of all replicas.
    port: u16,
    /// The rate of the open loop, the same in all rounds.
    rate: Option<f64>,
    finding: Finding,
    bar: &'a ProgressBar,
}

impl Bench<'_> {
    /// Measures every proxy once, starting with another one in each round.
    async fn row(&mut self, round: usize, row: &Row) {
        let mut turn: Vec<Proxy> =
            row.proxies.iter().copied().filter(|proxy| self.proxies.contains(proxy)).collect();
        let first = round % turn.len().max(1);
        turn.rotate_left(first);
        for proxy in turn {
            let place = format!("round {}: {}, {}", round + 1, row.name, proxy.name());
            self.bar.set_message(place.clone());
            if !self.bar.is_hidden() {
                self.bar.tick();
            }
            match self.one(row, proxy).await {
                Ok(Outcome::Figures(figures)) => {
                    let figures = figures.into_iter().map(|(unit, value)| Figure {
                        round: round + 1,
                        row: row.name,
                        proxy,
                        unit,
                        value,
                    });
                    self.finding.figures.extend(figures);
                }
                Ok(Outcome::NotYet) => {
                    self.finding.gap(Gap { row: row.name, proxy, why: None });
                }
                Err(error) => {
                    eprintln!("analysis: {place}: {error:#}");
                    let why = Some(format!("{error:#}"));
                    self.finding.gap(Gap { row: row.name, proxy, why });
                }
            }
        }
    }

    async fn one(&mut self, row: &Row, proxy: Proxy) -> Result<Outcome> {
        let rate = match (row.work, self.rate) {
            (Work::OpenLoop { .. }, None) => {
                let rate =
                    measure::half_the_peak(self.question, row, &self.proxies, self.port).await?;
                *self.rate.insert(rate)
            }
            (_, rate) => rate.unwrap_or_default(),
        };
        self.finding.rate = self.rate;
        measure::measure(self.question, row, proxy, self.port, rate).await
    }

    /// Counted once: the same program takes the same instructions each time.
    async fn instructions(&mut self, row: &Row) {
        self.bar.set_message(format!("{}: instructions", row.name));
        match generators::instructions(&self.question.myself, row.replicas).await {
            Ok(value) => self.finding.figures.push(Figure {
                round: 1,
                row: row.name,
                proxy: Proxy::Ringmaster,
                unit: Unit::Instructions,
                value,
            }),
            Err(error) => self
                .finding
                .note(format!("instructions from key to replica were not counted: {error:#}")),
        }
    }
}
