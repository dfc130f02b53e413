//! Hosts that err: see [`c_abi`].

#![no_main]

#[path = "../../tests/rust/fuzz/c_abi/mod.rs"]
mod c_abi;
#[path = "../../tests/rust/fuzz/checkpoint.rs"]
mod checkpoint;
#[path = "../../tests/rust/fuzz/document.rs"]
mod document;
#[path = "../../tests/rust/random_blueprints/generator/mod.rs"]
mod generator;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    c_abi::call(bytes);
});
