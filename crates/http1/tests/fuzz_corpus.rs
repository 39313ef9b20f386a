//! The fuzz targets of the codec, without a fuzzer.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../../../fuzz/replay.rs"]
mod replay;

use std::path::Path;

use ringmaster_http1::fuzzing::CHECKS;

#[test]
fn every_seed_and_what_is_like_it_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    replay::replay(&corpus, &CHECKS);
}
