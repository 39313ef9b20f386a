#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmaster::store::fuzzing::state(data));
