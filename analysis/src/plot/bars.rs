//! Measured and predicted requests per replica, side by side.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Area, Chart, FAINT, GRID, INK, PREDICTED, SIZE, Swatch, colour, frame, text};
use crate::report::{percent, thousands};

/// More bars than this get their names written upwards and no numbers on top.
const ROOMY: usize = 10;

/// One replica's bars.
#[derive(Debug, Clone, PartialEq)]
pub struct ShareBar {
    /// The name of the replica.
    pub name: String,
    /// Its successful requests.
    pub requests: u64,
    /// The part of all requests that the ring gives it, from 0 to 1, when known.
    pub predicted: Option<f64>,
}

/// A bar chart of requests per replica.
#[derive(Debug, Clone, PartialEq)]
pub struct ShareChart {
    /// What it shows.
    pub title: String,
    /// Under which conditions.
    pub subtitle: String,
    /// The bars, from left to right.
    pub bars: Vec<ShareBar>,
}

impl ShareChart {
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
        let total = self.total();
        let of_total = |share: f64| share * total as f64;
        let highest = self
            .bars
            .iter()
            .map(|bar| (bar.requests as f64).max(of_total(bar.predicted.unwrap_or(0.0))))
            .fold(1.0, f64::max);
        let mut legend = vec![("measured".to_owned(), Swatch::Filled(colour(0)))];
        if self.predicts() {
            legend.push(("predicted by the ring".to_owned(), Swatch::Filled(PREDICTED)));
        }
        legend.push(("an even share".to_owned(), Swatch::Line(FAINT)));
        let area = frame(root, &self.title, &self.subtitle, &legend)?;

        let right = self.bars.len().max(1) as f64 - 0.5;
        let mut chart = ChartBuilder::on(&area)
            .margin_right(24)
            .margin_left(12)
            .margin_bottom(8)
            .x_label_area_size(self.names_height())
            .y_label_area_size(86)
            .build_cartesian_2d(-0.5..right, 0.0..highest * 1.12)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .axis_style(FAINT)
            .y_label_formatter(&|value| thousands(value.round() as u64))
            .y_desc("requests answered")
            .x_desc("replica")
            .label_style(text(15, INK, HPos::Left, VPos::Top))
            .axis_desc_style(text(16, INK, HPos::Center, VPos::Top))
            .draw()?;

        // Behind the bars, where it crosses no number.
        let even = total as f64 / self.bars.len().max(1) as f64;
        let line = PathElement::new([(-0.5, even), (right, even)], FAINT.stroke_width(2));
        chart.draw_series([line])?;
        self.draw_bars(root, &mut chart, highest)
    }

    fn draw_bars(&self, root: &Area<'_>, chart: &mut Chart<'_, '_>, highest: f64) -> Result<()> {
        let total = self.total();
        let crowded = self.bars.len() > ROOMY;
        // Two bars share the place of one when there is a prediction.
        let left = if self.predicts() { (-0.38, 0.0) } else { (-0.3, 0.3) };
        for (place, bar) in self.bars.iter().enumerate() {
            let middle = place as f64;
            let mut column = |(from, to): (f64, f64), height: f64, fill: RGBColor, label: &str| {
                let corners = [(middle + from, 0.0), (middle + to, height)];
                chart.draw_series([Rectangle::new(corners, fill.filled())])?;
                let top = chart.backend_coord(&(middle + (from + to) / 2.0, height));
                if !crowded {
                    number_on(root, top, height > highest * 0.1, fill, label)?;
                }
                anyhow::Ok(())
            };
            let share = percent(bar.requests, total);
            let label = format!("{} ({share:.1} %)", thousands(bar.requests));
            column(left, bar.requests as f64, colour(0), &label)?;
            if let Some(share) = bar.predicted {
                let label = format!("{:.1} %", 100.0 * share);
                column((0.0, 0.38), share * total as f64, PREDICTED, &label)?;
            }
            let beneath = chart.backend_coord(&(middle, 0.0));
            name_at(root, beneath, &bar.name, crowded)?;
        }
        Ok(())
    }

    /// Room for the names and the axis' description, in pixels.
    fn names_height(&self) -> i32 {
        if self.bars.len() <= ROOMY {
            return 56;
        }
        let longest = self.bars.iter().map(|bar| bar.name.len()).max().unwrap_or(0);
        44 + 8 * i32::try_from(longest).unwrap_or(i32::MAX).min(20)
    }

    fn total(&self) -> u64 {
        self.bars.iter().map(|bar| bar.requests).sum()
    }

    fn predicts(&self) -> bool {
        self.bars.iter().any(|bar| bar.predicted.is_some())
    }
}

/// Writes a bar's number inside it, or on top of a bar that is too low for that.
fn number_on(
    root: &Area<'_>,
    top: (i32, i32),
    inside: bool,
    fill: RGBColor,
    label: &str,
) -> Result<()> {
    let ink = if inside && fill != PREDICTED { WHITE } else { INK };
    let (down, y) = if inside { (VPos::Top, top.1 + 8) } else { (VPos::Bottom, top.1 - 4) };
    root.draw_text(label, &text(14, ink, HPos::Center, down), (top.0, y))?;
    Ok(())
}

/// Writes a replica's name beneath its bars, upwards when there is little room.
fn name_at(root: &Area<'_>, beneath: (i32, i32), name: &str, crowded: bool) -> Result<()> {
    let style = if crowded {
        text(13, INK, HPos::Right, VPos::Center).transform(FontTransform::Rotate270)
    } else {
        text(15, INK, HPos::Center, VPos::Top)
    };
    root.draw_text(name, &style, (beneath.0, beneath.1 + 8))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(count: usize, predicted: Option<f64>) -> ShareChart {
        let bar = |number| ShareBar {
            name: format!("server_{number}"),
            requests: 3_000 + number as u64,
            predicted,
        };
        ShareChart {
            title: "Requests per replica".to_owned(),
            subtitle: "N = 3".to_owned(),
            bars: (1..=count).map(bar).collect(),
        }
    }

    #[test]
    fn the_chart_shows_every_replica_with_numbers_axes_and_legend() {
        let svg = chart(3, Some(0.333)).svg().unwrap();
        for part in [
            "Requests per replica",
            "N = 3",
            "server_1",
            "server_2",
            "server_3",
            "3,001 (33.3 %)",
            "33.3 %",
            "requests answered",
            "replica",
            "measured",
            "predicted by the ring",
            "sans-serif",
        ] {
            assert!(svg.contains(part), "{part}");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert_eq!(svg, chart(3, Some(0.333)).svg().unwrap(), "the same numbers, the same bytes");
    }

    #[test]
    fn a_prediction_is_left_out_when_there_is_none() {
        let svg = chart(3, None).svg().unwrap();
        assert!(!svg.contains("predicted"));
    }

    #[test]
    fn many_replicas_and_none_can_be_drawn() {
        let svg = chart(56, Some(0.0179)).svg().unwrap();
        assert!(svg.contains("server_56") && svg.contains("rotate(270"), "names are turned");
        assert!(chart(0, None).svg().unwrap().contains("replica"));
    }
}
