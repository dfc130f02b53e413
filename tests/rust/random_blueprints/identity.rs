//! The canonical hash against an identity that is found by comparing, not by hashing: ten thousand graphs, each
//! written differently, and each changed in one place.

use super::{CHOICES, Choices, blueprint, numbered};
use kasmina::graph::{Blueprint, Source};
use serde_json::{Value as Json, json};
use std::collections::HashMap;

const GRAPHS: u64 = 10_000;

/// Numbers for computations: equal numbers, equal computations. Each is known by its operator, attributes, type and
/// shape, and by the numbers of its operands.
#[derive(Default)]
struct Computations(HashMap<String, usize>);

impl Computations {
    fn number(&mut self, blueprint: &Blueprint) -> usize {
        let mut numbers: Vec<usize> = Vec::new();
        for node in &blueprint.graph.nodes {
            let source = match &node.source {
                Source::Parameter(position) => format!("slot {}", blueprint.parameters[*position].offset),
                Source::Operator { operator, inputs, attributes } => {
                    let inputs: Vec<usize> = inputs.iter().map(|input| numbers[input.index()]).collect();
                    format!("{} {inputs:?} {attributes:?}", operator.name())
                }
                other => format!("{other:?}"),
            };
            let fresh = self.0.len();
            let text = format!("{source} {:?} {}", node.data_type, node.shape);
            numbers.push(*self.0.entry(text).or_insert(fresh));
        }
        numbers[blueprint.output().index()]
    }
}

fn document(number: u64) -> Json {
    serde_json::from_str(&blueprint(&Choices::bytes(number, CHOICES))).unwrap()
}

fn read(document: &Json) -> kasmina::Result<Blueprint> {
    Blueprint::from_json(document.to_string().as_bytes())
}

#[test]
fn ten_thousand_random_graphs_do_not_collide() {
    let (mut computations, mut known) = (Computations::default(), HashMap::new());
    for number in 0..GRAPHS {
        let blueprint = numbered(number);
        let computation = computations.number(&blueprint);
        let before = *known.entry(blueprint.hash()).or_insert(computation);
        assert_eq!(before, computation, "graph {number} has the hash of another one");
    }
    assert!(known.len() > 9_500, "only {} of the graphs differ", known.len());
}

#[test]
fn however_it_is_written_a_graph_keeps_its_hash() {
    for number in 0..GRAPHS {
        assert_eq!(numbered(number).hash(), written_differently(number).hash(), "graph {number}");
    }
}

/// The graph of a number as somebody else might write it.
pub fn written_differently(number: u64) -> Blueprint {
    let mut copy = document(number);
    rewrite(&mut copy, &mut Choices::new(&Choices::bytes(number + GRAPHS, 256)));
    read(&copy).unwrap_or_else(|error| panic!("graph {number}: {error}: {copy}"))
}

/// Other names, another order, a dead node, metadata, other initializers; fields in another order come by themselves.
fn rewrite(document: &mut Json, choices: &mut Choices) {
    document["name"] = "another-name".into();
    document["metadata"] = json!({"author": "nobody"});
    let mut waiting = std::mem::take(document["nodes"].as_array_mut().unwrap());
    waiting.push(json!({"name": "dead", "op": "tanh", "inputs": ["x"]}));
    let mut nodes = Vec::new();
    while !waiting.is_empty() {
        let open: Vec<Json> = waiting.iter().map(|node| node["name"].clone()).collect();
        let ready = |node: &Json| node["inputs"].as_array().unwrap().iter().all(|input| !open.contains(input));
        let candidates: Vec<usize> = (0..waiting.len()).filter(|&at| ready(&waiting[at])).collect();
        nodes.push(waiting.remove(candidates[choices.below(candidates.len())]));
    }
    document["nodes"] = nodes.into();

    let mut names: HashMap<String, String> = HashMap::new();
    for part in ["parameters", "nodes"] {
        for entry in document[part].as_array_mut().unwrap() {
            let new = format!("v{}_{}", choices.below(256), names.len());
            names.insert(entry["name"].as_str().unwrap().into(), new.clone());
            entry["name"] = new.into();
        }
    }
    let rename = |name: &mut Json| {
        if let Some(new) = names.get(name.as_str().unwrap()) {
            *name = new.as_str().into();
        }
    };
    for parameter in document["parameters"].as_array_mut().unwrap() {
        parameter["initializer"] = "ones".into();
    }
    for node in document["nodes"].as_array_mut().unwrap() {
        node["inputs"].as_array_mut().unwrap().iter_mut().for_each(rename);
    }
    rename(&mut document["output"]);
}

#[test]
fn one_change_anywhere_is_another_hash() {
    let mut changed = 0;
    for number in 0..GRAPHS / 20 {
        let (original, mut computations) = (numbered(number), Computations::default());
        let before = computations.number(&original);
        for change in changes(&document(number)) {
            // Not every change leaves a valid graph, or changes what is computed (operands that are the same).
            let Ok(copy) = read(&change) else { continue };
            if computations.number(&copy) != before {
                assert_ne!(original.hash(), copy.hash(), "graph {number}: {change}");
                changed += 1;
            }
        }
    }
    assert!(changed > 5_000, "only {changed} changes");
}

/// The blueprint with operands swapped, an attribute or a shape changed, or another operator, in one place each.
fn changes(document: &Json) -> Vec<Json> {
    let mut changes = Vec::new();
    for (at, node) in document["nodes"].as_array().unwrap().iter().enumerate() {
        let mut change = |edit: &dyn Fn(&mut Json)| {
            let mut copy = document.clone();
            edit(&mut copy["nodes"][at]);
            changes.push(copy);
        };
        if node["inputs"].as_array().unwrap().len() >= 2 {
            change(&|node| node["inputs"].as_array_mut().unwrap().swap(0, 1));
        }
        let other = match node["op"].as_str().unwrap() {
            "tanh" => "erf",
            "add" => "sub",
            "mul" => "add",
            "sum" => "mean",
            "greater" => "equal",
            _ => "tanh",
        };
        change(&|node| node["op"] = other.into());
        for (name, value) in node["attributes"].as_object().into_iter().flatten() {
            change(&|node| node["attributes"][name] = another(value));
            change(&|node| drop(node["attributes"].as_object_mut().unwrap().remove(name)));
        }
    }
    for at in 0..document["parameters"].as_array().unwrap().len() {
        let mut copy = document.clone();
        copy["parameters"][at]["shape"].as_array_mut().unwrap().insert(0, 1.into());
        changes.push(copy);
    }
    changes
}

fn another(value: &Json) -> Json {
    match value {
        Json::Bool(truth) => (!truth).into(),
        Json::Number(number) => (number.as_f64().unwrap() + 0.5).into(),
        Json::Array(numbers) => numbers.iter().rev().cloned().collect(),
        Json::String(text) if text == "tanh" => "none".into(),
        Json::String(text) if text == "none" => "tanh".into(),
        Json::String(text) => text.chars().rev().collect::<String>().into(),
        other => other.clone(),
    }
}
