//! A simulation as a table for people.

use std::fmt::Write;

use super::{change_text, shares};
use crate::simulate::{Question, Step};

const HEADER: &[&str] = &[
    "change",
    "N",
    "share min %",
    "mean %",
    "max %",
    "std dev %",
    "peak/avg",
    "by keys",
    "moved %",
    "minimum %",
    "displaced",
];
const HEADER_BOUNDED: [&str; 2] = ["spill %", "peak load/avg"];

pub(super) fn write(question: &Question, steps: &[Step]) -> String {
    let header = HEADER.iter().chain(question.bounded.iter().flat_map(|_| &HEADER_BOUNDED));
    let mut rows: Vec<Vec<String>> = vec![header.map(|&name| name.to_owned()).collect()];
    rows.extend(steps.iter().map(|step| row(question, step)));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = format!("{}\n", question.ring.describe());
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  "));
    }
    text
}

fn row(question: &Question, step: &Step) -> Vec<String> {
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let percent = |value: Option<f64>| number(value.map(|value| 100.0 * value), 2);
    let shares = shares(step);
    let mean = shares.map(|(_, mean, _)| mean);
    let deviation = step.slots.and_then(|slots| Some(slots.deviation * mean?));
    let moves = step.moves.as_ref();
    let mut cells = vec![
        change_text(step.change),
        step.ring.members().len().to_string(),
        percent(shares.map(|(least, _, _)| least)),
        percent(mean),
        percent(shares.map(|(_, _, greatest)| greatest)),
        percent(deviation),
        number(step.slots.map(|slots| slots.peak_to_average), 3),
        number(step.keys.map(|keys| keys.peak_to_average), 3),
        percent(moves.map(|moves| moves.moved_share)),
        percent(moves.map(|moves| moves.minimum_share)),
        step.displaced.to_string(),
    ];
    if question.bounded.is_some() {
        cells.push(percent(step.spilled.map(|spilled| spilled.spill_share)));
        cells.push(number(step.spilled.map(|spilled| spilled.peak_to_average), 3));
    }
    cells
}
