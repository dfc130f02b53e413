//! Calls of operators that are made of others.

use super::growth::{Growth, Value};
use serde_json::{Value as Json, json};

/// Products that one contraction takes, at most.
const PRODUCTS: usize = 40_000;

/// A value with a parameter: matrices, batches, rows and columns.
pub fn matmul(growth: &mut Growth) -> Option<Value> {
    let a = growth.value(|value| value.is_number() && !value.shape.is_empty())?;
    let rank = a.shape.len();
    let inner = a.shape[rank - 1];
    let bound = 1.0 / (inner as f64).sqrt();
    let mut shape = a.shape[..rank - 1].to_vec();
    let mut second = vec![inner];
    if growth.choices.below(4) < 3 {
        let columns = growth.choices.pick(&[2, 1, 3, 8]);
        shape.push(columns);
        second.push(columns);
        if rank < 4 && growth.choices.once_in(3) {
            shape.insert(0, 2);
            second.insert(0, 2);
            if rank == 1 {
                // A row times two matrices: no row in the result.
                shape = vec![2, columns];
            } else if rank == 3 {
                // The batch of a meets the batch of two.
                second.insert(1, 1);
            }
        }
    }
    let products = shape.iter().product::<usize>() * inner;
    if products > PRODUCTS || !growth.has_room(shape.iter().product()) {
        return None;
    }
    let weight = growth.parameter(&second, -bound, bound);
    let largest = 3.0 * a.largest();
    Some(growth.call("matmul", &[&a, &weight], Json::Null, &shape, -largest, largest))
}

pub fn low_rank_linear(growth: &mut Growth) -> Option<Value> {
    let a = growth.value(|value| value.is_number() && !value.shape.is_empty())?;
    let ins = *a.shape.last()?;
    let (rank, outs) = (growth.choices.pick(&[2, 1, 3]), growth.choices.pick(&[growth.chunk, 1, 4, 7]));
    let mut shape = a.shape.clone();
    *shape.last_mut()? = outs;
    if a.elements() * rank * outs > PRODUCTS || !growth.has_room(shape.iter().product()) {
        return None;
    }
    let (of_ins, of_rank) = (1.0 / (ins as f64).sqrt(), 1.0 / (rank as f64).sqrt());
    let mut inputs = vec![a.clone(), growth.parameter(&[rank, ins], -of_ins, of_ins)];
    inputs.push(growth.parameter(&[outs, rank], -of_rank, of_rank));
    let mut largest = 5.0 * a.largest();
    if growth.choices.once_in(2) {
        inputs.push(growth.parameter(&[outs], -0.5, 0.5));
        largest += 0.5;
    }
    let inputs: Vec<&Value> = inputs.iter().collect();
    Some(growth.call("low_rank_linear", &inputs, Json::Null, &shape, -largest, largest))
}

pub fn conv1d(growth: &mut Growth) -> Option<Value> {
    let a = growth.value(|value| value.is_number() && !value.shape.is_empty())?;
    let (taps, dilation) = (growth.choices.pick(&[3, 1, 2, 4]), growth.choices.pick(&[1, 2]));
    let padding = growth.choices.pick(&["causal", "same", "valid"]);
    let length = *a.shape.last()?;
    let found =
        if padding == "valid" { length.checked_sub((taps - 1) * dilation).filter(|&left| left > 0)? } else { length };
    let mut shape = a.shape.clone();
    *shape.last_mut()? = found;
    let channels = a.shape.len() == 2 && growth.choices.once_in(2);
    let (weight, bias, summed) = match channels {
        true => {
            shape[0] = growth.choices.pick(&[2, 1, 3]);
            (vec![shape[0], a.shape[0], taps], vec![shape[0]], a.shape[0] * taps)
        }
        false => (vec![taps], vec![], taps),
    };
    let products = shape.iter().product::<usize>() * summed;
    if dilation > length || products > PRODUCTS || !growth.has_room(shape.iter().product()) {
        return None;
    }
    let bound = 1.0 / (summed as f64).sqrt();
    let mut inputs = vec![a.clone(), growth.parameter(&weight, -bound, bound)];
    let mut largest = 3.0 * a.largest();
    if growth.choices.once_in(2) {
        inputs.push(growth.parameter(&bias, -0.5, 0.5));
        largest += 0.5;
    }
    let inputs: Vec<&Value> = inputs.iter().collect();
    let attributes = json!({"padding": padding, "dilation": dilation});
    Some(growth.call("conv1d", &inputs, attributes, &shape, -largest, largest))
}

pub fn group_norm(growth: &mut Growth) -> Option<Value> {
    let a = growth.value(|value| value.is_number() && !value.shape.is_empty())?;
    let channels = a.shape[0];
    let groups: Vec<usize> = [1, 2, 3, 4].into_iter().filter(|&groups| channels.is_multiple_of(groups)).collect();
    let groups = growth.choices.pick(&groups);
    let mut inputs = vec![a.clone()];
    let mut largest = ((a.elements() / groups) as f64).sqrt().min(a.largest() / 0.25).max(1.0);
    let wanted = growth.choices.below(3);
    if wanted > 0 {
        inputs.push(growth.parameter(&[channels], 0.5, 1.5));
        largest *= 1.5;
    }
    if wanted > 1 {
        inputs.push(growth.parameter(&[channels], -0.5, 0.5));
        largest += 0.5;
    }
    let inputs: Vec<&Value> = inputs.iter().collect();
    Some(growth.call("group_norm", &inputs, json!({"groups": groups, "eps": 0.25}), &a.shape, -largest, largest))
}

pub fn glu(growth: &mut Growth) -> Option<Value> {
    let a = growth.value(|value| value.is_number() && value.shape.last().is_some_and(|last| last.is_multiple_of(2)))?;
    let activation = growth.choices.pick(&["sigmoid", "gelu", "silu", "identity"]);
    let mut shape = a.shape.clone();
    *shape.last_mut()? /= 2;
    let largest = a.largest() * a.largest().max(1.0);
    Some(growth.call("glu", &[&a], json!({"activation": activation}), &shape, -largest, largest))
}

pub fn rope(growth: &mut Growth) -> Option<Value> {
    let fits = |value: &Value| match value.shape.as_slice() {
        [.., _, last] => value.is_number() && last.is_multiple_of(2),
        _ => false,
    };
    let a = match growth.value(fits) {
        Some(a) => a,
        None => growth.parameter(&[3, 2], -1.0, 1.0),
    };
    let (base, offset) = (growth.choices.pick(&[10000.0, 10.0]), growth.choices.pick(&[0.0, 3.0]));
    let attributes = json!({"base": base, "offset": offset, "interleaved": growth.choices.once_in(2)});
    let largest = 1.5 * a.largest();
    Some(growth.call("rope", &[&a], attributes, &a.shape, -largest, largest))
}

pub fn dropout(growth: &mut Growth) -> Option<Value> {
    let a = growth.number()?;
    let p = growth.choices.pick(&[0.5, 0.25, 0.0]);
    let largest = 2.0 * a.largest();
    Some(growth.call("dropout", &[&a], json!({"p": p}), &a.shape, -largest, largest))
}
