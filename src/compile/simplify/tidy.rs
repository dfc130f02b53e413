//! One form for steps that compute the same: no axes of size 1, no two axes that are walked as one, no operand twice.

use crate::compile::{Expression, Reducer, Step};
use crate::graph::Shape;

/// Brings a step into that form.
pub(super) fn tidy(step: &mut Step) {
    merge_operands(step);
    let rank = step.shape.rank();
    let mut strides: Vec<Vec<usize>> = step.operands.iter().map(|operand| operand.strides[..rank].to_vec()).collect();
    let mut reduced: Vec<Vec<usize>> = step.operands.iter().map(|operand| operand.strides[rank..].to_vec()).collect();
    merge_axes(&mut step.shape, &mut strides);
    merge_axes(&mut step.reduced, &mut reduced);
    if step.reduced.rank() == 0 {
        step.reducer = Reducer::Sum;
    }
    for ((operand, strides), reduced) in step.operands.iter_mut().zip(strides).zip(reduced) {
        operand.strides = strides;
        operand.strides.extend(reduced);
    }
}

/// Drops operands that are not read, and lets equal ones be one.
fn merge_operands(step: &mut Step) {
    let mut kept = Vec::new();
    let mut position = vec![0; step.operands.len()];
    for (old, operand) in step.operands.iter().enumerate() {
        if step.expression.reads(old) > 0 {
            position[old] = kept.iter().position(|other| other == operand).unwrap_or(kept.len());
            if position[old] == kept.len() {
                kept.push(operand.clone());
            }
        }
    }
    step.expression.replace_operands(&|old| Expression::Operand(position[old]));
    step.operands = kept;
}

/// Drops axes of size 1 and joins neighbours where every operand's stride walks on from one to the next.
fn merge_axes(shape: &mut Shape, strides: &mut [Vec<usize>]) {
    // From the last axis on, so that what an axis may be joined with is settled before it.
    for axis in (0..shape.rank()).rev() {
        let size = shape.0[axis];
        let joins_next = axis + 1 < shape.rank()
            && strides.iter().all(|strides| strides[axis] == strides[axis + 1] * shape.0[axis + 1]);
        if size == 1 || joins_next {
            shape.0.remove(axis);
            for strides in strides.iter_mut() {
                strides.remove(axis);
            }
            if size != 1 {
                shape.0[axis] *= size;
            }
        }
    }
}
