//! `ringmaster simulate`, as its users run it.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmaster")).arg("simulate").args(arguments).output().unwrap()
}

fn text(arguments: &[&str]) -> String {
    let output = simulate(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&text(&[arguments, &["--format", "json"]].concat())).unwrap()
}

#[test]
fn a_growing_and_shrinking_fleet_is_shown_step_by_step() {
    let result = json(&["--sequence", "3,+2,-1"]);
    let steps = result["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| step["N"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 5, 4]);
    assert_eq!(steps[0]["moved_share"], Value::Null);
    for step in &steps[1..] {
        assert_eq!(step["moved_share"], step["minimum_share"]);
    }
    assert_eq!(steps[2]["removed"], serde_json::json!([5]));
    for step in steps {
        let shares = step["replicas"].as_array().unwrap().iter().map(|r| r["share"].as_f64());
        assert!((shares.map(Option::unwrap).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(step["peak_to_average"].as_f64().unwrap() <= 1.04, "{step}");
    }
    let table = text(&["--sequence", "3,+2,-1"]);
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(table.contains("peak/avg") && table.contains("start 3"), "{table}");
}

#[test]
fn the_ring_of_the_course_has_its_known_imbalance() {
    let step = &json(&["--sequence", "3", "--placement", "polynomial"])["steps"][0];
    // One of three replicas gets 84.4 % of the requests.
    let peak = step["keys_peak_to_average"].as_f64().unwrap();
    assert!((peak - 3.0 * 0.844).abs() < 0.02, "{step}");
}

#[test]
fn hot_keys_spill_under_bounded_load_and_quickly() {
    let begun = Instant::now();
    let result = json(&["--sequence", "10", "--distribution", "zipf:1.1", "--bounded", "1.25"]);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let step = &result["steps"][0];
    assert!(step["keys_peak_to_average"].as_f64().unwrap() > 1.25, "{step}");
    assert!(step["peak_load_to_average"].as_f64().unwrap() <= 1.25, "{step}");
    assert!(step["spill_share"].as_f64().unwrap() > 0.0, "{step}");
}

#[test]
fn the_same_seed_gives_the_same_result() {
    let asked = ["--sequence=9,-3,+3", "--victim=random", "--bounded=1.1", "--keys=5000"];
    for format in ["table", "json", "svg"] {
        let result =
            |seed: &str| text(&[&asked[..], &["--format", format, "--seed", seed]].concat());
        assert_eq!(result("7"), result("7"), "{format}");
        assert_ne!(result("7"), result("8"), "{format}");
    }
}

#[test]
fn every_algorithm_can_be_drawn_into_a_file() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    for algorithm in ["ring", "slots", "ketama", "maglev", "rendezvous", "jump"] {
        let file = folder.join(format!("simulate-{algorithm}.svg"));
        let path = file.to_str().unwrap();
        let said = text(&["--algorithm", algorithm, "--format", "svg", "--output", path]);
        assert_eq!(said, "");
        let svg = std::fs::read_to_string(&file).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{algorithm}");
        for part in ["start 3: N = 3", "+2: N = 5", "-1: N = 4", "by slots", algorithm] {
            assert!(svg.contains(part), "{algorithm}: {part}");
        }
    }
}

#[test]
fn an_invalid_option_ends_with_2_and_one_line() {
    let cases: [(&[&str], &str); 13] = [
        (&["--sequence", "three"], "'three' is not a number of replicas"),
        (&["--sequence", "3,-4"], "'-4' removes more than the 3"),
        (&["--sequence", "3,+54"], "raise `slots`"),
        (&["--victim", "loudest"], "newest, oldest, least_loaded, most_even_after, random"),
        (&["--distribution", "pareto"], "uniform, zipf:EXPONENT"),
        (&["--keys", "0"], "1 to 900000"),
        (&["--bounded", "0.5"], "1 to 1000, not 0.5"),
        (&["--format", "png"], "'png' is not one of table, json, svg"),
        (&["--algorithm", "hrw"], "ring, slots, ketama, maglev, rendezvous, jump"),
        (&["--placement", "odd"], "even, hash, polynomial"),
        (&["--hash", "sha3"], "xxh3, murmur3"),
        (&["--slots", "0"], "`slots`"),
        (&["--slots", "many"], "--slots"),
    ];
    for (arguments, expected) in cases {
        let output = simulate(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert_eq!((said.lines().count(), output.stdout.len()), (1, 0), "{said}");
        assert!(said.starts_with("error: ") && said.contains(expected), "{expected}: {said}");
    }
    let output = simulate(&["--output", "/no/such/folder/a.json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
