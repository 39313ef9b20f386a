//! A simulation as a picture: for each step the circle of slots as a strip, with one colour per
//! replica, and next to it the peak-to-average.

use std::fmt::{Display, Write};

use ringmaster_core::ring::{Ring, RingId};

use super::change_text;
use crate::simulate::{Question, Step};

const WIDTH: f64 = 1000.0;
const TOP: f64 = 112.0;
const ROW: f64 = 30.0;
const STRIP_HEIGHT: f64 = 22.0;
const STRIP_LEFT: f64 = 128.0;
const STRIP_WIDTH: f64 = 560.0;
const LINE_LEFT: f64 = 730.0;
const LINE_WIDTH: f64 = 210.0;
/// A circle with more slots is sampled at this many places, because there are no more pixels.
const PLACES_MAX: u64 = 1_120;
/// Replicas in the legend.
const LEGEND_MAX: usize = 18;

/// Colours of the line by slots and of the line by keys.
const BY_SLOTS: &str = "#222222";
const BY_KEYS: &str = "#0072b2";

pub(super) fn write(question: &Question, steps: &[Step]) -> String {
    let bottom = TOP + ROW * steps.len() as f64;
    let height = bottom + 64.0;
    let mut svg = Svg(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    ));
    svg.text((24.0, 34.0), 22, "start", "#222222", "Who owns which slots, and how evenly");
    svg.text((24.0, 56.0), 13, "start", "#666666", &question.ring.describe());
    legend(&mut svg, steps);
    for (row, step) in steps.iter().enumerate() {
        let top = TOP + ROW * row as f64;
        let label = format!("{}: N = {}", change_text(step.change), step.ring.members().len());
        svg.text((STRIP_LEFT - 10.0, top + 16.0), 13, "end", "#222222", &label);
        strip(&mut svg, &step.ring, top);
    }
    let middle = STRIP_LEFT + STRIP_WIDTH / 2.0;
    let slots = format!("slots 0 to {}", question.ring.circle() - 1);
    svg.text((middle, bottom + 18.0), 13, "middle", "#666666", &slots);
    evenness(&mut svg, steps, bottom);
    svg.0 + "</svg>\n"
}

/// The colours of all replicas of the simulation, as far as there is room.
fn legend(svg: &mut Svg, steps: &[Step]) {
    let mut ids: Vec<RingId> = steps.iter().flat_map(|step| step.added.clone()).collect();
    ids.sort_unstable();
    svg.text((24.0, 88.0), 13, "start", "#222222", "replica");
    for (place, id) in ids.iter().take(LEGEND_MAX).enumerate() {
        let left = 84.0 + 34.0 * place as f64;
        svg.rect((left, 77.0), (12.0, 12.0), &colour(*id));
        svg.text((left + 15.0, 88.0), 12, "start", "#222222", id);
    }
    if ids.len() > LEGEND_MAX {
        let left = 84.0 + 34.0 * LEGEND_MAX as f64;
        svg.text((left, 88.0), 12, "start", "#666666", &format!("to {}", ids.len()));
    }
}

fn strip(svg: &mut Svg, ring: &Ring, top: f64) {
    svg.rect((STRIP_LEFT, top), (STRIP_WIDTH, STRIP_HEIGHT), "#eeeeee");
    let circle = ring.settings().circle();
    let places = circle.min(PLACES_MAX);
    let owner = |place: u64| ring.owner((place * circle / places) as u32);
    let mut from = 0;
    for place in 1..=places {
        if place < places && owner(place) == owner(from) {
            continue;
        }
        if let Some(index) = owner(from) {
            let scale = STRIP_WIDTH / places as f64;
            let left = STRIP_LEFT + from as f64 * scale;
            let size = ((place - from) as f64 * scale, STRIP_HEIGHT);
            svg.rect((left, top), size, &colour(ring.members()[index.0 as usize].id));
        }
        from = place;
    }
}

/// Peak-to-average from step to step, downwards beside the strips.
fn evenness(svg: &mut Svg, steps: &[Step], bottom: f64) {
    let by_slots = |step: &Step| step.slots.map(|evenness| evenness.peak_to_average);
    let by_keys = |step: &Step| step.keys.map(|evenness| evenness.peak_to_average);
    let all = steps.iter().flat_map(|step| [by_slots(step), by_keys(step)]).flatten();
    // Some room to the right, and a minimal range, so that noise does not look large.
    let most = all.fold(1.1, f64::max) * 1.02;
    let x = |peak: f64| LINE_LEFT + LINE_WIDTH * (peak - 1.0) / (most - 1.0);
    for tick in 0..=4 {
        let peak = 1.0 + (most - 1.0) * f64::from(tick) / 4.0;
        svg.line((x(peak), TOP - 4.0), (x(peak), bottom), "#e4e4e4");
        svg.text((x(peak), bottom + 14.0), 12, "middle", "#666666", &format!("{peak:.2}"));
    }
    svg.text((LINE_LEFT, bottom + 36.0), 13, "start", "#222222", "peak to average (1 is even):");
    svg.text((LINE_LEFT, bottom + 54.0), 13, "start", BY_SLOTS, "by slots");
    svg.text((LINE_LEFT + 70.0, bottom + 54.0), 13, "start", BY_KEYS, "by simulated keys");
    curve(svg, steps.iter().map(|step| by_keys(step).map(x)), BY_KEYS, false);
    curve(svg, steps.iter().map(|step| by_slots(step).map(x)), BY_SLOTS, true);
    for (row, step) in steps.iter().enumerate() {
        if let Some(peak) = by_slots(step) {
            let text = format!("{peak:.3}");
            let right = WIDTH - 10.0;
            svg.text((right, row_middle(row) + 4.0), 12, "end", BY_SLOTS, &text);
        }
    }
}

fn row_middle(row: usize) -> f64 {
    TOP + ROW * row as f64 + STRIP_HEIGHT / 2.0
}

/// A line through the rows' values; a row without one interrupts it.
fn curve(svg: &mut Svg, values: impl Iterator<Item = Option<f64>>, ink: &str, is_full: bool) {
    let mut before: Option<(f64, f64)> = None;
    for (row, value) in values.enumerate() {
        let here = value.map(|x| (x, row_middle(row)));
        if let (Some(from), Some(to)) = (before, here) {
            svg.line(from, to, ink);
        }
        if let Some(centre) = here {
            svg.dot(centre, ink, is_full);
        }
        before = here;
    }
}

/// Steps of the golden angle give neighbouring replicas hues that are far apart.
fn colour(id: RingId) -> String {
    let hue = (f64::from(id.0) * 137.508) % 360.0;
    let lightness: f64 = [0.46, 0.60, 0.72][id.0 as usize % 3];
    let strength = 0.62 * lightness.min(1.0 - lightness);
    // HSL to RGB as in CSS Color Module Level 4, section 7.1.
    let channel = |offset: f64| {
        let k = (offset + hue / 30.0) % 12.0;
        let value = lightness - strength * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
        (255.0 * value).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", channel(0.0), channel(8.0), channel(4.0))
}

/// The text of the picture. Writing to a string cannot fail.
struct Svg(String);

impl Svg {
    fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{height:.1}\" fill=\"{fill}\"/>"
        );
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), stroke: &str) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{stroke}\" stroke-width=\"1.5\"/>"
        );
    }

    fn dot(&mut self, (x, y): (f64, f64), ink: &str, is_full: bool) {
        let fill = if is_full { ink } else { "#ffffff" };
        let _ = writeln!(
            self.0,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{fill}\" stroke=\"{ink}\"/>"
        );
    }

    /// Nothing is escaped: the texts are numbers, names of settings and labels from this file.
    fn text(
        &mut self,
        at: (f64, f64),
        size: u32,
        anchor: &str,
        fill: &str,
        text: &(impl Display + ?Sized),
    ) {
        let (x, y) = at;
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{text}</text>"
        );
    }
}
