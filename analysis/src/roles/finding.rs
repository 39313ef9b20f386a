//! The result: a table of figures and goals, and the raw figures.

use std::{fmt, time::Duration};

use serde::Serialize;

/// One figure beside its goal.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub(super) what: String,
    /// The measured value.
    pub(super) figure: String,
    /// The goal, and whether it was reached.
    pub(super) goal: Option<(String, bool)>,
    /// Single values and counts.
    pub(super) raw: Vec<String>,
}

impl Row {
    /// A count with the goal 0.
    pub(super) fn none_of(what: &str, count: u64, of: &str) -> Row {
        Row {
            what: what.to_owned(),
            figure: format!("{count} of {of}"),
            goal: Some(("0".to_owned(), count == 0)),
            raw: Vec::new(),
        }
    }

    /// Times, with a goal for the greatest.
    pub(super) fn at_most(what: &str, times: &Times, goal: Duration) -> Row {
        Row {
            what: what.to_owned(),
            figure: times.to_string(),
            goal: Some((format!("≤ {}", milliseconds(goal)), times.most() <= goal)),
            raw: vec![times.raw()],
        }
    }

    /// Times, with a goal for the median.
    pub(super) fn median_at_most(what: &str, times: &Times, goal: Duration) -> Row {
        Row {
            goal: Some((format!("median ≤ {}", milliseconds(goal)), times.quantile(0.5) <= goal)),
            ..Row::at_most(what, times, goal)
        }
    }

    /// The same row with more raw figures.
    pub(super) fn with(mut self, raw: String) -> Row {
        self.raw.push(raw);
        self
    }
}

/// All rows, the missing measurements, and notes on the run.
#[derive(Debug, Default, Serialize)]
pub struct Finding {
    pub(super) rows: Vec<Row>,
    /// The missing measurements, with the reasons.
    pub(super) gaps: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Finding {
    /// The missing measurements, with the reasons.
    #[must_use]
    pub fn gaps(&self) -> &[String] {
        &self.gaps
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Several processes of one fleet\n")?;
        writeln!(
            f,
            "`make bench-roles`: real processes, a Redis and replicas of the run's own, on one \
             machine. Times are median (least to greatest).\n"
        )?;
        writeln!(f, "| what | figure | goal | reached |")?;
        writeln!(f, "|---|---|---|---|")?;
        for row in &self.rows {
            let (goal, reached) = match &row.goal {
                Some((goal, true)) => (goal.as_str(), "yes"),
                Some((goal, false)) => (goal.as_str(), "**no**"),
                None => ("", ""),
            };
            writeln!(f, "| {} | {} | {goal} | {reached} |", row.what, row.figure)?;
        }
        for gap in &self.gaps {
            writeln!(f, "\nNot measured: {gap}.")?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        writeln!(f, "\n## Raw figures\n")?;
        for row in &self.rows {
            for raw in &row.raw {
                writeln!(f, "- {}: {raw}", row.what)?;
            }
        }
        Ok(())
    }
}

/// Times of the same thing, in the order in which they were taken.
#[derive(Debug, Default)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    fn quantile(&self, part: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
        sorted.get(at).copied().unwrap_or_default()
    }

    fn most(&self) -> Duration {
        self.quantile(1.0)
    }

    fn raw(&self) -> String {
        let all: Vec<String> = self.0.iter().map(|time| number(*time)).collect();
        format!("{} ms", all.join(", "))
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, median, most] = [0.0, 0.5, 1.0].map(|part| number(self.quantile(part)));
        write!(f, "{median} ms ({least} to {most}), {} times", self.0.len())
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", number(time))
}

/// In milliseconds, with about three significant digits.
fn number(time: Duration) -> String {
    let value = time.as_secs_f64() * 1e3;
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(values: &[u64]) -> Times {
        Times(values.iter().map(|value| Duration::from_millis(*value)).collect())
    }

    #[test]
    fn a_goal_for_all_is_missed_by_one_and_one_for_the_median_is_not() {
        let times = times(&[900, 4, 20, 15, 1_200]);
        let goal = Duration::from_millis(25);
        let row = Row::median_at_most("w", &times, goal);
        assert_eq!(row.figure, "20.0 ms (4.00 to 1200), 5 times");
        assert_eq!(row.goal, Some(("median ≤ 25.0 ms".to_owned(), true)));
        assert_eq!(row.raw, ["900, 4.00, 20.0, 15.0, 1200 ms"]);
        let row = Row::at_most("w", &times, goal);
        assert_eq!(row.goal, Some(("≤ 25.0 ms".to_owned(), false)));
    }

    #[test]
    fn a_missed_goal_and_a_gap_are_seen() {
        let rows = vec![Row::none_of("failed", 2, "7 requests").with("reset 2".to_owned())];
        let finding = Finding { rows, gaps: vec!["x: no engine".to_owned()], notes: Vec::new() };
        let text = finding.to_string();
        for line in [
            "| failed | 2 of 7 requests | 0 | **no** |",
            "Not measured: x: no engine.",
            "- failed: reset 2",
        ] {
            assert!(text.lines().any(|said| said == line), "{text}");
        }
    }
}
