//! The fuzz targets of the codec, without a fuzzer.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../../../tests/fuzz_support/mod.rs"]
mod fuzz_support;

use std::path::Path;

use fuzz_support::Targets;
use ringmaster_http1::fuzzing::CHECKS;

fn targets() -> Targets {
    Targets {
        of: "ringmaster_http1",
        fuzz: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz"),
        is_own: |name| name.starts_with("http1_"),
        checks: &CHECKS,
    }
}

#[test]
fn each_target_has_a_check_and_a_corpus() {
    targets().each_has_a_check_and_a_corpus();
}

#[test]
fn every_seed_holds() {
    targets().every_seed_holds();
}

#[test]
fn what_is_like_a_seed_holds_too() {
    targets().what_is_like_a_seed_holds_too();
}
