//! Splits long reductions with few results in two, so that all groups of a block work on them: partial results first, then
//! the results of those.

use crate::compile::{Expression, Operand, Program, Source, Step, Value, ValueId};
use crate::graph::{DataType, RowInput, Shape};

/// Reductions shorter than this are left to the thread that has the result.
const SHORTEST: usize = 32;

/// The program with its long reductions split for `groups` groups in the rows and `threads` threads outside them, and
/// with the row input that telemetry watches.
pub(super) fn arrange(program: &Program, watched: Option<RowInput>, groups: usize, threads: usize) -> Program {
    let mut arranged = program.clone();
    if let Some(input) = watched
        && !arranged.values.iter().any(|value| value.source == Source::Row(input))
    {
        let source = Source::Row(input);
        arranged.values.push(Value { elements: program.chunk, data_type: DataType::F32, per_row: true, source });
    }
    let values = &mut arranged.values;
    arranged.prologue = program.prologue.iter().flat_map(|step| split(values, step, threads)).collect();
    arranged.body = program.body.iter().flat_map(|step| split(values, step, groups)).collect();
    arranged.epilogue = program.epilogue.iter().flat_map(|step| split(values, step, threads)).collect();
    arranged
}

fn split(values: &mut Vec<Value>, step: &Step, workers: usize) -> Vec<Step> {
    let elements = step.shape.elements();
    let Some((axis, &length)) = step.reduced.0.iter().enumerate().max_by_key(|(_, size)| **size) else {
        return vec![step.clone()];
    };
    if length < SHORTEST {
        return vec![step.clone()];
    }
    let others = step.reduced.elements() / length;
    let cost = |parts: usize| {
        (elements * parts).div_ceil(workers) * (length / parts) * others
            + if parts > 1 { elements.div_ceil(workers) * parts + SHORTEST / 2 } else { 0 }
    };
    let parts =
        (1..=length).filter(|parts| length.is_multiple_of(*parts)).min_by_key(|&parts| cost(parts)).unwrap_or(1);
    if parts == 1 {
        return vec![step.clone()];
    }
    let per_row = values[step.result.index()].per_row;
    let data_type = values[step.result.index()].data_type;
    let partial = ValueId(values.len() as u32);
    values.push(Value { elements: elements * parts, data_type, per_row, source: Source::Step });

    // First [parts, shape] from the parts of the axis, then the shape from the parts.
    let rank = step.shape.rank();
    let mut first = step.clone();
    (first.result, first.offset) = (partial, 0);
    first.shape = Shape([&[parts], step.shape.0.as_slice()].concat());
    first.reduced.0[axis] = length / parts;
    for operand in &mut first.operands {
        let stride = operand.strides[rank + axis];
        operand.strides.insert(0, stride * (length / parts));
    }
    let mut strides = step.shape.strides();
    strides.push(elements);
    let second = Step {
        result: step.result,
        offset: step.offset,
        shape: step.shape.clone(),
        reduced: Shape(vec![parts]),
        reducer: step.reducer,
        operands: vec![Operand { value: partial, offset: 0, strides }],
        expression: Expression::Operand(0),
        condition: step.condition,
    };
    vec![first, second]
}
