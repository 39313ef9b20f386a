//! A ring as a terminal shows it: a strip of slots with a colour (or a letter) for each replica,
//! and their shares. Pure: from what the admin port says to text.

use std::fmt::Write;

use ringmaster_core::ring::{Member, MemberIndex, Ring, RingId, RingOptions, RingSettings};
use serde_json::Value;

/// Cells of the strip: of the default ring each is one slot.
const CELLS: u64 = 512;
/// Cells in a row.
const ROW: u64 = 64;
/// What stands for a replica where there are no colours, and beside its name.
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Colours of the 256-colour palette that are told apart on dark and light ground.
const COLOURS: [u8; 12] = [33, 208, 34, 199, 220, 99, 37, 160, 118, 141, 172, 45];

/// The ring, drawn.
pub(super) fn ring(answer: &Value, colours: bool) -> String {
    let mut text = headline(answer);
    let style = Style { colours };
    if let Some(ring) = rebuilt(answer).filter(|ring| !ring.members().is_empty()) {
        text.push_str(&strip(&ring, style));
    }
    let replicas: Vec<&Value> = answer["replicas"].as_array().into_iter().flatten().collect();
    let width = replicas.iter().map(|replica| word(&replica["name"]).len()).max().unwrap_or(0);
    for (index, replica) in replicas.iter().enumerate() {
        let share = replica["share"].as_f64().unwrap_or(0.0) * 100.0;
        let bar = "#".repeat((share / 2.0).round() as usize);
        let mut line = format!(
            "{} {:<width$} {share:>5.1} %  {bar}",
            style.cell(index, style.letter(index)),
            word(&replica["name"])
        );
        if replica["weight"] != 1 {
            let _ = write!(line, "  weight {}", replica["weight"]);
        }
        if replica["displaced"].as_u64().is_some_and(|displaced| displaced > 0) {
            let _ = write!(line, "  {} displaced", replica["displaced"]);
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if let Some(peak) = answer["peak_to_average"].as_f64() {
        let deviation = answer["standard_deviation"].as_f64().unwrap_or(0.0) * 100.0;
        let _ = writeln!(
            text,
            "peak-to-average {peak:.3}, standard deviation {deviation:.1} %, {} displaced",
            answer["displaced"]
        );
    }
    text
}

fn headline(answer: &Value) -> String {
    let mut text = word(&answer["algorithm"]).to_owned();
    let _ = write!(text, ", {} slots", answer["slots"]);
    if answer["algorithm"] == "ring" {
        let _ = write!(
            text,
            ", {} virtual servers a replica, placement {}",
            answer["virtual_servers"],
            word(&answer["placement"])
        );
    }
    let _ = writeln!(
        text,
        ", hash {}, generation {}, digest {}",
        word(&answer["hash"]),
        answer["generation"],
        word(&answer["digest"])
    );
    text
}

/// The ring itself, from what was said of it: all algorithms follow from members and positions.
fn rebuilt(answer: &Value) -> Option<Ring> {
    let text = |key: &str| answer[key].as_str().map(str::to_owned);
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let algorithm = text("algorithm");
    let has_slots = matches!(algorithm.as_deref(), Some("ring" | "slots"));
    let options = RingOptions {
        algorithm,
        slots: number(&answer["slots"]).filter(|_| has_slots),
        // Of the algorithm `ring` only; beside the default slots others could be refused.
        virtual_servers: number(&answer["virtual_servers"]).filter(|_| has_slots),
        placement: text("placement"),
        // What keys are hashed with does not change who owns a slot, and may be a secret.
        ..RingOptions::default()
    };
    let members = answer["replicas"].as_array()?.iter().map(|replica| {
        Some(Member {
            id: RingId(number(&replica["id"])?),
            ordinal: number(&replica["ordinal"])?,
            weight: number(&replica["weight"])?,
            positions: replica["slots"].as_array()?.iter().map(number).collect::<Option<_>>()?,
        })
    });
    let members = members.collect::<Option<Vec<_>>>()?;
    Ring::new(options.on(&RingSettings::default()).ok()?, members).ok()
}

/// Rows of cells, each with the owner of most of its slots, after the first slot of the row.
fn strip(ring: &Ring, style: Style) -> String {
    let circle = ring.settings().circle();
    let cells = circle.min(CELLS);
    let mut text = String::new();
    let width = circle.to_string().len();
    for cell in 0..cells {
        if cell % ROW == 0 {
            let _ = write!(text, "{:>width$} ", cell * circle / cells);
        }
        let owner = main_owner(ring, cell * circle / cells, (cell + 1) * circle / cells);
        let index = owner.map_or(0, |owner| owner.0 as usize);
        text.push_str(&style.cell(index, if style.colours { ' ' } else { style.letter(index) }));
        if cell % ROW == ROW - 1 || cell + 1 == cells {
            text.push('\n');
        }
    }
    text
}

/// Who owns most of a range of slots, by up to 64 of them.
fn main_owner(ring: &Ring, from: u64, to: u64) -> Option<MemberIndex> {
    let samples = (to - from).clamp(1, 64);
    let mut counts = vec![0u32; ring.members().len()];
    for sample in 0..samples {
        let slot = from + sample * (to - from) / samples;
        counts[ring.owner(slot as u32)?.0 as usize] += 1;
    }
    let most = counts.iter().zip(0u16..).max_by_key(|&(count, index)| (*count, u16::MAX - index));
    most.map(|(_, index)| MemberIndex(index))
}

#[derive(Clone, Copy)]
struct Style {
    colours: bool,
}

impl Style {
    fn letter(self, index: usize) -> char {
        char::from(LETTERS[index % LETTERS.len()])
    }

    fn cell(self, index: usize, letter: char) -> String {
        if !self.colours {
            return letter.to_string();
        }
        let colour = COLOURS[index % COLOURS.len()];
        format!("\x1b[48;5;{colour};30m{letter}\x1b[0m")
    }
}

/// Where a key goes.
pub(super) fn lookup(answer: &Value) -> String {
    let mut text = format!(
        "key {}, {} {}, slot {}\n",
        answer["key"],
        word(&answer["hash"]),
        answer["hash_value"],
        answer["slot"]
    );
    let selected = &answer["selected_server"]["id"];
    let candidates = answer["candidate_servers"].as_array().into_iter().flatten();
    for (candidate, place) in candidates.zip(1..) {
        let mark = match (&candidate["id"] == selected, candidate["in_service"] == true) {
            (true, _) => "  <- gets it",
            (false, true) => "",
            (false, false) => "  (not in service)",
        };
        let address = candidate["url"].as_str().unwrap_or_default();
        let address = address.strip_prefix("http://").unwrap_or(address);
        let line = format!("{place:>4}. {:<24} {address}{mark}", word(&candidate["name"]));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// What a change moves, or would move.
pub(super) fn change(message: &Value, is_dry_run: bool) -> String {
    let percent = |value: &Value| value.as_f64().unwrap_or(0.0) * 100.0;
    let verb = if is_dry_run { "would move" } else { "moved" };
    let mut text = format!(
        "{:.1} % of all keys {verb}, {:.1} % is the minimum",
        percent(&message["moved_share"]),
        percent(&message["minimum_share"])
    );
    if let Some(keys) = message["sampled_keys"].as_u64() {
        let _ = write!(text, " (of {keys} sampled keys)");
    }
    text.push('\n');
    let peak = |key: &str| message[key]["peak_to_average"].as_f64();
    if let (Some(before), Some(after)) = (peak("before"), peak("after")) {
        let _ = writeln!(text, "peak-to-average {before:.3} -> {after:.3}");
    }
    for entry in message["moves"].as_array().into_iter().flatten() {
        let name = |key: &str| entry[key].as_str().unwrap_or("(nobody)").to_owned();
        let share = percent(&entry["share"]);
        let _ = writeln!(text, "{share:>6.1} %  {} -> {}", name("from"), name("to"));
    }
    text
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> Value {
        json!({
            "algorithm": "ring", "slots": 8, "virtual_servers": 2, "placement": "hash",
            "hash": "siphash", "generation": 3, "digest": "abc", "peak_to_average": 1.25,
            "standard_deviation": 0.25, "displaced": 1,
            "replicas": [
                {"name": "server_1", "id": 1, "ordinal": 1, "weight": 1, "share": 0.625,
                 "displaced": 1, "slots": [1, 5]},
                {"name": "S2", "id": 2, "ordinal": 2, "weight": 2, "share": 0.375,
                 "displaced": 0, "slots": [2, 7]}
            ]
        })
    }

    #[test]
    fn a_strip_shows_who_owns_each_slot() {
        let text = ring(&answer(), false);
        assert!(text.contains("\n0 AABAAABB\n"), "{text}");
        assert!(text.contains("A server_1  62.5 %  ##############################"), "{text}");
        assert!(text.contains("1 displaced\nB S2"), "{text}");
        assert!(text.contains("weight 2"), "{text}");
        assert!(text.contains("peak-to-average 1.250, standard deviation 25.0 %"), "{text}");
        assert!(ring(&answer(), true).contains("\x1b[48;5;33;30m \x1b[0m"));
    }

    #[test]
    fn every_algorithm_can_be_drawn() {
        for algorithm in ringmaster_core::ring::Algorithm::ALL {
            let mut answer = answer();
            answer["algorithm"] = algorithm.name().into();
            if !algorithm.has_positions() {
                answer["slots"] = 65_537.into();
                answer["virtual_servers"] = 1_000.into();
            }
            if algorithm == ringmaster_core::ring::Algorithm::Slots {
                answer["replicas"][0]["slots"] = json!([0, 1, 2, 3]);
                answer["replicas"][1]["slots"] = json!([4, 5, 6, 7]);
            }
            let text = ring(&answer, false);
            let rows = text.lines().filter(|line| line.starts_with([' ', '0']));
            assert!(rows.count() >= 1, "{algorithm:?}: {text}");
        }
        let mut empty = answer();
        empty["replicas"] = json!([]);
        assert_eq!(ring(&empty, false).lines().count(), 2);
    }

    #[test]
    fn a_lookup_marks_who_gets_the_key() {
        let candidate = |name: &str, id: u32, in_service: bool| json!({"name": name, "id": id, "in_service": in_service, "url": "http://10.0.0.1:80"});
        let text = lookup(&json!({
            "key": "user42", "hash": "xxh3", "hash_value": 17, "slot": 5,
            "selected_server": candidate("S2", 2, true),
            "candidate_servers": [candidate("S1", 1, false), candidate("S2", 2, true)],
        }));
        assert!(text.contains("slot 5"), "{text}");
        assert!(
            text.contains("1. S1")
                && text.contains(" 10.0.0.1:80")
                && text.contains("(not in service)"),
            "{text}"
        );
        assert!(text.lines().last().is_some_and(|line| line.ends_with("<- gets it")), "{text}");
    }
}
