//! The canonical hash: who is the same blueprint and who is not.

use super::random::{self, Random, document, node, parameter, relabelled};
use crate::graph::json::Document;
use crate::graph::{Attribute, Blueprint, Initializer, Source, library};
use std::collections::{HashMap, HashSet};

fn hash(document: Document) -> [u8; 32] {
    document.verify().unwrap().hash()
}

/// What the output computes, spelled out as one formula: an identity found without numbering anything.
fn formula(blueprint: &Blueprint) -> String {
    let mut formulas: Vec<String> = Vec::new();
    for node in &blueprint.graph.nodes {
        let source = match &node.source {
            Source::Row(input) => format!("{input:?}"),
            Source::Scalar(scalar) => format!("{scalar:?}"),
            Source::Parameter(position) => format!("slot {}", blueprint.parameters[*position].offset),
            Source::Operator { operator, inputs, attributes } => {
                let inputs: Vec<_> = inputs.iter().map(|input| formulas[input.index()].as_str()).collect();
                format!("{}({}){attributes:?}", operator.name(), inputs.join(", "))
            }
        };
        formulas.push(format!("{source}: {:?} {}", node.data_type, node.shape));
    }
    formulas[blueprint.output().index()].clone()
}

#[test]
fn thousands_of_random_blueprints_do_not_collide() {
    let mut formulas: HashMap<[u8; 32], String> = HashMap::new();
    for seed in 0..6000 {
        let blueprint = random::blueprint(&mut Random::new(seed)).verify().unwrap();
        let formula = formula(&blueprint);
        let known = formulas.entry(blueprint.hash()).or_insert_with(|| formula.clone());
        assert_eq!(*known, formula, "seed {seed} has the hash of another blueprint");
    }
    let different: HashSet<_> = formulas.values().collect();
    assert!(different.len() >= 2000, "only {} of the blueprints differ", different.len());
}

#[test]
fn names_order_of_nodes_dead_nodes_metadata_and_initializers_do_not_count() {
    for seed in 0..1000 {
        let random = &mut Random::new(seed);
        let original = random::blueprint(random);
        let mut copy = relabelled(&original, random);
        copy.parameters.iter_mut().for_each(|parameter| parameter.initializer = Initializer::Ones);
        assert_eq!(hash(original), hash(copy), "seed {seed}");
    }
}

#[test]
fn the_order_of_operands_counts() {
    for seed in 0..1000 {
        let original = random::blueprint(&mut Random::new(seed));
        let before = hash(original.clone());
        for position in 0..original.nodes.len() {
            let mut swapped = original.clone();
            let inputs = &mut swapped.nodes[position].inputs;
            if inputs.len() == 2 && inputs[0] != inputs[1] {
                inputs.swap(0, 1);
                let (original, swapped) = (original.clone().verify().unwrap(), swapped.verify().unwrap());
                // Two operands with different names may still be the same computation twice.
                if formula(&original) != formula(&swapped) {
                    assert_ne!(before, swapped.hash(), "seed {seed}, node {position}");
                }
            }
        }
    }
    for op in ["add", "sub", "mul"] {
        let of = |a, b| hash(document(4, vec![parameter("w", &[4])], vec![node("y", op, &[a, b], &[])]));
        assert_ne!(of("x", "w"), of("w", "x"), "{op}");
    }
}

#[test]
fn attributes_count_and_defaults_are_the_same_as_spelling_them_out() {
    let of = |op, attributes: &[(&str, Attribute)]| hash(document(4, vec![], vec![node("y", op, &["x"], attributes)]));
    let (tanh, none) = (Attribute::Text("tanh".into()), Attribute::Text("none".into()));
    assert_ne!(of("gelu", &[]), of("gelu", &[("approximate", tanh)]));
    assert_eq!(of("gelu", &[]), of("gelu", &[("approximate", none)]));
    assert_ne!(of("layer_norm", &[]), of("layer_norm", &[("eps", Attribute::Float(1e-6))]));
    assert_eq!(of("layer_norm", &[]), of("layer_norm", &[("eps", Attribute::Float(1e-5))]));
    assert_ne!(of("layer_norm", &[]), of("rms_norm", &[]));
    assert_ne!(of("relu", &[]), of("tanh", &[]));
    let axis = |axis| [("axis", Attribute::Integer(axis))];
    assert_eq!(of("softmax", &axis(-1)), of("softmax", &axis(0)));

    let summed = |axes: &[i64]| {
        let (shape, axes) = (Attribute::Integers([2, 2].to_vec().into()), Attribute::Integers(axes.to_vec().into()));
        let matrix = node("m", "reshape", &["x"], &[("shape", shape)]);
        let sum = node("s", "sum", &["m"], &[("axes", axes)]);
        hash(document(4, vec![], vec![matrix, sum, node("y", "mul", &["x", "s"], &[])]))
    };
    assert_eq!(summed(&[]), summed(&[-1, 0]));
    assert_eq!(summed(&[1, 0]), summed(&[0, -1]));

    let shifted = |value| {
        let one = node("c", "constant", &[], &[("value", value)]);
        hash(document(4, vec![], vec![one, node("y", "add", &["x", "c"], &[])]))
    };
    assert_eq!(shifted(Attribute::Integer(1)), shifted(Attribute::Float(1.0)));
    assert_ne!(shifted(Attribute::Float(1.0)), shifted(Attribute::Float(1.0 + f64::EPSILON)));
}

#[test]
fn the_chunk_and_the_layout_of_a_slot_count() {
    let of = |chunk| hash(document(chunk, vec![], vec![node("y", "neg", &["x"], &[])]));
    assert_ne!(of(4), of(5));

    let both = || vec![node("h", "mul", &["x", "a"], &[]), node("y", "add", &["h", "b"], &[])];
    let straight = hash(document(4, vec![parameter("a", &[4]), parameter("b", &[4])], both()));
    let crossed = hash(document(4, vec![parameter("b", &[4]), parameter("a", &[4])], both()));
    assert_ne!(straight, crossed, "the same graph, but slots that mean something else");
    let column = hash(document(4, vec![parameter("a", &[1]), parameter("b", &[4])], both()));
    assert_ne!(straight, column);
}

#[test]
fn branches_count() {
    let shared = vec![node("h", "tanh", &["x"], &[]), node("y", "add", &["h", "h"], &[])];
    let branched =
        vec![node("h", "tanh", &["x"], &[]), node("g", "sigmoid", &["x"], &[]), node("y", "add", &["h", "g"], &[])];
    assert_ne!(hash(document(4, vec![], shared)), hash(document(4, vec![], branched)));
}

#[test]
fn the_hash_of_a_known_blueprint_never_changes() {
    let hash = library("residual", 4, &random::none()).unwrap().hash();
    assert_eq!(
        blake3::Hash::from_bytes(hash).to_hex().as_str(),
        "b989e2d64a1e3ab51f2ce1290f749bd4e4a18d835a1c726d4bd52ec703281790"
    );
}
