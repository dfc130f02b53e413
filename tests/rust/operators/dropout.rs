//! Dropout: which elements it drops, that its gradient drops the same ones, and that this depends on nothing else.

use super::numbers::Numbers;
use kasmina::Status;
use kasmina::compile::random::{Draw, number};
use kasmina::compile::reference::{self, Inputs, Outputs};
use kasmina::compile::{Pass, kernel_class};
use kasmina::graph::{Blueprint, DataType};
use serde_json::{Value, json};

const ROWS: usize = 3;
const CHUNK: usize = 8;
const KEY: u64 = 0x5EED_0F0F_1234_5678;
const SEED: u32 = 5;

fn read(parameters: Value, nodes: Value) -> kasmina::Result<Blueprint> {
    let document = json!({
        "ir_version": 1, "name": "dropout", "chunk": CHUNK, "parameters": parameters, "nodes": nodes, "output": "y"});
    Blueprint::from_json(document.to_string().as_bytes())
}

fn drop(name: &str, input: &str, p: f64) -> Value {
    json!({"name": name, "op": "dropout", "inputs": [input], "attributes": {"p": p}})
}

fn call(name: &str, op: &str, inputs: [&str; 2]) -> Value {
    json!({"name": name, "op": op, "inputs": inputs})
}

/// Forward and backward at alpha 1.
fn run(blueprint: &Blueprint, x: &[f64], parameters: &[f64], random: Option<u64>) -> [Outputs; 2] {
    let output_gradient = Numbers::new(77).take(ROWS * CHUNK);
    [Pass::Forward, Pass::Backward].map(|pass| {
        let class = kernel_class(pass, DataType::F64, false, &[blueprint]).unwrap();
        let inputs = Inputs {
            rows: ROWS,
            x,
            output_gradient: &output_gradient,
            parameters,
            alpha: 1.0,
            random,
            seed: SEED,
            ..Inputs::default()
        };
        reference::run(&class.programs[0], &inputs).unwrap()
    })
}

/// What every element is multiplied by.
fn factors(stream: u16, p: f64) -> Vec<f64> {
    let draw = |row: usize, element: usize| Draw { row: row as u64, element: element as u32, seed: SEED, stream };
    let factor = |at: usize| {
        let drawn = f64::from(number(KEY, draw(at / CHUNK, at % CHUNK)));
        if drawn >= p { 1.0 / (1.0 - p) } else { 0.0 }
    };
    (0..ROWS * CHUNK).map(factor).collect()
}

fn product(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

#[test]
fn elements_are_dropped_by_their_row_element_seed_and_stream_and_so_is_their_gradient() {
    for p in [0.0, 0.25, 0.5] {
        let blueprint = read(json!([]), json!([drop("y", "x", p)])).unwrap();
        let x = Numbers::new(3).take(ROWS * CHUNK);
        let [forward, backward] = run(&blueprint, &x, &[], Some(KEY));
        assert_eq!(forward.rows, product(&x, &factors(0, p)));
        assert_eq!(backward.rows, product(&Numbers::new(77).take(ROWS * CHUNK), &factors(0, p)));
        assert!(p == 0.0 || forward.rows.contains(&0.0));
    }
}

#[test]
fn all_is_dropped_at_one_and_nothing_in_evaluation() {
    let x = Numbers::new(3).take(ROWS * CHUNK);
    let all = read(json!([]), json!([drop("y", "x", 1.0)])).unwrap();
    assert!(run(&all, &x, &[], Some(KEY))[0].rows.iter().all(|y| *y == 0.0));
    let blueprint = read(json!([]), json!([drop("y", "x", 0.5)])).unwrap();
    let [forward, backward] = run(&blueprint, &x, &[], None);
    assert_eq!((forward.rows, backward.rows), (x, Numbers::new(77).take(ROWS * CHUNK)));
}

#[test]
fn each_dropout_has_a_stream_of_its_own_by_its_place_in_the_evaluation() {
    // The output evaluates `first` before `second`, however they are listed.
    let nodes = [drop("first", "x", 0.5), drop("second", "x", 0.25)];
    let y = call("y", "sub", ["first", "second"]);
    let listed = read(json!([]), json!([nodes[0], nodes[1], y])).unwrap();
    let turned = read(json!([]), json!([nodes[1], nodes[0], y])).unwrap();
    let unused = read(json!([]), json!([drop("dead", "x", 0.5), nodes[1], nodes[0], y])).unwrap();
    assert_eq!(listed.hash(), turned.hash());
    assert_eq!(listed.hash(), unused.hash());
    let x = Numbers::new(4).take(ROWS * CHUNK);
    let found = run(&listed, &x, &[], Some(KEY));
    assert_eq!(found, run(&turned, &x, &[], Some(KEY)));
    assert_eq!(found, run(&unused, &x, &[], Some(KEY)));
    let (a, b) = (product(&x, &factors(0, 0.5)), product(&x, &factors(1, 0.25)));
    let expected: Vec<_> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    assert_eq!(found[0].rows, expected);
    // What is written back has the streams in it, and reads the same.
    let again = Blueprint::from_json(listed.to_json().unwrap().as_bytes()).unwrap();
    assert_eq!(again.hash(), listed.hash());
}

#[test]
fn a_stream_cannot_be_chosen() {
    let with_stream = |stream: i64| {
        let mut node = drop("y", "x", 0.5);
        node["attributes"]["stream"] = json!(stream);
        read(json!([]), json!([node]))
    };
    assert!(with_stream(0).is_ok());
    for stream in [1, 70_000, -2] {
        let error = with_stream(stream).unwrap_err();
        assert_eq!(error.status(), Status::InvalidBlueprint, "{error}");
        assert!(error.to_string().contains("`stream`"), "{error}");
    }
}

#[test]
fn a_parameter_is_drawn_anew_for_every_row() {
    let nodes = json!([drop("kept", "w", 0.5), call("y", "mul", ["x", "kept"])]);
    let blueprint = read(json!([{"name": "w", "shape": [CHUNK]}]), nodes).unwrap();
    let (x, w) = (Numbers::new(5).take(ROWS * CHUNK), Numbers::new(6).take(CHUNK));
    let [forward, backward] = run(&blueprint, &x, &w, Some(KEY));
    let kept = factors(0, 0.5);
    let expected: Vec<_> = (0..ROWS * CHUNK).map(|at| x[at] * (w[at % CHUNK] * kept[at])).collect();
    assert_eq!(forward.rows, expected);
    let gradient = Numbers::new(77).take(ROWS * CHUNK);
    for (channel, found) in backward.parameter_gradient.iter().enumerate() {
        let rows = (0..ROWS).map(|row| row * CHUNK + channel);
        let expected: f64 = rows.map(|at| gradient[at] * x[at] * kept[at]).sum();
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }
}

#[test]
fn as_many_elements_are_dropped_as_the_probability_says() {
    let blueprint = read(json!([]), json!([drop("y", "x", 0.3)])).unwrap();
    let class = kernel_class(Pass::Forward, DataType::F64, false, &[&blueprint]).unwrap();
    let rows = 5000;
    let x = vec![1.0; rows * CHUNK];
    let inputs = Inputs { rows, x: &x, alpha: 1.0, random: Some(9), ..Inputs::default() };
    let found = reference::run(&class.programs[0], &inputs).unwrap().rows;
    let dropped = found.iter().filter(|y| **y == 0.0).count() as f64 / x.len() as f64;
    // Five standard deviations.
    assert!((dropped - 0.3).abs() < 5.0 * (0.21 / x.len() as f64).sqrt(), "{dropped} of the elements were dropped");
}
