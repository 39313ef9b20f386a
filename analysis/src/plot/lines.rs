//! Figures over a small whole number, such as N: lines with points, and intervals around them.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Area, Chart, FAINT, GRID, INK, SIZE, Swatch, colour, frame, text};
use crate::report::thousands;

/// The ink of predictions.
const EXPECTED: RGBColor = RGBColor(0x7a, 0x8a, 0x99);
/// Half the width of the end of an interval, in units of x.
const CAP: f64 = 0.04;

/// From low to high at one x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The position on the x axis.
    pub x: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// One line of the chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The name in the legend.
    pub label: String,
    /// Its points, by x.
    pub points: Vec<(f64, f64)>,
    /// Intervals around them.
    pub intervals: Vec<Interval>,
    /// Predictions are grey and hollow.
    pub is_predicted: bool,
    /// What stands over its points, in their order.
    pub notes: Vec<String>,
}

/// Lines over a whole number.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// What it shows.
    pub title: String,
    /// Under which conditions.
    pub subtitle: String,
    /// What x is.
    pub across: String,
    /// What y is.
    pub up: String,
    /// Where y begins.
    pub from: f64,
    /// The lines; later ones are drawn over earlier ones.
    pub lines: Vec<Line>,
}

impl LineChart {
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

    fn draw(&self, root: &Area<'_>) -> Result<()> {
        let lines = || self.lines.iter().filter(|line| !line.points.is_empty());
        let legend: Vec<(String, Swatch)> = lines()
            .enumerate()
            .map(|(place, line)| (line.label.clone(), Swatch::Line(ink(line, place))))
            .collect();
        let area = frame(root, &self.title, &self.subtitle, &legend)?;
        let xs = || lines().flat_map(|line| line.points.iter().map(|point| point.0));
        let (left, right) = (xs().fold(f64::INFINITY, f64::min), xs().fold(1.0, f64::max));
        let left = left.min(right);
        let points = lines().flat_map(|line| line.points.iter().map(|point| point.1));
        let ends = lines().flat_map(|line| line.intervals.iter().map(|interval| interval.high));
        let highest = points.chain(ends).fold(self.from, f64::max);
        // Never so narrow that there is nothing to draw.
        let top = self.from + (highest - self.from).max(0.05) * 1.12;
        let decimals = if top < 100.0 { 2 } else { 0 };
        let mut chart = ChartBuilder::on(&area)
            .margin_right(24)
            .margin_left(12)
            .margin_bottom(8)
            .x_label_area_size(56)
            .y_label_area_size(86)
            .build_cartesian_2d(left - 0.5..right + 0.5, self.from..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .axis_style(FAINT)
            .x_labels((right - left) as usize + 2)
            .x_label_formatter(&|value| format!("{value:.0}"))
            .y_label_formatter(&|value| match decimals {
                0 => thousands(value.round() as u64),
                _ => format!("{value:.decimals$}"),
            })
            .x_desc(self.across.as_str())
            .y_desc(self.up.as_str())
            .label_style(text(15, INK, HPos::Left, VPos::Top))
            .axis_desc_style(text(16, INK, HPos::Center, VPos::Top))
            .draw()?;
        for (place, line) in lines().enumerate() {
            draw_line(root, &mut chart, line, ink(line, place))?;
        }
        Ok(())
    }
}

fn ink(line: &Line, place: usize) -> RGBColor {
    if line.is_predicted { EXPECTED } else { colour(place) }
}

fn draw_line(root: &Area<'_>, chart: &mut Chart<'_, '_>, line: &Line, ink: RGBColor) -> Result<()> {
    for Interval { x, low, high } in &line.intervals {
        let cap = |y: f64| PathElement::new([(x - CAP, y), (x + CAP, y)], ink.stroke_width(2));
        let bar = PathElement::new([(*x, *low), (*x, *high)], ink.stroke_width(2));
        chart.draw_series([bar, cap(*low), cap(*high)])?;
    }
    let width = if line.is_predicted { 1 } else { 3 };
    chart.draw_series([PathElement::new(line.points.clone(), ink.stroke_width(width))])?;
    let (size, style) =
        if line.is_predicted { (7, ink.stroke_width(2)) } else { (5, ink.filled()) };
    chart.draw_series(line.points.iter().map(|&point| Circle::new(point, size, style)))?;
    for (&point, note) in line.points.iter().zip(&line.notes) {
        let (x, y) = chart.backend_coord(&point);
        root.draw_text(note, &text(15, INK, HPos::Left, VPos::Bottom), (x + 10, y - 8))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> LineChart {
        let line = |label: &str, is_predicted| Line {
            label: label.to_owned(),
            points: vec![(2.0, 5_000.0), (3.0, 3_333.0)],
            intervals: vec![Interval { x: 2.0, low: 4_900.0, high: 5_100.0 }],
            is_predicted,
            notes: vec!["1.020".to_owned(), "1.010".to_owned()],
        };
        LineChart {
            title: "Requests over N".to_owned(),
            subtitle: "seed 1".to_owned(),
            across: "replicas".to_owned(),
            up: "requests".to_owned(),
            from: 0.0,
            lines: vec![line("measured", false), line("predicted", true)],
        }
    }

    #[test]
    fn the_chart_shows_lines_axes_notes_and_legend() {
        let svg = chart().svg().unwrap();
        for part in ["Requests over N", "seed 1", "replicas", "requests", "measured", "predicted"] {
            assert!(svg.contains(part), "{part}");
        }
        assert!(svg.contains("1.020") && svg.contains("5,000") && svg.contains("#7A8A99"));
        assert_eq!(svg, chart().svg().unwrap(), "the same numbers, the same bytes");
        let ratio =
            Line { points: vec![(2.0, 1.02)], intervals: Vec::new(), ..chart().lines[0].clone() };
        let ratios = LineChart { from: 1.0, lines: vec![ratio], ..chart() }.svg().unwrap();
        assert!(ratios.contains("1.04") && !ratios.contains("5,000"), "decimals where they matter");
    }

    #[test]
    fn no_lines_can_be_drawn() {
        assert!(LineChart { lines: Vec::new(), ..chart() }.svg().unwrap().contains("replicas"));
    }
}
