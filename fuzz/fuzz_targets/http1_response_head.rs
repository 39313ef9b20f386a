#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmaster_http1::fuzzing::http1_response_head(data));
