//! Many measurements side by side: a table whose cells are coloured by how far they are from 1.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Area, FAINT, INK, MARGIN, text};

const WIDTH: i32 = 1000;
const NAMES_WIDTH: i32 = 96;
const GROUP_GAP: i32 = 12;
const TOP: i32 = 132;
const ROW: i32 = 42;
/// From this factor away from 1 on, a cell has its full colour.
const FULL: f64 = 2.0;
const OVER: RGBColor = RGBColor(0xd5, 0x6a, 0x00);
const UNDER: RGBColor = RGBColor(0x00, 0x72, 0xb2);

/// One cell of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Decides the colour: 1 is white, more is orange, less is blue.
    pub value: f64,
    /// What was measured.
    pub text: String,
    /// What was predicted.
    pub beneath: String,
}

/// A table: groups of columns, each with the same columns and rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// What it shows.
    pub title: String,
    /// Under which conditions.
    pub subtitle: String,
    /// From left to right.
    pub groups: Vec<String>,
    /// The columns of each group.
    pub columns: Vec<String>,
    /// From the top down.
    pub rows: Vec<String>,
    /// Group by group, then row by row: the cells by column.
    pub cells: Vec<Vec<Cell>>,
}

impl Grid {
    /// The table as SVG text.
    ///
    /// # Errors
    /// When the drawing library fails.
    pub fn svg(&self) -> Result<String> {
        let height = TOP + ROW * self.rows.len() as i32 + MARGIN;
        let mut svg = String::new();
        {
            let size = (WIDTH as u32, height as u32);
            let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            self.draw(&root)?;
            root.present()?;
        }
        Ok(svg)
    }

    fn draw(&self, root: &Area<'_>) -> Result<()> {
        root.fill(&WHITE)?;
        root.draw_text(&self.title, &text(24, INK, HPos::Left, VPos::Top), (MARGIN, 18))?;
        root.draw_text(&self.subtitle, &text(15, FAINT, HPos::Left, VPos::Top), (MARGIN, 50))?;
        for (row, name) in self.rows.iter().enumerate() {
            let middle = TOP + ROW * row as i32 + ROW / 2;
            root.draw_text(name, &text(15, INK, HPos::Left, VPos::Center), (MARGIN, middle))?;
        }
        for (group, name) in self.groups.iter().enumerate() {
            let left = self.left(group, 0);
            let style = text(16, INK, HPos::Left, VPos::Top);
            root.draw_text(name, &style, (left, TOP - 50))?;
            for (column, name) in self.columns.iter().enumerate() {
                let middle = self.left(group, column) + self.column_width() / 2;
                let style = text(13, FAINT, HPos::Center, VPos::Bottom);
                root.draw_text(name, &style, (middle, TOP - 6))?;
            }
        }
        let rows = self.rows.len().max(1);
        for (place, cells) in self.cells.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                let corner = (self.left(place / rows, column), TOP + ROW * (place % rows) as i32);
                draw_cell(root, corner, self.column_width(), cell)?;
            }
        }
        Ok(())
    }

    fn group_width(&self) -> i32 {
        (WIDTH - 2 * MARGIN - NAMES_WIDTH) / self.groups.len().max(1) as i32
    }

    fn column_width(&self) -> i32 {
        (self.group_width() - GROUP_GAP) / self.columns.len().max(1) as i32
    }

    fn left(&self, group: usize, column: usize) -> i32 {
        let group_left = MARGIN + NAMES_WIDTH + self.group_width() * group as i32;
        group_left + self.column_width() * column as i32
    }
}

fn draw_cell(root: &Area<'_>, (left, top): (i32, i32), width: i32, cell: &Cell) -> Result<()> {
    let corners = [(left, top), (left + width - 2, top + ROW - 2)];
    root.draw(&Rectangle::new(corners, shade(cell.value).filled()))?;
    let middle = left + width / 2;
    let measured = text(14, INK, HPos::Center, VPos::Center);
    root.draw_text(&cell.text, &measured, (middle, top + ROW / 2 - 9))?;
    let predicted = text(12, INK, HPos::Center, VPos::Center);
    root.draw_text(&cell.beneath, &predicted, (middle, top + ROW / 2 + 9))?;
    Ok(())
}

/// From white at 1 to full at a factor of [`FULL`], by the logarithm of the factor. Never so dark
/// that text cannot be read.
fn shade(value: f64) -> RGBColor {
    let distance = value.max(1.0 / FULL).ln() / FULL.ln();
    let full = if distance > 0.0 { OVER } else { UNDER };
    let part = 0.6 * distance.abs().min(1.0);
    let mix = |to: u8| (255.0 + (f64::from(to) - 255.0) * part).round() as u8;
    RGBColor(mix(full.0), mix(full.1), mix(full.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let cell = |value: f64| Cell {
            value,
            text: format!("{value:.2}"),
            beneath: format!("predicted {value}"),
        };
        Grid {
            title: "Pairs".to_owned(),
            subtitle: "1 is even".to_owned(),
            groups: vec!["even".to_owned(), "hash".to_owned()],
            columns: vec!["N = 2".to_owned(), "N = 3".to_owned()],
            rows: vec!["xxh3".to_owned()],
            cells: vec![vec![cell(1.0), cell(1.5)], vec![cell(2.0), cell(9.0)]],
        }
    }

    #[test]
    fn every_cell_group_column_and_row_is_there() {
        let svg = grid().svg().unwrap();
        for part in ["Pairs", "even", "hash", "N = 3", "xxh3", "1.50", "9.00", "predicted 2"] {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(svg, grid().svg().unwrap(), "the same numbers, the same bytes");
        assert!(Grid { cells: Vec::new(), rows: Vec::new(), ..grid() }.svg().is_ok());
    }

    #[test]
    fn colours_grow_with_the_distance_from_1_and_then_stay() {
        assert_eq!(shade(1.0), RGBColor(255, 255, 255));
        assert_eq!(shade(2.0), shade(7.0));
        assert_eq!(shade(0.5), shade(0.0));
        assert!(shade(1.2).2 > shade(1.6).2);
    }
}
