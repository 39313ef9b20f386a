//! A-4: A-1 and A-2 again for every placement with every hash function, side by side.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use ringmaster_core::ring::{HashFunction, Placement};
use serde::Serialize;

use super::a2::{self, Point};
use super::testbed::{RingChoice, Testbed};
use super::{Setup, a1, write};
use crate::plot::{Cell, Grid};
use crate::report::{csv, thousands};

/// The key of siphash, from its reference vectors. It need not be secret, because an experiment has no
/// attackers.
const HASH_KEY: &str = "000102030405060708090a0b0c0d0e0f";
/// The N of A-1.
const A1_REPLICAS: usize = 3;

/// The parameters of A-4 beyond the common setup.
#[derive(Debug, Clone)]
pub struct Question {
    /// Requests at each N.
    pub requests: u64,
    /// The balancer's program.
    pub ringmaster: PathBuf,
    /// The companion server's program.
    pub server: PathBuf,
}

/// A placement with a hash function, and the measurements.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    /// How positions of virtual servers are chosen.
    pub placement: String,
    /// The hash function of keys; with the placement `hash` also of virtual servers.
    pub hash: String,
    /// The measurements of A-2, in the order of N.
    pub points: Vec<Point>,
}

/// The result of A-4.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// All pairs, by placement.
    pub pairs: Vec<Pair>,
    /// The files written.
    pub files: Vec<PathBuf>,
}

/// Runs the experiment with balancers of its own; `setup.url` is not used.
///
/// # Errors
/// When a balancer does not start or refuses to scale, a request fails, or the results cannot be
/// written.
pub async fn run(setup: &Setup, question: &Question, bar: &ProgressBar) -> Result<Finding> {
    let mut testbed = Testbed::new(&question.ringmaster, &question.server);
    let mut pairs = Vec::new();
    for placement in Placement::ALL {
        for hash in HashFunction::NAMES {
            let hash_key = (hash == "siphash").then(|| HASH_KEY.to_owned());
            let choice = RingChoice {
                placement: placement.name().to_owned(),
                hash: hash.to_owned(),
                hash_key: hash_key.clone(),
            };
            let (url, admin_url) = testbed.change_ring(&choice, *a2::SIZES.start()).await?;
            let question =
                a1::Question { requests: question.requests, admin_url: Some(admin_url), hash_key };
            let points = a2::measure(&Setup { url, ..setup.clone() }, &question, bar)
                .await
                .with_context(|| format!("with {} and {hash}", placement.name()))?;
            if let Some(failed) = points.iter().find(|point| point.failed > 0) {
                bail!("{} requests failed with {} and {hash}", failed.failed, placement.name());
            }
            let (placement, hash) = (choice.placement, choice.hash);
            pairs.push(Pair { placement, hash, points });
        }
    }
    testbed.stop().await?;
    let files = vec![
        write(&setup.out, "a4-a1.csv", &shares_table(&pairs)?)?,
        write(&setup.out, "a4-a2.csv", &table(&pairs))?,
        write(&setup.out, "a4-a1.svg", &shares_grid(&pairs, question.requests)?.svg()?)?,
        write(&setup.out, "a4-a2.svg", &peaks_grid(&pairs, question.requests).svg()?)?,
    ];
    Ok(Finding { pairs, files })
}

/// The measurement of A-1 among those of A-2.
fn a1_point(pair: &Pair) -> Result<&Point> {
    let point = pair.points.iter().find(|point| point.replicas == A1_REPLICAS);
    point.with_context(|| format!("A-2 does not measure {A1_REPLICAS} replicas"))
}

fn shares_table(pairs: &[Pair]) -> Result<String> {
    let header = ["placement", "hash", "replica", "requests", "measured_share", "predicted_share"];
    let mut rows = Vec::new();
    for pair in pairs {
        // The names of later replicas are drawn, so they are numbered as they joined.
        for (row, number) in a1_point(pair)?.rows.iter().zip(1..) {
            rows.push(vec![
                pair.placement.clone(),
                pair.hash.clone(),
                number.to_string(),
                row.requests.to_string(),
                format!("{:.6}", row.measured),
                row.predicted.map_or_else(String::new, |share| format!("{share:.6}")),
            ]);
        }
    }
    Ok(csv(&header.map(str::to_owned), &rows))
}

fn table(pairs: &[Pair]) -> String {
    let header: Vec<String> =
        ["placement", "hash"].iter().chain(&a2::COLUMNS).map(|&name| name.to_owned()).collect();
    let rows: Vec<Vec<String>> = pairs
        .iter()
        .flat_map(|pair| pair.points.iter().map(move |point| (pair, point)))
        .map(|(pair, point)| {
            [vec![pair.placement.clone(), pair.hash.clone()], a2::cells(point)].concat()
        })
        .collect();
    csv(&header, &rows)
}

fn groups() -> Vec<String> {
    Placement::ALL.map(|placement| format!("placement {}", placement.name())).to_vec()
}

fn hashes() -> Vec<String> {
    HashFunction::NAMES.map(str::to_owned).to_vec()
}

fn peaks_grid(pairs: &[Pair], requests: u64) -> Grid {
    let cell = |point: &Point| {
        let predicted = point.expected.map(|expected| expected.peak_to_average);
        Cell {
            value: point.peak_to_average,
            text: format!("{:.2}", point.peak_to_average),
            beneath: predicted.map_or_else(String::new, |peak| format!("{peak:.2}")),
        }
    };
    Grid {
        title: "A-4: peak to average of A-2 for every placement and hash function".to_owned(),
        subtitle: format!(
            "{} requests at each N; measured, beneath it what the ring predicts; 1 is even",
            thousands(requests)
        ),
        groups: groups(),
        columns: a2::SIZES.map(|replicas| format!("N = {replicas}")).collect(),
        rows: hashes(),
        cells: pairs.iter().map(|pair| pair.points.iter().map(cell).collect()).collect(),
    }
}

fn shares_grid(pairs: &[Pair], requests: u64) -> Result<Grid> {
    let mut cells = Vec::new();
    for pair in pairs {
        let point = a1_point(pair)?;
        let count = point.rows.len() as f64;
        cells.push(
            point
                .rows
                .iter()
                .map(|row| Cell {
                    value: row.measured * count,
                    text: format!("{:.1} %", 100.0 * row.measured),
                    beneath: row
                        .predicted
                        .map_or_else(String::new, |share| format!("{:.1} %", 100.0 * share)),
                })
                .collect(),
        );
    }
    Ok(Grid {
        title: "A-4: shares of A-1 for every placement and hash function".to_owned(),
        subtitle: format!(
            "{} requests over {A1_REPLICAS} replicas; measured, beneath it what the ring predicts; 33.3 % is even",
            thousands(requests)
        ),
        groups: groups(),
        columns: (1..=A1_REPLICAS).map(|number| format!("replica {number}")).collect(),
        rows: hashes(),
        cells,
    })
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "peak to average, measured / as the ring predicts:")?;
        write!(f, "{:<12}{:<12}", "placement", "hash")?;
        for replicas in a2::SIZES {
            write!(f, "{:>13}", format!("N = {replicas}"))?;
        }
        for pair in &self.pairs {
            write!(f, "\n{:<12}{:<12}", pair.placement, pair.hash)?;
            for point in &pair.points {
                let predicted = point.expected.map(|expected| expected.peak_to_average);
                let text = predicted.map_or_else(|| "-".to_owned(), |peak| format!("{peak:.3}"));
                write!(f, "{:>13}", format!("{:.3}/{text}", point.peak_to_average))?;
            }
        }
        for file in &self.files {
            write!(f, "\nwritten: {}", file.display())?;
        }
        Ok(())
    }
}
