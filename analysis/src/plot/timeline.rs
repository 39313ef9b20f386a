//! Requests per second over time, one colour per replica, with marks.

use std::time::Duration;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Area, Chart, FAILED, FAINT, GRID, INK, SIZE, Swatch, colour, frame, text};
use crate::report::thousands;

/// How many requests each bin has, for one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The name of the replica.
    pub name: String,
    /// Requests by bin.
    pub counts: Vec<u64>,
}

/// A moment with a vertical line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Counted from the start.
    pub at: Duration,
    /// The text at the line.
    pub label: String,
}

/// A run over time: columns stacked from the replicas' requests, failures on top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// What it shows.
    pub title: String,
    /// Under which conditions.
    pub subtitle: String,
    /// How long a bin is.
    pub bin: Duration,
    /// The replicas, from the bottom up.
    pub series: Vec<Series>,
    /// Failed requests by bin.
    pub failed: Vec<u64>,
    /// The moments to mark, in order.
    pub marks: Vec<Mark>,
}

impl Timeline {
    /// The chart as SVG text.
    ///
    /// # Errors
    /// When the drawing library fails.
    pub fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            self.draw(&root)?;
            root.present()?;
        }
        Ok(svg)
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let replicas = self.series.iter().enumerate();
        let mut rows: Vec<Row<'_>> = replicas
            .map(|(place, series)| (series.name.as_str(), colour(place), series.counts.as_slice()))
            .collect();
        rows.push(("failed", FAILED, &self.failed));
        rows
    }

    fn draw(&self, root: &Area<'_>) -> Result<()> {
        let rows = self.rows();
        let bins = bins(&rows);
        let at = |bin: usize| rows.iter().filter_map(move |(_, _, counts)| counts.get(bin));
        let highest = (0..bins).map(|bin| at(bin).sum::<u64>()).max().unwrap_or(0).max(1);
        let legend: Vec<(String, Swatch)> = rows
            .iter()
            .map(|(name, colour, _)| ((*name).to_owned(), Swatch::Filled(*colour)))
            .collect();
        let area = frame(root, &self.title, &self.subtitle, &legend)?;

        let width = self.bin.as_secs_f64();
        let per_second = |count: u64| count as f64 / width;
        // Room above the columns for the labels of the marks, one row each.
        let top = per_second(highest) * (1.06 + 0.075 * self.marks.len() as f64);
        let right = bins.max(1) as f64 * width;
        let decimals = usize::from(right < 6.0);
        let mut chart = ChartBuilder::on(&area)
            .margin_right(24)
            .margin_left(12)
            .margin_bottom(8)
            .x_label_area_size(56)
            .y_label_area_size(78)
            .build_cartesian_2d(0.0..right, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .axis_style(FAINT)
            .x_labels(13)
            .x_label_formatter(&|value| format!("{value:.decimals$}"))
            .y_label_formatter(&|value| thousands(value.round() as u64))
            .x_desc("time since the start of the load (s)")
            .y_desc(format!("requests per second ({} ms bins)", self.bin.as_millis()))
            .label_style(text(15, INK, HPos::Left, VPos::Top))
            .axis_desc_style(text(16, INK, HPos::Center, VPos::Top))
            .draw()?;

        self.draw_columns(&mut chart, &rows)?;
        self.draw_marks(root, &mut chart, top)
    }

    fn draw_columns(&self, chart: &mut Chart<'_, '_>, rows: &[Row<'_>]) -> Result<()> {
        let width = self.bin.as_secs_f64();
        let per_second = |count: u64| count as f64 / width;
        let mut base = vec![0_u64; bins(rows)];
        for (_, colour, counts) in rows {
            for (bin, part) in counts.iter().enumerate().filter(|(_, part)| **part > 0) {
                let from = (bin as f64 * width, per_second(base[bin]));
                base[bin] += part;
                let to = ((bin + 1) as f64 * width, per_second(base[bin]));
                chart.draw_series([Rectangle::new([from, to], colour.filled())])?;
            }
        }
        Ok(())
    }

    fn draw_marks(&self, root: &Area<'_>, chart: &mut Chart<'_, '_>, top: f64) -> Result<()> {
        for (row, mark) in self.marks.iter().enumerate() {
            let at = mark.at.as_secs_f64();
            let high = top * (1.0 - 0.055 * row as f64);
            let ends = [(at, 0.0), (at, high)];
            chart.draw_series([PathElement::new(ends, INK.stroke_width(2))])?;
            let (x, y) = chart.backend_coord(&(at, high));
            let style = text(15, INK, HPos::Left, VPos::Top);
            root.draw_text(&mark.label, &style, (x + 6, y))?;
        }
        Ok(())
    }
}

/// Name, colour and counts by bin.
type Row<'a> = (&'a str, RGBColor, &'a [u64]);

fn bins(rows: &[Row<'_>]) -> usize {
    rows.iter().map(|(_, _, counts)| counts.len()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        let series =
            |name: &str, counts: &[u64]| Series { name: name.to_owned(), counts: counts.to_vec() };
        Timeline {
            title: "One replica is killed".to_owned(),
            subtitle: "300 requests per second".to_owned(),
            bin: Duration::from_millis(100),
            series: vec![series("server_1", &[10, 0, 0]), series("server_2", &[10, 20, 25])],
            failed: vec![0, 3, 0],
            marks: vec![Mark { at: Duration::from_millis(120), label: "kill 0.12 s".to_owned() }],
        }
    }

    #[test]
    fn the_chart_shows_every_replica_the_failures_and_the_marks() {
        let svg = timeline().svg().unwrap();
        for part in [
            "One replica is killed",
            "300 requests per second",
            "server_1",
            "server_2",
            "failed",
            "kill 0.12 s",
            "time since the start of the load (s)",
            "requests per second (100 ms bins)",
            "#C6102E",
        ] {
            assert!(svg.contains(part), "{part}");
        }
        // The background and columns: one for the legend, then one per bin that is not empty.
        assert_eq!(svg.matches("#0072B2").count(), 2);
        assert_eq!(svg.matches("#E69F00").count(), 4);
        assert_eq!(svg.matches("#C6102E").count(), 2);
        assert_eq!(svg, timeline().svg().unwrap(), "the same numbers, the same bytes");
    }

    #[test]
    fn an_empty_run_can_be_drawn() {
        let empty =
            Timeline { series: Vec::new(), failed: Vec::new(), marks: Vec::new(), ..timeline() };
        assert!(empty.svg().unwrap().contains("failed"));
    }
}
