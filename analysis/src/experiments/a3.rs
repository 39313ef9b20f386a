//! what do clients notice when a replica is killed, and how soon is it replaced?
//!
//! A steady load runs; one replica is killed by a command; `GET /rep` is asked
//! all the time. Three moments matter: the kill, the victim out of the table,
//! the replacement in service.

mod command;
mod moments;

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use serde::Serialize;

pub use command::KillCommand;
pub use moments::{Moments, Replacement};

use super::{Setup, write};
use crate::balancer::Balancer;
use crate::load::{self, Amount, Outcome, Pace, Plan, Run, Shape};
use crate::plot::{Mark, Series, Timeline};
use crate::report::{Report, csv, thousands};
use crate::target::Target;

/// How wide one column of the time line is.
const BIN: Duration = Duration::from_millis(100);
/// Pause between two requests of `/rep`, which limits the precision of the moments.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Most changes of `/rep` that are kept.
const MAX_CHANGES: usize = 10_000;

/// The parameters of A-3 beyond the common setup.
#[derive(Debug, Clone)]
pub struct Question {
    /// Requests per second.
    pub rate: f64,
    /// How long the load runs.
    pub duration: Duration,
    /// When the victim is killed, counted from the start of the load.
    pub kill_after: Duration,
    /// The replica to kill; without it the first one of `/rep`.
    pub victim: Option<String>,
    /// The command that kills it.
    pub kill: KillCommand,
    /// Where `/rep` is asked, when not on the traffic port.
    pub admin_url: Option<String>,
}

/// The result of A-3.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The killed replica.
    pub victim: String,
    /// The moments of the replacement.
    pub moments: Moments,
    /// Requests of `/rep` that failed.
    pub unanswered_looks: u64,
    /// The load behind it.
    pub load: Report,
    /// The files written.
    pub files: Vec<PathBuf>,
}

/// Runs the experiment.
///
/// # Errors
/// When the balancer does not answer, the victim is unknown, the kill command
/// fails, or the results cannot be written.
pub async fn run(setup: &Setup, question: &Question, bar: &ProgressBar) -> Result<Finding> {
    if question.kill_after >= question.duration {
        bail!("the kill must come before the load ends");
    }
    let balancer = Balancer::new(question.admin_url.as_ref().unwrap_or(&setup.url))?;
    let before = balancer.replicas().await?;
    let victim = choose(&before, question.victim.as_deref())?;
    let plan = plan(setup, question).await?;
    let mut watch = Watch::default();
    let (run, killed) = tokio::select! {
        done = async {
            tokio::try_join!(load::run(&plan, bar), question.kill.run_after(question.kill_after, &victim))
        } => done?,
        never = watch.poll_for_ever(&balancer) => match never {},
    };
    let changes = watch.since(run.started);
    let killed = killed.saturating_duration_since(run.started);
    let moments = Moments::find(&before, &victim, killed, &changes, &run);
    let timeline = timeline(&before, &victim, &moments, &run, question);
    let files = vec![
        write(&setup.out, "a3.csv", &bins_table(&timeline))?,
        write(&setup.out, "a3-moments.csv", &moments.table(&victim))?,
        write(&setup.out, "a3.svg", &timeline.svg()?)?,
    ];
    let load = Report::new(&plan, &run);
    Ok(Finding { victim, moments, unanswered_looks: watch.unanswered, load, files })
}

fn choose(replicas: &[String], wanted: Option<&str>) -> Result<String> {
    let listed = replicas.join(", ");
    match wanted {
        None => replicas.first().cloned().context("there is no replica in service to kill"),
        Some(name) if replicas.iter().any(|replica| replica == name) => Ok(name.to_owned()),
        Some(name) => bail!("{name:?} is no replica in service, those are: {listed}"),
    }
}

async fn plan(setup: &Setup, question: &Question) -> Result<Plan> {
    Ok(Plan {
        target: Target::resolve(&setup.url).await?,
        shape: Shape { key_header: setup.key_header.clone(), ..Shape::default() },
        keys: setup.keys,
        seed: setup.seed,
        pace: Pace::Open { rate: question.rate },
        amount: Amount::Duration(question.duration),
        connections: setup.connections,
        deadline: setup.deadline,
        keep_samples: true,
    })
}

/// The changes in the responses of `/rep`.
#[derive(Debug, Default)]
struct Watch {
    changes: Vec<(Instant, Vec<String>)>,
    unanswered: u64,
}

impl Watch {
    async fn poll_for_ever(&mut self, balancer: &Balancer) -> Infallible {
        loop {
            match balancer.replicas().await {
                Ok(names) => {
                    let changed = self.changes.last().is_none_or(|(_, last)| *last != names);
                    if changed && self.changes.len() < MAX_CHANGES {
                        self.changes.push((Instant::now(), names));
                    }
                }
                Err(_) => self.unanswered += 1,
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn since(&self, start: Instant) -> Vec<(Duration, Vec<String>)> {
        let relative = |(at, names): &(Instant, Vec<String>)| {
            (at.saturating_duration_since(start), names.clone())
        };
        self.changes.iter().map(relative).collect()
    }
}

/// Sorts the samples into bins, and the replicas into the order in which they are stacked.
fn timeline(
    before: &[String],
    victim: &str,
    moments: &Moments,
    run: &Run,
    question: &Question,
) -> Timeline {
    let tally = &run.tally;
    let samples = tally.samples.as_deref().unwrap_or_default();
    let bin_of = |at: Duration| (at.as_micros() / BIN.as_micros()) as usize;
    let bins = samples.last().map_or(0, |last| bin_of(last.at) + 1);
    let mut series: Vec<Series> = stacking(before, victim, moments, &tally.names)
        .into_iter()
        .map(|name| Series { name, counts: vec![0; bins] })
        .collect();
    let unnamed = series.len();
    if tally.unnamed > 0 {
        series.push(Series { name: "(no name)".to_owned(), counts: vec![0; bins] });
    }
    let row_of: Vec<usize> = tally
        .names
        .iter()
        .map(|name| series.iter().position(|row| row.name == *name).unwrap_or(unnamed))
        .collect();
    let mut failed = vec![0; bins];
    for sample in samples {
        let counts = match sample.outcome {
            Outcome::Replica(place) => &mut series[row_of[place]].counts,
            Outcome::Unnamed => &mut series[unnamed].counts,
            Outcome::Failed => &mut failed,
        };
        counts[bin_of(sample.at)] += 1;
    }
    Timeline {
        title: format!("A-3: {victim} is killed under load"),
        subtitle: format!(
            "open loop of {} requests per second; {} answered, {} failed",
            question.rate,
            thousands(tally.answered),
            thousands(tally.failed()),
        ),
        bin: BIN,
        series,
        failed,
        marks: marks(moments),
    }
}

/// The replicas in their order, with the replacement next to the victim so that the
/// others keep their place in the picture, and all others that responded on top.
fn stacking(before: &[String], victim: &str, moments: &Moments, seen: &[String]) -> Vec<String> {
    let mut order = before.to_vec();
    if let Some(new) = moments.replacement.as_ref().filter(|new| !before.contains(&new.name)) {
        let after = order.iter().position(|name| name == victim).map_or(order.len(), |at| at + 1);
        order.insert(after, new.name.clone());
    }
    let strangers: Vec<String> =
        seen.iter().filter(|name| !order.contains(name)).cloned().collect();
    order.extend(strangers);
    order
}

fn marks(moments: &Moments) -> Vec<Mark> {
    let since_kill = |at: Duration| at.saturating_sub(moments.killed).as_millis();
    let killed = (moments.killed, format!("kill ({:.2} s)", moments.killed.as_secs_f64()));
    let out =
        moments.out_of_table.map(|at| (at, format!("out of the table (+{} ms)", since_kill(at))));
    let back = moments.replacement.as_ref().map(|new| {
        (new.in_service, format!("{} in service (+{} ms)", new.name, since_kill(new.in_service)))
    });
    let all = std::iter::once(killed).chain(out).chain(back);
    all.map(|(at, label)| Mark { at, label }).collect()
}

fn bins_table(timeline: &Timeline) -> String {
    let names = timeline.series.iter().map(|series| series.name.clone());
    let header: Vec<String> =
        std::iter::once("start_s".to_owned()).chain(names).chain(["failed".to_owned()]).collect();
    let rows = timeline.failed.iter().enumerate().map(|(bin, failed)| {
        let start = format!("{:.1}", bin as f64 * timeline.bin.as_secs_f64());
        let counts = timeline.series.iter().map(|series| series.counts[bin].to_string());
        std::iter::once(start).chain(counts).chain([failed.to_string()]).collect()
    });
    csv(&header, &rows.collect::<Vec<_>>())
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.load)?;
        write!(f, "{}", self.moments.describe(&self.victim))?;
        if self.unanswered_looks > 0 {
            write!(f, "\n/rep did not answer {} times", self.unanswered_looks)?;
        }
        for file in &self.files {
            write!(f, "\nwritten: {}", file.display())?;
        }
        Ok(())
    }
}
