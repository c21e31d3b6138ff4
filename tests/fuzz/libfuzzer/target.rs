//! Every target: it has the name of the law that it tries.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::law(env!("CARGO_BIN_NAME")).try_on(data));
