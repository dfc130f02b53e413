//! Random blueprints over all operators: that the generator is worth its name, and what must hold for every graph.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod broken;
mod features;
mod generator;
mod generators;
mod hostile;
mod identity;
mod passes;
mod validation;

use generator::{Choices, blueprint};
use kasmina::graph::Blueprint;
use proptest::strategy::Strategy;

/// Bytes of choices that a graph may use.
const CHOICES: usize = 512;

/// A random blueprint as proptest draws and shrinks it; printed as JSON.
fn blueprints() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::num::u8::ANY, 0..CHOICES).prop_map(|bytes| blueprint(&bytes))
}

/// The random blueprint of a number.
fn numbered(number: u64) -> Blueprint {
    let json = blueprint(&Choices::bytes(number, CHOICES));
    Blueprint::from_json(json.as_bytes()).unwrap_or_else(|error| panic!("blueprint {number}: {error}\n{json}"))
}
