//! Untrusted blueprints: see [`decoder`].

#![no_main]

#[path = "../../tests/rust/fuzz/decoder.rs"]
mod decoder;
#[path = "../../tests/rust/fuzz/document.rs"]
mod document;
#[path = "../../tests/rust/random_blueprints/generator/mod.rs"]
mod generator;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoder::decode(bytes));
