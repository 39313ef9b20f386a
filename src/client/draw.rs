//! A ring on a terminal: a strip of slots with a colour (or a letter) for each replica, and their
//! shares. Pure: turns responses of the admin port into text.

use std::fmt::Write;

use ringmaster_core::ring::{Member, MemberIndex, Ring, RingId, RingOptions, RingSettings};
use serde_json::Value;

/// Cells of the strip: as many as the default ring has slots.
const CELLS: u64 = 512;
/// Cells in a row of the strip.
const ROW: u64 = 64;
/// The letters of replicas: next to their names, and in the strip where there are no colours.
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Colours of the 256-colour palette that differ well on dark and light backgrounds.
const COLOURS: [u8; 12] = [33, 208, 34, 199, 220, 99, 37, 160, 118, 141, 172, 45];

/// The strip, the shares and the evenness of a ring.
pub(super) fn ring(response: &Value, colours: bool) -> String {
    let mut text = headline(response);
    let style = Style { colours };
    if let Some(ring) = rebuilt(response).filter(|ring| !ring.members().is_empty()) {
        text.push_str(&strip(&ring, style));
    }
    let replicas: Vec<&Value> = response["replicas"].as_array().into_iter().flatten().collect();
    let width = replicas.iter().map(|replica| text_of(&replica["name"]).len()).max().unwrap_or(0);
    for (index, replica) in replicas.iter().enumerate() {
        let share = replica["share"].as_f64().unwrap_or(0.0) * 100.0;
        let bar = "#".repeat((share / 2.0).round() as usize);
        let mut line = format!(
            "{} {:<width$} {share:>5.1} %  {bar}",
            style.cell(index, style.letter(index)),
            text_of(&replica["name"])
        );
        if replica["weight"] != 1 {
            let _ = write!(line, "  weight {}", replica["weight"]);
        }
        if replica["displaced"].as_u64().is_some_and(|displaced| displaced > 0) {
            let _ = write!(line, "  {} displaced", replica["displaced"]);
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if let Some(peak) = response["peak_to_average"].as_f64() {
        let deviation = response["standard_deviation"].as_f64().unwrap_or(0.0) * 100.0;
        let _ = writeln!(
            text,
            "peak-to-average {peak:.3}, standard deviation {deviation:.1} %, {} displaced",
            response["displaced"]
        );
    }
    text
}

fn headline(response: &Value) -> String {
    let mut text = text_of(&response["algorithm"]).to_owned();
    let _ = write!(text, ", {} slots", response["slots"]);
    if response["algorithm"] == "ring" {
        let _ = write!(
            text,
            ", {} virtual servers a replica, placement {}",
            response["virtual_servers"],
            text_of(&response["placement"])
        );
    }
    let _ = writeln!(
        text,
        ", hash {}, generation {}, digest {}",
        text_of(&response["hash"]),
        response["generation"],
        text_of(&response["digest"])
    );
    text
}

/// Rebuilds the ring from a response: members and positions are enough for every algorithm.
fn rebuilt(response: &Value) -> Option<Ring> {
    let text = |key: &str| response[key].as_str().map(str::to_owned);
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let algorithm = text("algorithm");
    let has_slots = matches!(algorithm.as_deref(), Some("ring" | "slots"));
    let options = RingOptions {
        algorithm,
        slots: number(&response["slots"]).filter(|_| has_slots),
        // Only for algorithms with slots: with the default slots the check could refuse it.
        virtual_servers: number(&response["virtual_servers"]).filter(|_| has_slots),
        placement: text("placement"),
        // The hash of keys does not change the owners of slots, and its key may be a secret.
        ..RingOptions::default()
    };
    let members = response["replicas"].as_array()?.iter().map(|replica| {
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

/// Rows of cells, with the first slot at the start of each. A cell shows the owner of most of its slots.
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

/// The owner of most slots of a range, estimated from up to 64 of them.
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
pub(super) fn lookup(response: &Value) -> String {
    let mut text = format!(
        "key {}, {} {}, slot {}\n",
        response["key"],
        text_of(&response["hash"]),
        response["hash_value"],
        response["slot"]
    );
    let selected = &response["selected_server"]["id"];
    let candidates = response["candidate_servers"].as_array().into_iter().flatten();
    for (candidate, place) in candidates.zip(1..) {
        let mark = match (&candidate["id"] == selected, candidate["in_service"] == true) {
            (true, _) => "  <- gets it",
            (false, true) => "",
            (false, false) => "  (not in service)",
        };
        let address = candidate["url"].as_str().unwrap_or_default();
        let address = address.strip_prefix("http://").unwrap_or(address);
        let line = format!("{place:>4}. {:<24} {address}{mark}", text_of(&candidate["name"]));
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

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ring_response() -> Value {
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
        let text = ring(&ring_response(), false);
        assert!(text.contains("\n0 AABAAABB\n"), "{text}");
        assert!(text.contains("A server_1  62.5 %  ##############################"), "{text}");
        assert!(text.contains("1 displaced\nB S2"), "{text}");
        assert!(text.contains("weight 2"), "{text}");
        assert!(text.contains("peak-to-average 1.250, standard deviation 25.0 %"), "{text}");
        assert!(ring(&ring_response(), true).contains("\x1b[48;5;33;30m \x1b[0m"));
    }

    #[test]
    fn every_algorithm_can_be_drawn() {
        for algorithm in ringmaster_core::ring::Algorithm::ALL {
            let mut response = ring_response();
            response["algorithm"] = algorithm.name().into();
            if !algorithm.has_positions() {
                response["slots"] = 65_537.into();
                response["virtual_servers"] = 1_000.into();
            }
            if algorithm == ringmaster_core::ring::Algorithm::Slots {
                response["replicas"][0]["slots"] = json!([0, 1, 2, 3]);
                response["replicas"][1]["slots"] = json!([4, 5, 6, 7]);
            }
            let text = ring(&response, false);
            let rows = text.lines().filter(|line| line.starts_with([' ', '0']));
            assert!(rows.count() >= 1, "{algorithm:?}: {text}");
        }
        let mut empty = ring_response();
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
