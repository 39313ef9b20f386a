//! The result of a comparison: every figure, with medians, ratios and verdicts.

mod text;

use serde::Serialize;

use super::rows::{Against, Goal, Proxy, Row, Unit};
use crate::{
    plot::{GoalBar, GoalChart},
    report::{csv, spread},
};

/// One figure of one measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The number of the round, from 1.
    pub round: usize,
    /// The row's name.
    pub row: &'static str,
    /// The measured proxy.
    pub proxy: Proxy,
    /// The unit of the figure.
    pub unit: Unit,
    /// The measured value.
    pub value: f64,
}

/// A missing figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The row's name.
    pub row: &'static str,
    /// The proxy whose figure is missing.
    pub proxy: Proxy,
    /// The error; `None` if the proxy does not support what the row measures.
    pub why: Option<String>,
}

/// Median, least and greatest of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest value.
    pub least: f64,
    /// The largest value.
    pub greatest: f64,
}

impl Spread {
    /// `None` without figures.
    #[must_use]
    pub fn of(values: Vec<f64>) -> Option<Spread> {
        let (median, least, greatest) = spread(values.iter().copied());
        (!values.is_empty()).then_some(Spread { median, least, greatest })
    }
}

/// The result of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How often everything was measured.
    pub rounds: usize,
    /// Requests per second of the open loop, once it was measured.
    pub rate: Option<f64>,
    /// All figures, in the order of measuring.
    pub figures: Vec<Figure>,
    /// The missing figures.
    pub gaps: Vec<Gap>,
    /// Further remarks.
    pub notes: Vec<String>,
    versions: Vec<(String, String)>,
    #[serde(skip)]
    rows: Vec<Row>,
}

impl Finding {
    /// A result without figures.
    #[must_use]
    pub fn new(rounds: usize, rows: Vec<Row>) -> Finding {
        Finding {
            rounds,
            rate: None,
            figures: Vec::new(),
            gaps: Vec::new(),
            notes: Vec::new(),
            versions: Vec::new(),
            rows,
        }
    }

    /// Adds a program's version, from the line in which it prints it.
    pub fn version(&mut self, program: &str, line: String) {
        let version = version_number(&line).map_or(line.clone(), str::to_owned);
        self.versions.push((program.to_owned(), version));
    }

    /// Adds a remark, once.
    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Adds a gap, once for a row and proxy.
    pub fn gap(&mut self, gap: Gap) {
        let is_same = |other: &Gap| other.row == gap.row && other.proxy == gap.proxy;
        if !self.gaps.iter().any(is_same) {
            self.gaps.push(gap);
        }
    }

    /// Whether no figure is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.gaps.iter().all(|gap| gap.why.is_none())
    }

    fn value(&self, row: &str, proxy: Proxy, unit: Unit, round: usize) -> Option<f64> {
        let is_it = |one: &&Figure| {
            one.row == row && one.proxy == proxy && one.unit == unit && one.round == round
        };
        self.figures.iter().find(is_it).map(|one| one.value)
    }

    fn spread(&self, row: &str, proxy: Proxy, unit: Unit) -> Option<Spread> {
        let rounds = 1..=self.rounds;
        Spread::of(rounds.filter_map(|round| self.value(row, proxy, unit, round)).collect())
    }

    /// The ratio of a figure to the one it is compared with, in each round that has both.
    fn ratio(&self, row: &str, of: Proxy, unit: Unit, against: Against) -> Option<Spread> {
        let in_round = |round: usize| {
            let ours = self.value(row, of, unit, round)?;
            let theirs = match against {
                Against::Proxy(proxy) => self.value(row, proxy, unit, round)?,
                Against::Row(other) => self.value(other, of, unit, round)?,
                Against::Number(number) => number,
            };
            // Noise may make the other figure 0.
            (theirs > 0.0).then_some(ours / theirs)
        };
        Spread::of((1..=self.rounds).filter_map(in_round).collect())
    }

    fn ratio_of_goal(&self, row: &Row, goal: &Goal) -> Option<Spread> {
        self.ratio(row.name, goal.of, goal.unit, goal.against)
    }

    /// Every figure as a line.
    #[must_use]
    pub fn csv(&self) -> String {
        let header = ["round", "row", "proxy", "unit", "value"].map(str::to_owned);
        let lines: Vec<Vec<String>> = self
            .figures
            .iter()
            .map(|one| {
                vec![
                    one.round.to_string(),
                    one.row.to_owned(),
                    one.proxy.name().to_owned(),
                    one.unit.name().to_owned(),
                    format!("{:.3}", one.value),
                ]
            })
            .collect();
        csv(&header, &lines)
    }

    /// The goals with what was measured, as a picture.
    #[must_use]
    pub fn chart(&self) -> GoalChart {
        let mut bars = Vec::new();
        for row in &self.rows {
            for goal in row.goals {
                if let Some(ratio) = self.ratio_of_goal(row, goal) {
                    bars.push(GoalBar {
                        name: match goal.unit {
                            Unit::CpuMicros => row.name.to_owned(),
                            unit => format!("{}, {unit}", row.name),
                        },
                        median: ratio.median,
                        least: ratio.least,
                        greatest: ratio.greatest,
                        goal: goal.most,
                    });
                }
            }
        }
        GoalChart {
            title: "Ringmaster beside what it is held against".to_owned(),
            subtitle: format!(
                "Median, least and greatest of the ratios in {} rounds; lower is better, the mark is the goal",
                self.rounds
            ),
            bars,
        }
    }
}

/// The first number with a point in it, after the word `version` if that is there: what comes
/// before it may be a path.
fn version_number(line: &str) -> Option<&str> {
    let rest = line.split_once("version").map_or(line, |(_, rest)| rest);
    let mut parts = rest.split(|c: char| !c.is_ascii_digit() && c != '.');
    parts.find(|part| part.contains('.') && part.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::rows::chosen;

    fn finding(only: &[&str], figures: &[(usize, &'static str, Proxy, Unit, f64)]) -> Finding {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        let mut finding = Finding::new(2, chosen(&only).unwrap());
        for &(round, row, proxy, unit, value) in figures {
            finding.figures.push(Figure { round, row, proxy, unit, value });
        }
        finding
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let cpu = Unit::CpuMicros;
        let finding = finding(
            &["get-64", "ring-56"],
            &[
                (1, "get-64", Proxy::Ringmaster, cpu, 10.0),
                (1, "get-64", Proxy::Haproxy, cpu, 20.0),
                (2, "get-64", Proxy::Haproxy, cpu, 30.0),
                (2, "get-64", Proxy::Ringmaster, cpu, 24.0),
                (1, "ring-3", Proxy::Ringmaster, cpu, 10.0),
                (1, "ring-56", Proxy::Ringmaster, cpu, 12.0),
            ],
        );
        let against = Against::Proxy(Proxy::Haproxy);
        let ratio = finding.ratio("get-64", Proxy::Ringmaster, cpu, against).unwrap();
        assert_eq!(ratio, Spread { median: 0.65, least: 0.5, greatest: 0.8 });
        let grown = finding.ratio("ring-56", Proxy::Ringmaster, cpu, Against::Row("ring-3"));
        assert_eq!(grown.map(|ratio| ratio.median), Some(1.2));
        assert_eq!(finding.ratio("get-64", Proxy::Nginx, cpu, against), None);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).map(|spread| spread.median), Some(2.0));
        assert_eq!(Spread::of(Vec::new()), None);

        let text = finding.to_string();
        assert!(text.contains("25.00 (20.00–30.00)"), "{text}");
        assert!(text.contains("✓ 0.65 (0.50–0.80) ≤ 0.90 × HAProxy"), "{text}");
        assert!(text.contains("✗ 1.20 (1.20–1.20) ≤ 1.10 × ring-3"), "{text}");
        assert!(finding.markdown().contains("| get-64 | CPU µs/request |"));
        assert!(finding.csv().contains("1,get-64,HAProxy,cpu_us_per_request,20.000\n"));
        assert_eq!(finding.chart().bars.len(), 2);
    }

    #[test]
    fn missing_figures_are_reported() {
        let mut finding = finding(&["h2"], &[]);
        finding.gap(Gap { row: "h2", proxy: Proxy::Ringmaster, why: None });
        assert!(finding.is_complete());
        assert!(finding.to_string().contains("not yet"));
        let why = Some("refused".to_owned());
        finding.gap(Gap { row: "h2", proxy: Proxy::Nginx, why });
        assert!(!finding.is_complete());
        assert!(finding.to_string().contains("h2, nginx: refused"), "{finding}");
        assert!(finding.markdown().contains("h2, nginx: could not be measured"));
    }

    #[test]
    fn versions_are_found_past_paths_and_dates() {
        for (line, number) in [
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("/a/python3.11/envoy  version: 9e558f/1.40.0/Clean/RELEASE", "1.40.0"),
            ("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer", "4.1.0"),
            ("h2load nghttp2/1.52.0", "1.52.0"),
        ] {
            assert_eq!(version_number(line), Some(number), "{line}");
        }
        assert_eq!(version_number("not installed, skipped"), None);
    }
}
