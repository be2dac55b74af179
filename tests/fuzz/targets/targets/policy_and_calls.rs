//! Bytes as choices of a policy and of calls.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bulkhead_fuzz::policy_and_calls(bytes);
});
