//! Bytes that want to do harm: each is refused, with the words of `tests/data/hostile/expected.txt`.

use kasmina::graph::{Blueprint, Limits};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Every file of the corpus.
pub fn corpus() -> BTreeMap<String, Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
    files
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .map(|it| (name(&it), std::fs::read(it).unwrap()))
        .collect()
}

#[track_caller]
fn refused(name: &str, bytes: &[u8], fragment: &str) {
    let started = Instant::now();
    let error = Blueprint::from_json(bytes).expect_err(name).to_string();
    assert!(error.contains(fragment), "{name}: `{error}` does not say `{fragment}`");
    assert!(error.len() < 2000, "{name}: the message has {} letters", error.len());
    assert!(started.elapsed() < Duration::from_secs(5), "{name} took {:?}", started.elapsed());
}

#[test]
fn hostile_bytes_are_refused_with_the_reason() {
    let mut corpus = corpus();
    let expected = include_str!("../../data/hostile/expected.txt");
    for line in expected.lines().filter(|line| !line.starts_with('#')) {
        let (name, fragment) = line.split_once(": ").unwrap();
        let bytes = corpus.remove(name).unwrap_or_else(|| panic!("there is no {name}"));
        refused(name, &bytes, fragment);
    }
    assert!(corpus.is_empty(), "nothing is expected of {:?}", corpus.keys());
}

/// What is too large to keep in the repository.
#[test]
fn huge_inputs_are_refused_at_once() {
    let megabytes = |text: &str| text.repeat((20 << 20) / text.len());
    let limit = Limits::DEFAULT.bytes;
    for (name, bytes) in
        [("20 MB of [", megabytes("[")), ("20 MB of blanks", megabytes(" ")), ("20 MB of a", megabytes("a"))]
    {
        refused(name, bytes.as_bytes(), &format!("at most {limit} are allowed"));
    }
    refused("a megabyte of nesting", "{\"a\":".repeat(1 << 18).as_bytes(), "EOF");
    let digits = format!("{{\"ir_version\": {}}}", "9".repeat(1 << 19));
    refused("half a million digits", digits.as_bytes(), "out of range");
}

/// Loops that are as large and as deep as they may be.
#[test]
fn control_flow_at_every_limit_is_taken() {
    let limits = Limits::DEFAULT;
    let read = |nodes: Value| {
        let document = json!({"ir_version": 1, "name": "large", "chunk": 4, "nodes": nodes, "output": "y"});
        Blueprint::from_json(document.to_string().as_bytes())
    };
    let turns = |count: usize, nodes: Value, output: &str| {
        json!({"name": "y", "op": "loop", "inputs": ["x"], "count": count,
        "body": {"input": "h", "nodes": nodes, "output": output}})
    };
    // A chain as long as may be, and as many nodes.
    let negated = json!([{"name": "g", "op": "neg", "inputs": ["h"]}]);
    let longest = read(json!([turns(limits.depth, negated, "g")])).unwrap();
    assert_eq!(longest.graph.nodes.len(), 1 + limits.depth);
    let call = |name: &str, op: &str, inputs: &[&str]| json!({"name": name, "op": op, "inputs": inputs});
    let flat = json!([
        call("a", "neg", &["x"]),
        call("b", "tanh", &["x"]),
        call("c", "abs", &["x"]),
        call("d", "exp", &["x"]),
        call("e", "sin", &["x"]),
        call("f", "cos", &["x"]),
        call("i", "relu", &["x"]),
        call("g", "add", &["h", "x"])
    ]);
    let largest = read(json!([turns(limits.nodes / 8, flat, "g")])).unwrap();
    assert_eq!(largest.graph.nodes.len(), 1 + limits.nodes);
    // Nests as deep as may be.
    let mut node = json!({});
    for level in (0..limits.nesting).rev() {
        let (name, input, own) = (format!("n{level}"), format!("h{level}"), format!("h{}", level + 1));
        let inner = if node == json!({}) { call("g", "neg", &[&own]) } else { node };
        let output = inner["name"].clone();
        let (name, input) = if level == 0 { ("y", "x") } else { (name.as_str(), input.as_str()) };
        node = json!({"name": name, "op": "loop", "inputs": [input], "count": 2,
            "body": {"input": own, "nodes": [inner], "output": output}});
    }
    assert_eq!(read(json!([node])).unwrap().graph.nodes.len(), 1 + (1 << limits.nesting));
}
