//! Calls that cut elements out, put them together and count them.

use super::growth::{Growth, Kind, Value};
use super::structure::moved;
use serde_json::{Value as Json, json};

/// A value with an axis of at least this many elements, that axis, and how it is written.
fn with_axis(growth: &mut Growth, least: usize) -> Option<(Value, usize, Json)> {
    let a = growth.value(|value| value.is_number() && value.shape.iter().any(|&size| size >= least))?;
    let axes: Vec<usize> = (0..a.shape.len()).filter(|&axis| a.shape[axis] >= least).collect();
    let axis = growth.choices.pick(&axes);
    let from_end = axis as i64 - a.shape.len() as i64;
    let written = if growth.choices.once_in(2) { json!(from_end) } else { json!(axis) };
    Some((a, axis, written))
}

pub fn slice(growth: &mut Growth) -> Option<Value> {
    let (a, axis, written) = with_axis(growth, 2)?;
    let size = a.shape[axis];
    let start = growth.choices.below(size.min(256));
    let stop = start + 1 + growth.choices.below((size - start).min(256));
    let step = growth.choices.pick(&[1, 2, 3]);
    let mut shape = a.shape.clone();
    shape[axis] = (stop - start).div_ceil(step);
    let start = if growth.choices.once_in(3) { start as i64 - size as i64 } else { start as i64 };
    let attributes = json!({"axis": written, "start": start, "stop": stop, "step": step});
    Some(moved(growth, "slice", &a, attributes, &shape))
}

pub fn split(growth: &mut Growth) -> Option<Value> {
    let (a, axis, written) = with_axis(growth, 1)?;
    let parts: Vec<usize> = [2, 3, 4, 1].into_iter().filter(|&parts| a.shape[axis].is_multiple_of(parts)).collect();
    let parts = growth.choices.pick(&parts);
    let index = growth.choices.below(parts);
    let mut shape = a.shape.clone();
    shape[axis] /= parts;
    Some(moved(growth, "split", &a, json!({"axis": written, "parts": parts, "index": index}), &shape))
}

pub fn concat(growth: &mut Growth) -> Option<Value> {
    let (a, axis, written) = with_axis(growth, 1)?;
    let mut parts = vec![a.clone()];
    for _ in 0..1 + growth.choices.below(3) {
        let mut shape = a.shape.clone();
        shape[axis] = growth.choices.pick(&[1, 2, 3]);
        let fits = |b: &Value| {
            let same = |at: usize| at == axis || b.shape[at] == a.shape[at];
            b.is_number() && b.shape.len() == a.shape.len() && (0..b.shape.len()).all(same)
        };
        let known = if growth.choices.once_in(2) { growth.value(fits) } else { None };
        parts.push(match known {
            Some(known) => known,
            None => growth.parameter(&shape, -1.0, 1.0),
        });
    }
    let mut shape = a.shape.clone();
    shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
    if !growth.has_room(shape.iter().product()) {
        return None;
    }
    let low = parts.iter().fold(f64::INFINITY, |low, part| low.min(part.low));
    let high = parts.iter().fold(f64::NEG_INFINITY, |high, part| high.max(part.high));
    let parts: Vec<&Value> = parts.iter().collect();
    Some(growth.call("concat", &parts, json!({"axis": written}), &shape, low, high))
}

pub fn pad(growth: &mut Growth) -> Option<Value> {
    let (a, axis, written) = with_axis(growth, 1)?;
    let sides = [growth.choices.below(3), growth.choices.below(4)];
    let value = growth.choices.pick(&[0.0, 0.5, -1.25]);
    let mut shape = a.shape.clone();
    shape[axis] += sides[0] + sides[1];
    if !growth.has_room(shape.iter().product()) {
        return None;
    }
    let attributes = json!({"axis": written, "before": sides[0], "behind": sides[1], "value": value});
    Some(growth.call("pad", &[&a], attributes, &shape, a.low.min(value), a.high.max(value)))
}

pub fn unfold(growth: &mut Growth) -> Option<Value> {
    let (a, axis, written) = with_axis(growth, 1)?;
    let (size, dilation) = (growth.choices.pick(&[1, 2, 3, 5]), growth.choices.pick(&[1, 2]));
    let count = a.shape[axis].checked_sub((size - 1) * dilation).filter(|&count| count > 0)?;
    let mut shape = a.shape.clone();
    shape[axis] = count;
    shape.push(size);
    if shape.len() > 5 || !growth.has_room(shape.iter().product()) || dilation > a.shape[axis] {
        return None;
    }
    Some(moved(growth, "unfold", &a, json!({"axis": written, "size": size, "dilation": dilation}), &shape))
}

/// Truth values as numbers, and numbers as what they are: other types round, which has no gradient to compare.
pub fn cast(growth: &mut Growth) -> Option<Value> {
    match growth.value(|value| value.kind == Kind::Truth) {
        Some(truth) => Some(growth.call("cast", &[&truth], json!({"type": "f32"}), &truth.shape, 0.0, 1.0)),
        None => {
            let a = growth.number()?;
            Some(moved(growth, "cast", &a, json!({"type": "f32"}), &a.shape))
        }
    }
}

/// Numbers that count the elements of an axis, times a value.
pub fn index(growth: &mut Growth) -> Option<Value> {
    let a = growth.value(|value| value.is_number() && value.shape.last().is_some_and(|&last| last <= 100))?;
    let count = *a.shape.last()?;
    let most = (count - 1) as f64;
    let index = growth.node("index", &[], json!({"count": count}), &[count], Kind::Number, 0.0, most);
    let (low, high) = (a.low.min(0.0) * most, a.high.max(0.0) * most);
    Some(growth.call("mul", &[&a, &index], Json::Null, &a.shape, low, high))
}

/// The largest of values that no rounding puts into another order.
pub fn top_k(growth: &mut Growth) -> Option<Value> {
    if !growth.take_kink() {
        return None;
    }
    let few = |value: &Value| value.is_number() && value.exact && value.shape.len() == 1 && value.shape[0] <= 32;
    let a = growth.value(few)?;
    let k = 1 + growth.choices.below(a.shape[0]);
    if growth.choices.once_in(2) {
        let attributes = json!({"k": k, "output": "mask"});
        return Some(growth.node("top_k", &[&a], attributes, &a.shape, Kind::Truth, 0.0, 1.0));
    }
    Some(growth.call("top_k", &[&a], json!({"k": k}), &[k], a.low, a.high))
}
