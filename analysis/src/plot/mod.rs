//! Charts as SVG text. Pure: the same numbers give the same bytes.
//!
//! `bars` compares shares, `goals` ratios, `lines` shows figures over N, `grid` many
//! measurements side by side, `timeline` a run over time; what they have in common
//! (size, colours, title, legend) is here.

mod bars;
mod goals;
mod grid;
mod lines;
mod timeline;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub use bars::{ShareBar, ShareChart};
pub use goals::{GoalBar, GoalChart};
pub use grid::{Cell, Grid};
pub use lines::{Interval, Line, LineChart};
pub use timeline::{Mark, Series, Timeline};

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(crate) type Chart<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Width and height of every chart, in pixels.
pub(crate) const SIZE: (u32, u32) = (1000, 560);

const FONT: &str = "sans-serif";
const MARGIN: i32 = 24;
const LEGEND_ROW: i32 = 26;
const SWATCH_SIZE: i32 = 14;

pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(crate) const FAINT: RGBColor = RGBColor(0x66, 0x66, 0x66);
pub(crate) const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
pub(crate) const PREDICTED: RGBColor = RGBColor(0xb8, 0xc4, 0xce);
/// Only failures are red.
pub(crate) const FAILED: RGBColor = RGBColor(0xc6, 0x10, 0x2e);

/// Colours that the colour-blind can distinguish too (Okabe and Ito, without its red).
const PALETTE: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xd8, 0xcb, 0x1e),
];

/// The colour of the series at `place`; they repeat after six.
pub(crate) fn colour(place: usize) -> RGBColor {
    PALETTE[place % PALETTE.len()]
}

pub(crate) fn text(size: i32, colour: RGBColor, across: HPos, down: VPos) -> TextStyle<'static> {
    TextStyle {
        font: (FONT, size).into_font(),
        color: colour.to_backend_color(),
        pos: Pos::new(across, down),
    }
}

/// How a series looks in the legend.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Swatch {
    Filled(RGBColor),
    Line(RGBColor),
}

/// Draws title, subtitle and legend, and gives back the area beneath them.
pub(crate) fn frame<'a>(
    root: &Area<'a>,
    title: &str,
    subtitle: &str,
    legend: &[(String, Swatch)],
) -> Result<Area<'a>> {
    root.fill(&WHITE)?;
    root.draw_text(title, &text(24, INK, HPos::Left, VPos::Top), (MARGIN, 18))?;
    root.draw_text(subtitle, &text(15, FAINT, HPos::Left, VPos::Top), (MARGIN, 50))?;
    let mut place = (MARGIN, 82);
    for (label, swatch) in legend {
        // No font is at hand to measure with; letters are about half as wide as high.
        let width = SWATCH_SIZE + 30 + i32::try_from(label.chars().count()).unwrap_or(0) * 9;
        if place.0 > MARGIN && place.0 + width > SIZE.0 as i32 - MARGIN {
            place = (MARGIN, place.1 + LEGEND_ROW);
        }
        let (right, middle) = (place.0 + SWATCH_SIZE, place.1 + SWATCH_SIZE / 2);
        match swatch {
            Swatch::Filled(colour) => {
                let corners = [place, (right, place.1 + SWATCH_SIZE)];
                root.draw(&Rectangle::new(corners, colour.filled()))?;
            }
            Swatch::Line(colour) => {
                let ends = [(place.0, middle), (right, middle)];
                root.draw(&PathElement::new(ends, colour.stroke_width(2)))?;
            }
        }
        let beside = (right + 7, middle);
        root.draw_text(label, &text(15, INK, HPos::Left, VPos::Center), beside)?;
        place.0 += width;
    }
    Ok(root.split_vertically(place.1 + LEGEND_ROW).1)
}
