//! Ratios next to their goals.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Area, FAINT, GRID, INK, SIZE, Swatch, colour, frame, text};

/// Larger ratios are cut off, because they would make all other bars too short.
const LARGEST: f64 = 3.0;

/// The bar of one goal.
#[derive(Debug, Clone, PartialEq)]
pub struct GoalBar {
    /// What was measured.
    pub name: String,
    /// The median of the ratios.
    pub median: f64,
    /// The smallest ratio.
    pub least: f64,
    /// The largest ratio.
    pub greatest: f64,
    /// The largest ratio that meets the goal.
    pub goal: f64,
}

/// A bar for each goal, with its spread and a mark where it should end.
#[derive(Debug, Clone, PartialEq)]
pub struct GoalChart {
    /// What it shows.
    pub title: String,
    /// Under which conditions.
    pub subtitle: String,
    /// The bars, from left to right.
    pub bars: Vec<GoalBar>,
}

impl GoalBar {
    fn is_met(&self) -> bool {
        self.median <= self.goal
    }
}

impl GoalChart {
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
        let legend = [
            ("goal met".to_owned(), Swatch::Filled(colour(0))),
            ("goal missed".to_owned(), Swatch::Filled(colour(1))),
            ("goal".to_owned(), Swatch::Line(INK)),
        ];
        let area = frame(root, &self.title, &self.subtitle, &legend)?;
        let highest = self.bars.iter().map(|bar| bar.greatest.max(bar.goal)).fold(1.0, f64::max);
        let top = highest.min(LARGEST) * 1.1;
        let right = self.bars.len().max(1) as f64 - 0.5;
        let mut chart = ChartBuilder::on(&area)
            .margin_right(24)
            .margin_left(12)
            .margin_bottom(8)
            .x_label_area_size(190)
            .y_label_area_size(78)
            .build_cartesian_2d(-0.5..right, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .axis_style(FAINT)
            .y_label_formatter(&|value| format!("{value:.1}"))
            .y_desc("ratio")
            .label_style(text(15, INK, HPos::Left, VPos::Top))
            .axis_desc_style(text(16, INK, HPos::Center, VPos::Top))
            .draw()?;
        for (place, bar) in self.bars.iter().enumerate() {
            let middle = place as f64;
            let cut = |value: f64| value.clamp(0.0, top);
            let fill = colour(usize::from(!bar.is_met()));
            let corners = [(middle - 0.3, 0.0), (middle + 0.3, cut(bar.median))];
            chart.draw_series([Rectangle::new(corners, fill.filled())])?;
            let spread = [(middle, cut(bar.least)), (middle, cut(bar.greatest))];
            let goal = [(middle - 0.42, cut(bar.goal)), (middle + 0.42, cut(bar.goal))];
            chart.draw_series([
                PathElement::new(spread, FAINT.stroke_width(2)),
                PathElement::new(goal, INK.stroke_width(3)),
            ])?;
            let beneath = chart.backend_coord(&(middle, 0.0));
            let inside = (beneath.0, beneath.1 - 6);
            let number = text(13, WHITE, HPos::Center, VPos::Bottom);
            root.draw_text(&format!("{:.2}", bar.median), &number, inside)?;
            let upwards = text(14, INK, HPos::Right, VPos::Center);
            let upwards = upwards.transform(FontTransform::Rotate270);
            root.draw_text(&bar.name, &upwards, (beneath.0, beneath.1 + 8))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_shows_every_goal_with_its_ratio() {
        let bar = |name: &str, median: f64| GoalBar {
            name: name.to_owned(),
            median,
            least: median - 0.1,
            greatest: median + 9.0,
            goal: 0.9,
        };
        let chart = GoalChart {
            title: "Beside others".to_owned(),
            subtitle: "5 rounds".to_owned(),
            bars: vec![bar("get-64", 0.85), bar("connect", 1.25)],
        };
        let svg = chart.svg().unwrap();
        for part in ["Beside others", "5 rounds", "get-64", "connect", "0.85", "1.25", "goal met"] {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(svg, chart.svg().unwrap(), "the same numbers, the same bytes");
        let empty = GoalChart { bars: Vec::new(), ..chart };
        assert!(empty.svg().unwrap().contains("ratio"));
    }
}
