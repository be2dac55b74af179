//! End-to-end tests: see `tests/boot.rs`. They need the images (`cargo xtask build`) and the emulator; `cargo xtask test`
//! runs them, a plain `cargo test` leaves them out.
