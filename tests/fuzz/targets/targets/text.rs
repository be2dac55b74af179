//! Bytes as a policy's text.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bulkhead_fuzz::text(bytes);
});
