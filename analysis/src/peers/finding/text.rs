//! A finding as a table: for people at a terminal, and as Markdown to be kept.

use std::fmt;

use super::{Finding, Gap, Spread};
use crate::peers::rows::{Against, Goal, Proxy, Row, Unit};

/// The proxies with a column of their own; the others share the last one.
const COLUMNS: [Proxy; 4] = [Proxy::Ringmaster, Proxy::Haproxy, Proxy::Nginx, Proxy::Envoy];
const BESIDE: [Proxy; 2] = [Proxy::Splice, Proxy::TwoWorkers];
/// An empty cell.
const NOTHING: &str = "–";

impl Finding {
    /// The finding as it is kept beside the sources: without date and paths, so that two of them
    /// differ only in the measurements.
    #[must_use]
    pub fn markdown(&self) -> String {
        let machine = rustix::system::uname();
        let mut text = format!(
            "# Proxies side by side\n\nWritten by `make bench`. Rounds: {}; cores: {}; Linux {}. \
             Median (least–greatest).\nEach proxy alone has one core; the load and the \
             replicas have another one.\n\n",
            self.rounds,
            cores(),
            machine.release().to_string_lossy(),
        );
        let programs = self.versions.iter().map(|(name, version)| format!("{name} {version}"));
        text.push_str(&format!("Beside us: {}.\n\n", programs.collect::<Vec<_>>().join(", ")));
        text.push_str(&as_markdown(&self.table(false)));
        text.push_str("\nRequests per second of the same runs:\n\n");
        text.push_str(&as_markdown(&self.table(true)));
        text.push_str("\nThe rows:\n\n");
        for row in &self.rows {
            text.push_str(&format!("- `{}`: {}.\n", row.name, row.says));
        }
        for note in &self.notes() {
            text.push_str(&format!("\n{note}\n"));
        }
        for gap in self.gaps.iter().filter(|gap| gap.why.is_some()) {
            text.push_str(&format!(
                "\n{}, {}: could not be measured.\n",
                gap.row,
                gap.proxy.name()
            ));
        }
        text
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        if let Some(rate) = self.rate {
            notes.push(format!("The open loop sent {rate:.0} requests per second."));
        }
        if self.rows.iter().any(Row::is_about_the_ring) {
            notes.push(
                "Instructions: from a request's header to its replica, counted by valgrind."
                    .to_owned(),
            );
        }
        notes
    }

    /// Header and lines; of all figures but throughput, or of throughput alone.
    fn table(&self, is_throughput: bool) -> Vec<Vec<String>> {
        let mut header = vec!["row".to_owned(), "figure".to_owned()];
        header.extend(COLUMNS.map(|proxy| proxy.name().to_owned()));
        header.push("beside".to_owned());
        if !is_throughput {
            header.push("to HAProxy".to_owned());
            header.push("goal".to_owned());
        }
        let mut lines = vec![header];
        for row in &self.rows {
            for unit in self.units(row) {
                if (unit == Unit::Throughput) == is_throughput {
                    lines.push(self.line(row, unit, is_throughput));
                }
            }
        }
        lines
    }

    /// The units of a row's figures and goals.
    fn units(&self, row: &Row) -> Vec<Unit> {
        let figures = self.figures.iter().filter(|one| one.row == row.name).map(|one| one.unit);
        let mut units: Vec<Unit> = figures.chain(row.goals.iter().map(|goal| goal.unit)).collect();
        units.sort_unstable();
        units.dedup();
        units
    }

    fn line(&self, row: &Row, unit: Unit, is_throughput: bool) -> Vec<String> {
        let mut line = vec![row.name.to_owned(), unit.to_string()];
        line.extend(COLUMNS.map(|proxy| self.cell(row, proxy, unit)));
        let beside = BESIDE.into_iter().filter(|proxy| row.proxies.contains(proxy));
        let beside: Vec<String> = beside
            .map(|proxy| format!("{} {}", proxy.name(), self.cell(row, proxy, unit)))
            .collect();
        line.push(if beside.is_empty() { NOTHING.to_owned() } else { beside.join(", ") });
        if !is_throughput {
            let against = Against::Proxy(Proxy::Haproxy);
            let ratio = self.ratio(row.name, Proxy::Ringmaster, unit, against);
            line.push(ratio.map_or(NOTHING.to_owned(), |ratio| spread(ratio, 2)));
            let goals = row.goals.iter().filter(|goal| goal.unit == unit);
            let verdicts: Vec<String> = goals.map(|goal| self.verdict(row, goal)).collect();
            line.push(if verdicts.is_empty() { NOTHING.to_owned() } else { verdicts.join(", ") });
        }
        line
    }

    fn cell(&self, row: &Row, proxy: Proxy, unit: Unit) -> String {
        let decimals = match unit {
            Unit::Throughput | Unit::AddedP50 | Unit::AddedP99 => 0,
            Unit::CpuMicros | Unit::Memory => 2,
            Unit::Instructions => 1,
        };
        match self.spread(row.name, proxy, unit) {
            Some(one) if unit == Unit::Instructions => format!("{:.decimals$}", one.median),
            Some(figures) => spread(figures, decimals),
            None => match self.gap_of(row, proxy) {
                Some(Gap { why: None, .. }) => "not yet".to_owned(),
                Some(_) => "not measured".to_owned(),
                None => NOTHING.to_owned(),
            },
        }
    }

    fn gap_of(&self, row: &Row, proxy: Proxy) -> Option<&Gap> {
        self.gaps.iter().find(|gap| gap.row == row.name && gap.proxy == proxy)
    }

    fn verdict(&self, row: &Row, goal: &Goal) -> String {
        let wish = match goal.against {
            Against::Proxy(proxy) => format!("≤ {:.2} × {}", goal.most, proxy.name()),
            Against::Row(name) => format!("≤ {:.2} × {name}", goal.most),
            Against::Number(number) => format!("≤ {:.2}", goal.most * number),
        };
        let Some(ratio) = self.ratio_of_goal(row, goal) else {
            let is_not_yet = self.gap_of(row, goal.of).is_some_and(|gap| gap.why.is_none());
            return format!("{} {wish}", if is_not_yet { "not yet" } else { "not measured" });
        };
        let mark = if ratio.median <= goal.most { "✓" } else { "✗" };
        match goal.against {
            Against::Number(_) => format!("{mark} {wish}"),
            _ => format!("{mark} {} {wish}", spread(ratio, 2)),
        }
    }
}

/// The cores of the machine; this program uses only one.
fn cores() -> usize {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let is_core = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    text.lines().filter(is_core).count()
}

fn spread(figures: Spread, decimals: usize) -> String {
    let Spread { median, least, greatest } = figures;
    format!("{median:.decimals$} ({least:.decimals$}–{greatest:.decimals$})")
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let programs = self.versions.iter().map(|(name, version)| format!("{name} {version}"));
        writeln!(f, "rounds: {}; {}", self.rounds, programs.collect::<Vec<_>>().join(", "))?;
        writeln!(f, "\n{}", as_columns(&self.table(false)))?;
        write!(f, "\nrequests per second\n{}", as_columns(&self.table(true)))?;
        for note in &self.notes() {
            write!(f, "\n{note}")?;
        }
        for Gap { row, proxy, why } in &self.gaps {
            if let Some(why) = why {
                write!(f, "\nnot measured: {row}, {}: {why}", proxy.name())?;
            }
        }
        Ok(())
    }
}

fn as_columns(table: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = table.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.first().map_or(0, Vec::len)).map(width).collect();
    let lines = table.iter().map(|line| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn as_markdown(table: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (number, line) in table.iter().enumerate() {
        text.push_str(&format!("| {} |\n", line.join(" | ")));
        if number == 0 {
            text.push_str(&format!("|{}\n", "---|".repeat(line.len())));
        }
    }
    text
}
