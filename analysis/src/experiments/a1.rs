//! how evenly do random keys spread over the replicas?
//!
//! The counts are measured; beside each stands what the ring predicts. Where
//! the two differ by more than chance, requests do not follow the ring.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};
use indicatif::ProgressBar;
use serde::Serialize;

use super::{Setup, write};
use crate::balancer::{Balancer, Ring};
use crate::load::{self, Amount, Pace, Plan, Shape};
use crate::plot::{ShareBar, ShareChart};
use crate::report::{Report, csv, percent, thousands};
use crate::target::Target;

/// What A-1 is told beyond the common setup.
#[derive(Debug, Clone)]
pub struct Question {
    /// How many requests.
    pub requests: u64,
    /// The admin port, for the prediction; without it, or when it does not answer,
    /// the chart shows the measurement alone.
    pub admin_url: Option<String>,
}

/// What A-1 found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// One row per replica in service, in the order they joined.
    pub rows: Vec<Row>,
    /// The busiest replica's requests, relative to an even share; 1 is perfect.
    pub peak_to_average: f64,
    /// Why there is no prediction, when there is none.
    pub no_prediction: Option<String>,
    /// The load behind it.
    pub load: Report,
    /// The files written.
    pub files: Vec<PathBuf>,
}

/// One replica's part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The replica.
    pub name: String,
    /// Requests that it answered.
    pub requests: u64,
    /// Their part of all answered requests, from 0 to 1.
    pub measured: f64,
    /// The part that the ring gives it, from 0 to 1, when known.
    pub predicted: Option<f64>,
}

/// Runs the experiment.
///
/// # Errors
/// When the balancer does not answer, or the results cannot be written.
pub async fn run(setup: &Setup, question: &Question, bar: &ProgressBar) -> Result<Finding> {
    let names = Balancer::new(&setup.url)?.replicas().await?;
    let (ring, no_prediction) = match predict(question.admin_url.as_deref()).await {
        Ok(ring) => (Some(ring), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let plan = Plan {
        target: Target::resolve(&setup.url).await?,
        shape: Shape { key_header: setup.key_header.clone(), ..Shape::default() },
        keys: setup.keys,
        seed: setup.seed,
        pace: Pace::Closed,
        amount: Amount::Requests(question.requests),
        connections: setup.connections,
        deadline: setup.deadline,
        keep_samples: false,
    };
    let report = Report::new(&plan, &load::run(&plan, bar).await?);
    let rows = rows(&names, &report, ring.as_ref());
    let chart = chart(&rows, &report, setup);
    let files = vec![
        write(&setup.out, "a1.csv", &table(&rows))?,
        write(&setup.out, "a1.svg", &chart.svg()?)?,
    ];
    let peak_to_average = peak_to_average(&rows);
    Ok(Finding { rows, peak_to_average, no_prediction, load: report, files })
}

async fn predict(admin_url: Option<&str>) -> Result<Ring> {
    match admin_url {
        Some(url) => Balancer::new(url)?.ring().await,
        None => bail!("no --admin-url was given"),
    }
}

/// The replicas in service first, though they answered nothing; then whoever else answered.
fn rows(names: &[String], report: &Report, ring: Option<&Ring>) -> Vec<Row> {
    let strangers = report.replicas.keys().filter(|name| !names.contains(name));
    let row = |name: &String| {
        let requests = report.replicas.get(name).copied().unwrap_or(0);
        let owner = ring.and_then(|ring| ring.replicas.iter().find(|owner| owner.name == *name));
        Row {
            name: name.clone(),
            requests,
            measured: percent(requests, report.answered) / 100.0,
            predicted: owner.map(|owner| owner.share),
        }
    };
    names.iter().chain(strangers).map(row).collect()
}

fn peak_to_average(rows: &[Row]) -> f64 {
    let total: u64 = rows.iter().map(|row| row.requests).sum();
    let peak = rows.iter().map(|row| row.requests).max().unwrap_or(0);
    if total == 0 { 0.0 } else { peak as f64 * rows.len() as f64 / total as f64 }
}

fn table(rows: &[Row]) -> String {
    let header = ["replica", "requests", "measured_share", "predicted_share"].map(str::to_owned);
    let share = |share: f64| format!("{share:.6}");
    let row = |row: &Row| {
        vec![
            row.name.clone(),
            row.requests.to_string(),
            share(row.measured),
            row.predicted.map(share).unwrap_or_default(),
        ]
    };
    csv(&header, &rows.iter().map(row).collect::<Vec<_>>())
}

fn chart(rows: &[Row], report: &Report, setup: &Setup) -> ShareChart {
    let bar = |row: &Row| ShareBar {
        name: row.name.clone(),
        requests: row.requests,
        predicted: row.predicted,
    };
    ShareChart {
        title: format!("A-1: {} requests over {} replicas", thousands(report.requests), rows.len()),
        subtitle: format!(
            "keys {}, seed {}; {} failed; peak to average {:.3}",
            setup.keys,
            setup.seed,
            thousands(report.failed),
            peak_to_average(rows),
        ),
        bars: rows.iter().map(bar).collect(),
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.load)?;
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(7);
        writeln!(f, "\n{:width$}  {:>10}  measured  predicted", "replica", "requests")?;
        for row in &self.rows {
            let predicted =
                row.predicted.map_or("-".to_owned(), |share| format!("{:.2} %", 100.0 * share));
            let (requests, measured) = (thousands(row.requests), 100.0 * row.measured);
            writeln!(f, "{:width$}  {requests:>10}  {measured:>6.2} %  {predicted:>9}", row.name)?;
        }
        write!(f, "peak to average: {:.3}", self.peak_to_average)?;
        if let Some(reason) = &self.no_prediction {
            write!(f, "\nno prediction: {reason}")?;
        }
        for file in &self.files {
            write!(f, "\nwritten: {}", file.display())?;
        }
        Ok(())
    }
}
