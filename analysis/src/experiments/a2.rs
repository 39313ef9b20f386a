//! how evenly do requests spread when there are two replicas, three, up to six?
//!
//! The balancer is scaled by its own API; at each N the load of A-1 is sent, with the same keys.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::Result;
use indicatif::ProgressBar;
use serde::Serialize;

use super::a1::{self, Row};
use super::{Setup, write};
use crate::balancer::Balancer;
use crate::plot::{Interval, Line, LineChart};
use crate::predict::Expected;
use crate::report::{csv, thousands};

/// The numbers of replicas that are measured.
pub const SIZES: RangeInclusive<usize> = 2..=6;

/// The result of A-2.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The measurements, in the order of N.
    pub points: Vec<Point>,
    /// Requests sent at each N.
    pub requests: u64,
    /// The files written.
    pub files: Vec<PathBuf>,
}

/// One number of replicas.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// The number of replicas.
    pub replicas: usize,
    /// Requests per replica, on average.
    pub average: f64,
    /// Standard deviation of the replicas' requests.
    pub deviation: f64,
    /// The busiest replica's requests over the average.
    pub peak_to_average: f64,
    /// The prediction, if there is one.
    pub expected: Option<Expected>,
    /// Requests that failed.
    pub failed: u64,
    /// The replicas one by one.
    pub rows: Vec<Row>,
}

/// Runs the experiment; the balancer then has as many replicas as before.
///
/// # Errors
/// When the balancer does not answer or refuses to scale, or the results cannot be written.
pub async fn run(setup: &Setup, question: &a1::Question, bar: &ProgressBar) -> Result<Finding> {
    let balancer = Balancer::new(&setup.url)?;
    let before = balancer.replicas().await?.len();
    let measured = measure(setup, question, bar).await;
    // The fleet gets its former size back, also after an error.
    balancer.scale_to(before).await?;
    let points = measured?;
    let requests = question.requests;
    let files = vec![
        write(&setup.out, "a2.csv", &table(&points))?,
        write(&setup.out, "a2.svg", &averages_chart(&points, requests, setup).svg()?)?,
        write(&setup.out, "a2-peak.svg", &peaks_chart(&points, requests, setup).svg()?)?,
    ];
    Ok(Finding { points, requests, files })
}

/// Scales and measures, without writing anything.
///
/// # Errors
/// When the balancer does not answer, or refuses to scale.
pub async fn measure(
    setup: &Setup,
    question: &a1::Question,
    bar: &ProgressBar,
) -> Result<Vec<Point>> {
    let balancer = Balancer::new(&setup.url)?;
    let mut points = Vec::new();
    for replicas in SIZES {
        balancer.scale_to(replicas).await?;
        let measurement = a1::measure(setup, question, bar).await?;
        points.push(point(measurement));
    }
    Ok(points)
}

fn point(measurement: a1::Measurement) -> Point {
    let a1::Measurement { rows, load, .. } = measurement;
    let replicas = rows.len();
    let average = load.answered as f64 / replicas.max(1) as f64;
    let square = |row: &Row| (row.requests as f64 - average).powi(2);
    let variance = rows.iter().map(square).sum::<f64>() / replicas.max(1) as f64;
    Point {
        replicas,
        average,
        deviation: variance.sqrt(),
        peak_to_average: a1::peak_to_average(&rows),
        expected: a1::expected_of(&rows),
        failed: load.failed,
        rows,
    }
}

/// The columns of measured and predicted figures.
pub(super) const COLUMNS: [&str; 9] = [
    "n",
    "average",
    "deviation",
    "peak_to_average",
    "predicted_deviation",
    "predicted_peak_to_average",
    "chance_low",
    "chance_high",
    "failed",
];

/// The cells of [`COLUMNS`].
pub(super) fn cells(point: &Point) -> Vec<String> {
    let expected = |part: fn(&Expected) -> f64, digits: usize| {
        let value = point.expected.as_ref().map(part);
        value.map_or_else(String::new, |value| format!("{value:.digits$}"))
    };
    vec![
        point.replicas.to_string(),
        format!("{:.1}", point.average),
        format!("{:.1}", point.deviation),
        format!("{:.4}", point.peak_to_average),
        expected(|one| one.deviation, 1),
        expected(|one| one.peak_to_average, 4),
        expected(|one| one.low, 4),
        expected(|one| one.high, 4),
        point.failed.to_string(),
    ]
}

fn table(points: &[Point]) -> String {
    csv(&COLUMNS.map(str::to_owned), &points.iter().map(cells).collect::<Vec<_>>())
}

fn over(points: &[Point], value: impl Fn(&Point) -> Option<f64>) -> Vec<(f64, f64)> {
    let at = |point: &Point| Some((point.replicas as f64, value(point)?));
    points.iter().filter_map(at).collect()
}

fn conditions(points: &[Point], setup: &Setup) -> String {
    let failed: u64 = points.iter().map(|point| point.failed).sum();
    let Setup { keys, seed, .. } = setup;
    format!("keys {keys}, seed {seed}, the same at each N; {} failed", thousands(failed))
}

/// Requests per replica: their average, and how far they spread.
fn averages_chart(points: &[Point], requests: u64, setup: &Setup) -> LineChart {
    let interval = |point: &Point| Interval {
        x: point.replicas as f64,
        low: point.average - point.deviation,
        high: point.average + point.deviation,
    };
    let note = |point: &Point| format!("{:.0} ± {:.0}", point.average, point.deviation);
    LineChart {
        title: format!("A-2: {} requests over N replicas", thousands(requests)),
        subtitle: conditions(points, setup),
        across: "N, replicas in service".to_owned(),
        up: "requests answered per replica".to_owned(),
        from: 0.0,
        lines: vec![Line {
            label: "average ± standard deviation".to_owned(),
            points: over(points, |point| Some(point.average)),
            intervals: points.iter().map(interval).collect(),
            is_predicted: false,
            notes: points.iter().map(note).collect(),
        }],
    }
}

/// The busiest replica over the average, beside what the ring lets expect.
fn peaks_chart(points: &[Point], requests: u64, setup: &Setup) -> LineChart {
    let interval = |point: &Point| {
        let Expected { low, high, .. } = point.expected?;
        Some(Interval { x: point.replicas as f64, low, high })
    };
    let note = |point: &Point| format!("{:.3}", point.peak_to_average);
    LineChart {
        title: format!("A-2: the busiest of N replicas, {} requests", thousands(requests)),
        subtitle: conditions(points, setup),
        across: "N, replicas in service".to_owned(),
        up: "requests of the busiest over the average".to_owned(),
        from: 1.0,
        lines: vec![
            Line {
                label: "measured".to_owned(),
                points: over(points, |point| Some(point.peak_to_average)),
                intervals: Vec::new(),
                is_predicted: false,
                notes: points.iter().map(note).collect(),
            },
            Line {
                label: "the ring predicts; bars: 95 % of runs with random keys".to_owned(),
                points: over(points, |point| Some(point.expected?.peak_to_average)),
                intervals: points.iter().filter_map(interval).collect(),
                is_predicted: true,
                notes: Vec::new(),
            },
        ],
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} requests at each N", thousands(self.requests))?;
        writeln!(f, "N   average  deviation  peak/average  the ring  95 % of runs    failed")?;
        for point in &self.points {
            let expected = point.expected.map_or_else(
                || format!("{:>8}  {:>14}", "-", "-"),
                |one| format!("{:>8.3}  {:.3} to {:.3}", one.peak_to_average, one.low, one.high),
            );
            writeln!(
                f,
                "{}  {:>8.1}  {:>9.1}  {:>12.3}  {expected}  {:>6}",
                point.replicas, point.average, point.deviation, point.peak_to_average, point.failed
            )?;
        }
        for (number, file) in self.files.iter().enumerate() {
            let end = if number > 0 { "\n" } else { "" };
            write!(f, "{end}written: {}", file.display())?;
        }
        Ok(())
    }
}
