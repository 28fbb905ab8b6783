#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_balancer_fuzz::checks::deadline::check(data));
