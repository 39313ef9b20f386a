//! Several processes of one fleet, measured while servers, supervisors and the Redis come and go.
//!
//! Each row starts what it needs on free ports of the loopback and ends it, also when it fails:
//! [`fleet`](self) starts processes, `containers` what there is of Docker, `background` sends the
//! load meanwhile, `status` shows when all agree, `finding` sums up.

mod background;
mod commands;
mod containers;
mod cpu;
mod finding;
mod fleet;
mod lost;
mod statistics;
mod status;
mod stranger;
mod takeover;
mod traffic;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, anyhow, bail};
use indicatif::ProgressBar;
use tokio::signal::unix::{SignalKind, signal};

pub use self::{
    finding::{Finding, Row},
    fleet::Programs,
};
use crate::{experiments::write, process::raise_file_limit};

/// The names of all measurements, in their order.
const NAMES: [&str; 8] =
    ["servers", "containers", "takeover", "lost", "stranger", "cpu", "statistics", "traffic"];
/// No measurement takes as long.
const LONGEST: Duration = Duration::from_secs(600);

/// The parameters of the measurements.
#[derive(Clone, Debug)]
pub struct Question {
    /// The programs under test.
    pub programs: Programs,
    /// How often the Redis is paused.
    pub pauses: usize,
    /// These measurements, none for all.
    pub only: Vec<String>,
    /// The folder for the table.
    pub out: PathBuf,
}

/// Measures, and writes the table. What cannot be measured is a gap in it.
///
/// # Errors
/// An unknown measurement, a table that cannot be written, or an interruption.
pub async fn run(question: &Question, bar: &ProgressBar) -> Result<Finding> {
    if let Some(odd) = question.only.iter().find(|name| !NAMES.contains(&name.as_str())) {
        bail!("'{odd}' is not one of {}", NAMES.join(", "));
    }
    raise_file_limit()?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let ended = async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    tokio::select! {
        finding = measure(question, bar) => {
            let finding = finding?;
            write(&question.out, "roles.md", &finding.to_string())?;
            Ok(finding)
        }
        // All processes end here, because their values are dropped.
        () = ended => bail!("interrupted"),
    }
}

async fn measure(question: &Question, bar: &ProgressBar) -> Result<Finding> {
    let mut finding = Finding::default();
    for name in NAMES {
        if !question.only.is_empty() && !question.only.iter().any(|only| only == name) {
            continue;
        }
        bar.set_message(name);
        if !bar.is_hidden() {
            bar.tick();
        }
        let measured = tokio::time::timeout(LONGEST, one(question, name, &mut finding.notes)).await;
        let late = |_| Err(anyhow!("not done within {LONGEST:?}"));
        match measured.unwrap_or_else(late) {
            Ok(rows) => finding.rows.extend(rows),
            Err(error) => {
                eprintln!("analysis: {name}: {error:#}");
                finding.gaps.push(format!("{name}: {error:#}"));
            }
        }
    }
    bar.finish_and_clear();
    Ok(finding)
}

async fn one(question: &Question, name: &str, notes: &mut Vec<String>) -> Result<Vec<Row>> {
    let programs = &question.programs;
    match name {
        "servers" => commands::servers(programs).await,
        "containers" => commands::containers(programs).await,
        "takeover" => takeover::measure(programs, notes).await,
        "lost" => lost::measure(programs, question.pauses).await,
        "stranger" => stranger::measure(programs).await,
        "cpu" => cpu::measure(programs).await,
        "statistics" => statistics::measure(programs).await,
        _ => traffic::measure(),
    }
}
