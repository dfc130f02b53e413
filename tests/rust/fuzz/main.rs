//! The fuzz targets of `fuzz/` as plain tests: over every input that was kept, and over some thousand that are made of
//! those.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod c_abi;
mod checkpoint;
mod decoder;
mod document;
#[path = "../random_blueprints/generator/mod.rs"]
mod generator;

use generator::Choices;
use kasmina::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::path::Path;

/// What lies in a folder of the repository, by name.
fn inputs(folder: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

/// Tries an input, and says which one it was if it fails.
fn try_out(target: fn(&[u8]), name: &str, bytes: &[u8]) {
    if catch_unwind(|| target(bytes)).is_err() {
        panic!("{name} fails: {}", bytes.escape_ascii());
    }
}

/// A part of one input followed by a part of another one, with some bytes changed.
fn mutated(inputs: &[Vec<u8>], choices: &mut Choices<'_>) -> Vec<u8> {
    let (first, second) = (&inputs[choices.below(inputs.len())], &inputs[choices.below(inputs.len())]);
    let cut = |input: &Vec<u8>, choices: &mut Choices<'_>| choices.below(256) * (input.len() + 1) / 256;
    let (to, from) = (cut(first, choices), cut(second, choices));
    let mut bytes = [&first[..to], &second[from..]].concat();
    for _ in 0..choices.below(6) {
        let at = cut(&bytes, choices);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = choices.below(256) as u8;
        }
    }
    bytes
}

fn target_holds(target: fn(&[u8]), folders: &[&str], count: u64) {
    let kept: BTreeMap<_, _> = folders.iter().flat_map(|folder| inputs(folder)).collect();
    assert!(kept.len() > 10, "there are only {} inputs in {folders:?}", kept.len());
    kept.iter().for_each(|(name, bytes)| try_out(target, name, bytes));
    // The largest ones would take all the time.
    let small: Vec<_> = kept.into_values().filter(|bytes| bytes.len() < 4096).take(256).collect();
    for number in 0..count {
        let choices = Choices::bytes(number, 64);
        try_out(target, &format!("mutation {number}"), &mutated(&small, &mut Choices::new(&choices)));
    }
}

#[test]
fn the_decoder_takes_what_was_kept_and_thousands_of_mutations_of_it() {
    target_holds(decoder::decode, &["fuzz/seeds/decoder", "tests/data/hostile"], 2000);
}

#[test]
fn the_c_abi_takes_what_was_kept_and_a_thousand_mutations_of_it() {
    target_holds(|bytes| drop(c_abi::call(bytes)), &["fuzz/seeds/c_abi"], 1000);
}

#[test]
fn the_c_abi_target_calls_every_function_that_can_fail_but_shutdown() {
    let called: BTreeSet<&str> = c_abi::CALLS.iter().map(|call| call.function).collect();
    let questions = ["kasmina_abi_version", "kasmina_version", "kasmina_shutdown"];
    let is_question = |name: &&str| {
        questions.contains(name) || name.starts_with("kasmina_error_") || name.starts_with("kasmina_bytes_")
    };
    let exported = kasmina::ffi::FUNCTIONS.iter().copied().filter(|name| !is_question(name)).collect();
    assert_eq!(called, exported, "teach tests/rust/fuzz/c_abi the new function, at the end of CALLS");
}

#[test]
fn a_seed_of_a_kept_input_lives_through_all_states() {
    let kept = inputs("fuzz/seeds/c_abi");
    for name in ["life", "life-of-double", "life-of-generated", "strategy"] {
        let refused: Vec<_> = c_abi::call(&kept[name]).into_iter().filter(|outcome| outcome.1 != Status::Ok).collect();
        assert_eq!(refused, [], "{name}");
    }
}

#[test]
fn every_function_succeeds_in_some_kept_input() {
    let outcomes = inputs("fuzz/seeds/c_abi").into_values().flat_map(|bytes| c_abi::call(&bytes));
    let succeed: BTreeSet<&str> = outcomes.filter(|outcome| outcome.1 == Status::Ok).map(|outcome| outcome.0).collect();
    // The host has no place to write to.
    let fail = ["kasmina_layer_save", "kasmina_layer_load"];
    let called = c_abi::CALLS.iter().map(|call| call.function).filter(|name| !fail.contains(name)).collect();
    assert_eq!(succeed, called);
}
