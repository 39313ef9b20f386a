#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmaster::fuzzing::access_log(data));
