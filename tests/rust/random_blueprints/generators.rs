//! The generator itself: valid, of every operator, tame, and simple where the choices are.

use super::{blueprints, generator, numbered};
use kasmina::compile::reference::{Inputs, run};
use kasmina::compile::{Program, lower};
use kasmina::graph::{Blueprint, RowInput, Source};
use kasmina::ops;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Operators that blueprints cannot call.
const INTERNAL: &[&str] = &["row_sum"];

#[test]
fn the_generator_knows_every_operator_of_the_registry() {
    let known: BTreeSet<&str> = generator::operators().iter().map(|operator| operator.name).collect();
    let registered =
        ops::all().iter().map(|operator| operator.name()).filter(|name| !INTERNAL.contains(name)).collect();
    assert_eq!(known, registered, "teach tests/rust/random_blueprints/generator/calls.rs the new operator");
}

#[test]
fn hundreds_of_blueprints_use_every_operator_many_times() {
    let mut uses = BTreeMap::new();
    for number in 0..500 {
        for node in &numbered(number).graph.nodes {
            if let Source::Operator { operator, .. } = &node.source {
                *uses.entry(operator.name()).or_insert(0) += 1;
            }
        }
    }
    let rare: Vec<_> =
        generator::operators().iter().filter(|it| uses.get(it.name).is_none_or(|&uses| uses < 20)).collect();
    assert!(rare.is_empty(), "rarely used: {:?} of {uses:?}", rare.iter().map(|it| it.name).collect::<Vec<_>>());
}

#[test]
fn no_choices_give_the_simplest_blueprint() {
    let simplest = Blueprint::from_json(generator::blueprint(&[]).as_bytes()).unwrap();
    assert_eq!((simplest.chunk, simplest.parameters.len(), simplest.graph.nodes.len()), (4, 0, 2));
}

#[test]
fn blueprints_are_deep_wide_and_of_many_shapes() {
    let (mut ranks, mut chunks, mut deepest, mut widest, mut most) = (BTreeSet::new(), BTreeSet::new(), 0, 0, 0);
    for number in 0..500 {
        let blueprint = numbered(number);
        chunks.insert(blueprint.chunk);
        most = most.max(blueprint.parameters.len());
        let (mut depths, mut readers) = (vec![], BTreeMap::new());
        for node in &blueprint.graph.nodes {
            ranks.insert(node.shape.rank());
            let inputs = match &node.source {
                Source::Operator { inputs, .. } => inputs.as_slice(),
                _ => &[],
            };
            inputs.iter().for_each(|input| *readers.entry(*input).or_insert(0) += 1);
            depths.push(1 + inputs.iter().map(|input| depths[input.index()]).max().unwrap_or(0));
        }
        deepest = deepest.max(depths.into_iter().max().unwrap());
        widest = widest.max(readers.into_values().max().unwrap_or(0));
    }
    assert!(chunks.len() >= 15 && ranks.len() >= 5, "chunks {chunks:?}, ranks {ranks:?}");
    assert!(deepest >= 20 && widest >= 6 && most >= 8, "deep {deepest}, read {widest} times, {most} parameters");
}

#[test]
fn values_stay_tame() {
    for number in 0..500 {
        let blueprint = numbered(number);
        let x: Vec<f64> = (0..3 * blueprint.chunk).map(|at| 2.0 * (at as f64 * 0.7).sin()).collect();
        let parameters = blueprint.initialize(number);
        let offsets: Vec<_> = blueprint.parameters.iter().map(|parameter| parameter.offset).collect();
        let program: Program = lower(&blueprint.graph, blueprint.chunk, &offsets, RowInput::X).unwrap();
        let outputs = run(&program, &Inputs { rows: 3, x: &x, parameters: &parameters, ..Inputs::default() }).unwrap();
        let largest = outputs.rows.iter().fold(0.0f64, |largest, element| largest.max(element.abs()));
        assert!(largest <= generator::LARGEST, "blueprint {number} reaches {largest}");
    }
}

proptest! {
    #[test]
    fn any_bytes_give_a_valid_blueprint(json in blueprints()) {
        let blueprint = Blueprint::from_json(json.as_bytes());
        prop_assert!(blueprint.is_ok(), "{}", blueprint.unwrap_err());
    }
}
