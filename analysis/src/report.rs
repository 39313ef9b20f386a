//! Numbers as text, JSON and CSV.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::load::{Pace, Plan, Run};

/// The result of one load. Its JSON form is stable: scripts may read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `open` or `closed`.
    pub pace: &'static str,
    /// Keep-alive connections used at the same time.
    pub connections: usize,
    /// Connections opened in all.
    pub connections_opened: u64,
    /// From the start to the last response, in seconds.
    pub seconds: f64,
    /// Requests that ended, with success or not.
    pub requests: u64,
    /// Those answered with a status below 400.
    pub answered: u64,
    /// All requests without a status below 400.
    pub failed: u64,
    /// Answered requests per second.
    pub answered_per_second: f64,
    /// Bytes of all bodies received.
    pub body_bytes: u64,
    /// Of answered requests, none without any. In an open loop counted from the intended
    /// moment of sending.
    pub latency_ms: Option<Latency>,
    /// Answered requests by the replica that named itself.
    pub replicas: BTreeMap<String, u64>,
    /// Answered requests without a name.
    pub unnamed: u64,
    /// Failures by kind.
    pub errors: BTreeMap<String, u64>,
}

/// Percentiles, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// 90 of 100 were at least as fast.
    pub p90: f64,
    /// 99 of 100 were at least as fast.
    pub p99: f64,
    /// 999 of 1000 were at least as fast.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// The slowest request.
    pub max: f64,
}

impl Report {
    /// Sums up `run`, which carried out `plan`.
    #[must_use]
    pub fn new(plan: &Plan, run: &Run) -> Report {
        let tally = &run.tally;
        let seconds = run.elapsed.as_secs_f64();
        let at = |quantile: f64| tally.latency.value_at_quantile(quantile) as f64 / 1000.0;
        Report {
            pace: match plan.pace {
                Pace::Closed => "closed",
                Pace::Open { .. } => "open",
            },
            connections: plan.connections,
            connections_opened: tally.connections_opened,
            seconds,
            requests: tally.answered + tally.failed(),
            answered: tally.answered,
            failed: tally.failed(),
            answered_per_second: if seconds > 0.0 { tally.answered as f64 / seconds } else { 0.0 },
            body_bytes: tally.body_bytes,
            latency_ms: (!tally.latency.is_empty()).then(|| Latency {
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p99_9: at(0.999),
                max: tally.latency.max() as f64 / 1000.0,
            }),
            replicas: tally.by_name().into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            unnamed: tally.unnamed,
            errors: tally.failures.iter().map(|(kind, n)| (kind.to_string(), *n)).collect(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} requests in {:.2} s: {} answered ({:.0}/s), {} failed",
            thousands(self.requests),
            self.seconds,
            thousands(self.answered),
            self.answered_per_second,
            thousands(self.failed),
        )?;
        if let Some(latency) = &self.latency_ms {
            writeln!(
                f,
                "latency ms ({} loop): p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2}",
                self.pace, latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max,
            )?;
        }
        write!(f, "connections: {} in use, {} opened", self.connections, self.connections_opened)?;
        let width = self.replicas.keys().map(String::len).max().unwrap_or(0);
        for (name, count) in &self.replicas {
            let share = percent(*count, self.answered);
            write!(f, "\n  {name:width$}  {:>10}  {share:>5.1} %", thousands(*count))?;
        }
        if self.unnamed > 0 && !self.replicas.is_empty() {
            write!(f, "\n  without a name: {}", thousands(self.unnamed))?;
        }
        for (kind, count) in &self.errors {
            write!(f, "\n  error: {kind}: {}", thousands(*count))?;
        }
        Ok(())
    }
}

/// `part` of `whole` in percent; 0 of nothing.
#[must_use]
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// `12345` as `12,345`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A table as CSV text, quoted where it must be (RFC 4180, but with bare line feeds).
#[must_use]
pub fn csv(header: &[String], rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for row in std::iter::once(header).chain(rows.iter().map(Vec::as_slice)) {
        let cells: Vec<String> = row.iter().map(|cell| csv_cell(cell)).collect();
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}

/// Median, least and greatest; not numbers where there are no values.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> (f64, f64, f64) {
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

fn csv_cell(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::load::{Amount, KeySource, RequestError, Shape, Tally};
    use crate::target::Target;

    fn report() -> Report {
        let address = "127.0.0.1:1".parse().unwrap();
        let plan = Plan {
            target: Target { authority: "t".to_owned(), address },
            shape: Shape::default(),
            keys: KeySource::Random,
            seed: 1,
            pace: Pace::Closed,
            amount: Amount::Requests(101),
            connections: 4,
            deadline: Duration::from_secs(1),
            keep_samples: false,
        };
        let mut tally = Tally::new(false).unwrap();
        for millis in 1..=100 {
            let name = if millis <= 75 { "server_1" } else { "server_2" };
            tally.answer(Duration::ZERO, Duration::from_millis(millis), Some(name));
        }
        tally.failure(Duration::ZERO, RequestError::Status(503));
        let run = Run { tally, started: Instant::now(), elapsed: Duration::from_secs(2) };
        Report::new(&plan, &run)
    }

    #[test]
    fn a_report_sums_up() {
        let report = report();
        assert_eq!((report.requests, report.answered, report.failed), (101, 100, 1));
        assert!((report.answered_per_second - 50.0).abs() < 1e-9);
        // Three significant figures: within 0.1 %.
        let latency = report.latency_ms.unwrap();
        for (value, expected) in
            [(latency.p50, 50.0), (latency.p90, 90.0), (latency.p99, 99.0), (latency.max, 100.0)]
        {
            assert!((value / expected - 1.0).abs() < 0.002, "{value} {expected}");
        }
        let text = report.to_string();
        assert!(text.contains("server_1          75   75.0 %"), "{text}");
        assert!(text.contains("error: status 503: 1"), "{text}");
    }

    #[test]
    fn the_json_form_names_its_units() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["replicas"]["server_2"], 25);
        assert_eq!(json["errors"]["status 503"], 1);
        assert!(json["latency_ms"]["p99.9"].as_f64().unwrap() > 99.0);
    }

    #[test]
    fn numbers_and_tables_are_written_readably() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        let row = vec!["a,b".to_owned(), "say \"x\"".to_owned()];
        assert_eq!(
            csv(&["h".to_owned(), "i".to_owned()], &[row]),
            "h,i\n\"a,b\",\"say \"\"x\"\"\"\n"
        );
        assert_eq!(percent(1, 0), 0.0);
        assert_eq!(spread([3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread([1.0, 2.0]), (1.5, 1.0, 2.0));
    }
}
