//! how evenly do random keys spread over the replicas?
//!
//! Each measured count is shown next to the ring's prediction. Where
//! the two differ by more than chance, requests do not follow the ring.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};
use indicatif::ProgressBar;
use serde::Serialize;

use super::{Setup, write};
use crate::balancer::Balancer;
use crate::load::{self, Amount, Pace, Plan, Shape};
use crate::plot::{ShareBar, ShareChart};
use crate::predict::{self, Expected};
use crate::report::{Report, csv, percent, thousands};
use crate::target::Target;

/// The parameters of A-1 beyond the common setup.
#[derive(Debug, Clone)]
pub struct Question {
    /// How many requests.
    pub requests: u64,
    /// The admin port, for the prediction. Without it, or when it does not respond,
    /// the chart shows only the measurement.
    pub admin_url: Option<String>,
    /// The secret of the hash function siphash, which the balancer does not show.
    pub hash_key: Option<String>,
}

/// The result of A-1.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// One row per replica in service, in the order they joined.
    pub rows: Vec<Row>,
    /// The busiest replica's requests, relative to an even share; 1 is perfect.
    pub peak_to_average: f64,
    /// The prediction for `peak_to_average`.
    pub expected: Option<Expected>,
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
    /// The name of the replica.
    pub name: String,
    /// Requests that it answered.
    pub requests: u64,
    /// Their part of all answered requests, from 0 to 1.
    pub measured: f64,
    /// The part that the ring gives it, from 0 to 1, when known.
    pub predicted: Option<f64>,
}

/// The result of one load.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// One row per replica in service, in the order they joined.
    pub rows: Vec<Row>,
    /// Why there is no prediction, when there is none.
    pub no_prediction: Option<String>,
    /// The load behind it.
    pub load: Report,
}

/// Runs the experiment.
///
/// # Errors
/// When the balancer does not answer, or the results cannot be written.
pub async fn run(setup: &Setup, question: &Question, bar: &ProgressBar) -> Result<Finding> {
    let Measurement { rows, no_prediction, load } = measure(setup, question, bar).await?;
    let chart = chart(&rows, &load, setup);
    let files = vec![
        write(&setup.out, "a1.csv", &table(&rows))?,
        write(&setup.out, "a1.svg", &chart.svg()?)?,
    ];
    let peak_to_average = peak_to_average(&rows);
    let expected = expected_of(&rows);
    Ok(Finding { rows, peak_to_average, expected, no_prediction, load, files })
}

/// Sends the requests and counts the responses by replica, without writing anything.
///
/// # Errors
/// When the balancer does not answer.
pub async fn measure(setup: &Setup, question: &Question, bar: &ProgressBar) -> Result<Measurement> {
    let names = Balancer::new(&setup.url)?.replicas().await?;
    let (shares, no_prediction) = match predict(setup, question).await {
        Ok(shares) => (shares, None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
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
    let load = Report::new(&plan, &load::run(&plan, bar).await?);
    Ok(Measurement { rows: rows(&names, &load, &shares), no_prediction, load })
}

/// The predicted part of all requests for each replica, by name: computed key by key if the balancer
/// shows positions, else from its shares of the slots.
async fn predict(setup: &Setup, question: &Question) -> Result<Vec<(String, f64)>> {
    let Some(url) = question.admin_url.as_deref() else { bail!("no --admin-url was given") };
    let shown = Balancer::new(url)?.ring().await?;
    let names = shown.replicas.iter().map(|replica| replica.name.clone());
    let has_positions = shown.replicas.iter().any(|replica| !replica.slots.is_empty());
    let shares = if has_positions || !predict::keeps_positions(&shown) {
        let ring = predict::ring_of(&shown, question.hash_key.as_deref())?;
        predict::shares(&ring, setup.keys)
    } else {
        shown.replicas.iter().map(|replica| replica.share).collect()
    };
    Ok(names.zip(shares).collect())
}

/// The predicted peak-to-average; `None` without predicted shares.
pub(super) fn expected_of(rows: &[Row]) -> Option<Expected> {
    let shares: Option<Vec<f64>> = rows.iter().map(|row| row.predicted).collect();
    predict::expected(&shares?, rows.iter().map(|row| row.requests).sum())
}

/// The replicas in service, also those without a request, then all others that responded.
fn rows(names: &[String], report: &Report, shares: &[(String, f64)]) -> Vec<Row> {
    let strangers = report.replicas.keys().filter(|name| !names.contains(name));
    let row = |name: &String| {
        let requests = report.replicas.get(name).copied().unwrap_or(0);
        let predicted = shares.iter().find(|(owner, _)| owner == name);
        Row {
            name: name.clone(),
            requests,
            measured: percent(requests, report.answered) / 100.0,
            predicted: predicted.map(|(_, share)| *share),
        }
    };
    names.iter().chain(strangers).map(row).collect()
}

pub(super) fn peak_to_average(rows: &[Row]) -> f64 {
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
    let predicted =
        expected_of(rows).map(|expected| format!(", predicted {:.3}", expected.peak_to_average));
    ShareChart {
        title: format!("A-1: {} requests over {} replicas", thousands(report.requests), rows.len()),
        subtitle: format!(
            "keys {}, seed {}; {} failed; peak to average {:.3}{}",
            setup.keys,
            setup.seed,
            thousands(report.failed),
            peak_to_average(rows),
            predicted.unwrap_or_default(),
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
        if let Some(expected) = &self.expected {
            let Expected { peak_to_average, low, high, .. } = expected;
            write!(f, " (the ring: {peak_to_average:.3}, with chance {low:.3} to {high:.3})")?;
        }
        if let Some(reason) = &self.no_prediction {
            write!(f, "\nno prediction: {reason}")?;
        }
        for file in &self.files {
            write!(f, "\nwritten: {}", file.display())?;
        }
        Ok(())
    }
}
