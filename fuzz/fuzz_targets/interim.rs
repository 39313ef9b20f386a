#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmaster_proxy::fuzzing::interim(data));
