//! One step: its expression at every index, along the last axis all at once.

use super::elements::Elements;
use crate::compile::{Expression, Operand, Program, Step, ValueId};
use crate::graph::DataType;

/// Runs a step of the prologue, the body or the epilogue.
pub(super) fn execute(program: &Program, step: &Step, values: &mut [Elements<'_>]) {
    let mut result = std::mem::take(&mut values[step.result.index()]);
    let holds = |value: ValueId| values[value.index()].numbers()[0] != 0.0;
    if step.condition.is_none_or(|condition| holds(condition.value) == condition.holds) {
        compute(program, step, values, |at, elements| result.set(at, elements));
    } else {
        result.forget(step.offset, step.shape.elements());
    }
    values[step.result.index()] = result;
}

/// Runs a step of the accumulate phase: what it computes is added to what is there.
pub(super) fn accumulate(program: &Program, step: &Step, values: &mut [Elements<'_>]) {
    let mut sum = std::mem::take(&mut values[step.result.index()]);
    compute(program, step, values, |at, elements| sum.add(at, elements));
    values[step.result.index()] = sum;
}

/// The step's expression at every index of its shape, combined over every index of the reduced shape; and where in the
/// result that belongs.
fn compute(program: &Program, step: &Step, values: &[Elements<'_>], mut write: impl FnMut(usize, Elements<'_>)) {
    let data_type = |operand: usize| program.values[step.operands[operand].value.index()].data_type;
    let combined_type = step.expression.data_type(&data_type);
    let sizes = [step.shape.0.as_slice(), &step.reduced.0].concat();
    let (&count, outer) = sizes.split_last().unwrap_or((&1, &[]));
    let rank = step.shape.rank().min(outer.len());
    let mut index = vec![0; outer.len()];
    let run = |index: &[usize]| {
        let read = |operand: usize| {
            let operand = &step.operands[operand];
            let stride = operand.strides.last().copied().unwrap_or(1);
            values[operand.value.index()].part(operand.position(index), stride, count)
        };
        evaluate(&step.expression, &read, &data_type, count)
    };
    let (mut at, combines) = (step.offset, step.reduced.rank() > 0);
    loop {
        let mut new = run(&index);
        if combines {
            new = new.combine(step.reducer, combined_type, None);
            while advance(&mut index[rank..], &outer[rank..]) {
                new = run(&index).combine(step.reducer, combined_type, Some(new));
            }
        }
        write(at, new);
        at += if combines { 1 } else { count };
        if !advance(&mut index[..rank], &outer[..rank]) {
            break;
        }
    }
}

/// The value of an expression for `count` indices.
fn evaluate<'a>(
    expression: &Expression,
    operand: &impl Fn(usize) -> Elements<'a>,
    data_type: &impl Fn(usize) -> DataType,
    count: usize,
) -> Elements<'a> {
    let value = |expression: &Expression| evaluate(expression, operand, data_type, count);
    match expression {
        Expression::Operand(position) => operand(*position),
        Expression::Constant(number) => Elements::repeated(*number, count),
        Expression::Unary(function, of) => value(of).map(*function, of.data_type(data_type)),
        Expression::Binary(function, a, b) => value(a).zip(*function, a.data_type(data_type), value(b)),
        Expression::Select(condition, a, b) => value(condition).choose(value(a), value(b)),
        Expression::Cast(to, of) => value(of).cast(*to),
    }
}

impl Operand {
    /// The element that is read at an index, of which the last axes may be left out.
    fn position(&self, index: &[usize]) -> usize {
        self.offset + index.iter().zip(&self.strides).map(|(index, stride)| index * stride).sum::<usize>()
    }
}

/// The next index, the last axis fastest; false after the last one, then all are 0 again.
fn advance(index: &mut [usize], sizes: &[usize]) -> bool {
    for (index, &size) in index.iter_mut().zip(sizes).rev() {
        *index += 1;
        if *index < size {
            return true;
        }
        *index = 0;
    }
    false
}
