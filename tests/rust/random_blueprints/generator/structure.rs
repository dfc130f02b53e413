//! Calls that combine, move or repeat elements along axes.

use super::elementwise::product;
use super::growth::{Growth, Value};
use serde_json::{Map, Value as Json, json};

/// Products that one contraction takes, at most.
const PRODUCTS: usize = 40_000;

pub fn linear(growth: &mut Growth) -> Option<Value> {
    let a = growth.value(|value| value.is_number() && !value.shape.is_empty())?;
    let ins = a.shape[a.shape.len() - 1];
    let outs = growth.choices.pick(&[growth.chunk, 1, 2, 3, 5, 8, 16, 19]);
    let mut shape = a.shape.clone();
    *shape.last_mut()? = outs;
    if a.elements() * outs > PRODUCTS || !growth.has_room(shape.iter().product()) {
        return None;
    }
    let bound = 1.0 / (ins as f64).sqrt();
    let weight = growth.parameter(&[outs, ins], -bound, bound);
    // Far beyond where a sum of so many random signs comes.
    let mut largest = 3.0 * a.largest();
    if growth.choices.once_in(2) {
        let bias = growth.parameter(&[outs], -0.5, 0.5);
        largest += 0.5;
        return Some(growth.call("linear", &[&a, &weight, &bias], Json::Null, &shape, -largest, largest));
    }
    Some(growth.call("linear", &[&a, &weight], Json::Null, &shape, -largest, largest))
}

/// A contraction over any of the axes: letters of the first value, some of them shared with a second one.
pub fn einsum(growth: &mut Growth) -> Option<Value> {
    let a = growth.value(|value| value.is_number() && value.shape.len() <= 4)?;
    let letters: Vec<(char, usize)> = ('a'..).zip(a.shape.iter().copied()).collect();
    let mut second: Vec<(char, usize)> = letters.iter().copied().filter(|_| growth.choices.below(3) != 2).collect();
    if growth.choices.once_in(2) {
        second.push(('m', growth.choices.pick(&[2, 1, 3, 7])));
    }
    if growth.choices.once_in(2) {
        second.reverse();
    }
    let mut all = letters.clone();
    all.extend(second.iter().filter(|letter| !letters.contains(letter)));
    let mut output: Vec<(char, usize)> = all.iter().copied().filter(|_| growth.choices.below(2) == 0).collect();
    if growth.choices.once_in(2) {
        output.reverse();
    }
    let sizes = |letters: &[(char, usize)]| letters.iter().map(|letter| letter.1).collect::<Vec<usize>>();
    let products: usize = sizes(&all).iter().product();
    let (shape, second_shape) = (sizes(&output), sizes(&second));
    if products > PRODUCTS || !growth.has_room(second_shape.iter().product()) {
        return None;
    }
    let summed = products / shape.iter().product::<usize>();
    let same = growth.value(|value| value.is_number() && value.shape == second_shape);
    let b = match same {
        Some(b) if growth.choices.once_in(2) => b,
        _ => growth.parameter(&second_shape, -1.0, 1.0),
    };
    let text = |letters: &[(char, usize)]| letters.iter().map(|letter| letter.0).collect::<String>();
    let equation = format!("{},{}->{}", text(&letters), text(&second), text(&output));
    let (low, high) = product(&a, &b);
    let (low, high) = (low * summed as f64, high * summed as f64);
    Some(growth.call("einsum", &[&a, &b], json!({"equation": equation}), &shape, low, high))
}

/// Over some axes, counted from either end, kept or not.
pub fn reduction(growth: &mut Growth, name: &str) -> Option<Value> {
    let a = growth.value(|value| value.is_number() && !value.shape.is_empty())?;
    if matches!(name, "max" | "min") && !growth.take_kink() {
        return None;
    }
    let rank = a.shape.len();
    let chosen: Vec<usize> = (0..rank).filter(|_| growth.choices.below(2) == 1).collect();
    let from_end = growth.choices.once_in(3);
    let count = |axis: &usize| if from_end { *axis as i64 - rank as i64 } else { *axis as i64 };
    let mut attributes = Map::new();
    if !chosen.is_empty() || growth.choices.once_in(3) {
        attributes.insert("axes".into(), chosen.iter().map(count).collect());
    }
    let keep = growth.choices.once_in(2);
    if keep {
        attributes.insert("keep".into(), true.into());
    }
    let reduced = |axis: &usize| chosen.is_empty() || chosen.contains(axis);
    let summed: usize = (0..rank).filter(reduced).map(|axis| a.shape[axis]).product();
    let shape: Vec<usize> = (0..rank)
        .filter(|axis| keep || !reduced(axis))
        .map(|axis| if reduced(&axis) { 1 } else { a.shape[axis] })
        .collect();
    let times = if name == "sum" { summed as f64 } else { 1.0 };
    Some(growth.call(name, &[&a], attributes.into(), &shape, a.low * times, a.high * times))
}

pub fn softmax(growth: &mut Growth) -> Option<Value> {
    let a = growth.value(|value| value.is_number() && !value.shape.is_empty())?;
    let axis = growth.choices.below(a.shape.len()) as i64;
    let rank = a.shape.len() as i64;
    let attributes = growth.choices.pick(&[Json::Null, json!({"axis": axis}), json!({"axis": axis - rank})]);
    Some(growth.call("softmax", &[&a], attributes, &a.shape, 0.0, 1.0))
}

/// With and without weight and bias. Only x and parameters, whose elements differ, are normalised with a tiny `eps`.
pub fn normalisation(growth: &mut Growth, name: &str) -> Option<Value> {
    let a = growth.value(|value| value.is_number() && !value.shape.is_empty())?;
    let last = a.shape[a.shape.len() - 1];
    let varied = a.exact && a.shape.len() == 1 && last >= 4 && a.low < a.high;
    let attributes = match growth.choices.below(3) {
        0 if varied => Json::Null,
        1 => json!({"eps": 0.25}),
        _ => json!({"eps": 0.0625}),
    };
    let operands = if name == "layer_norm" { 3 } else { 2 };
    let wanted = 1 + growth.choices.below(operands);
    let mut inputs = vec![a.clone()];
    let mut largest = (last as f64).sqrt().min(a.largest() / 0.25).max(1.0);
    if wanted > 1 {
        inputs.push(growth.parameter(&[last], 0.5, 1.5));
        largest *= 1.5;
    }
    if wanted > 2 {
        inputs.push(growth.parameter(&[last], -0.5, 0.5));
        largest += 0.5;
    }
    let inputs: Vec<&Value> = inputs.iter().collect();
    Some(growth.call(name, &inputs, attributes, &a.shape, -largest, largest))
}

pub fn reshape(growth: &mut Growth) -> Option<Value> {
    let a = growth.value(|_| true)?;
    let mut rest = a.elements();
    let mut shape = Vec::new();
    for _ in 0..growth.choices.below(4) {
        let factors: Vec<usize> =
            [2, 3, 4, 5, 8, 1].into_iter().filter(|&factor| rest.is_multiple_of(factor)).collect();
        let factor = growth.choices.pick(&factors);
        shape.push(factor);
        rest /= factor;
    }
    let at = growth.choices.below(shape.len() + 1);
    if rest > 1 || shape.is_empty() {
        shape.insert(at, rest);
    }
    Some(moved(growth, "reshape", &a, json!({"shape": shape}), &shape))
}

pub fn permute(growth: &mut Growth) -> Option<Value> {
    let a = growth.value(|value| value.shape.len() >= 2).or_else(|| growth.value(|value| !value.shape.is_empty()))?;
    let mut left: Vec<usize> = (0..a.shape.len()).rev().collect();
    let mut axes = Vec::new();
    while !left.is_empty() {
        axes.push(left.remove(growth.choices.below(left.len())));
    }
    let shape: Vec<usize> = axes.iter().map(|&axis| a.shape[axis]).collect();
    Some(moved(growth, "permute", &a, json!({"axes": axes}), &shape))
}

pub fn broadcast(growth: &mut Growth) -> Option<Value> {
    let a = growth.value(|value| value.shape.len() <= 4)?;
    let mut shape = a.shape.clone();
    shape.iter_mut().filter(|size| **size == 1).for_each(|size| *size = growth.choices.pick(&[2, 3, 5, 1]));
    if growth.choices.once_in(2) {
        shape.insert(0, growth.choices.pick(&[2, 1, 3]));
    }
    growth.has_room(shape.iter().product()).then(|| moved(growth, "broadcast", &a, json!({"shape": shape}), &shape))
}

/// A call that only moves elements: of any kind, and as exact as they were.
pub fn moved(growth: &mut Growth, name: &str, a: &Value, attributes: Json, shape: &[usize]) -> Value {
    let value = growth.node(name, &[a], attributes, shape, a.kind, a.low, a.high);
    growth.mark_exact(a.exact);
    Value { exact: a.exact, ..value }
}
