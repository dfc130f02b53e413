//! What each step of a program is in fragments: an element-wise map, a reduction, a contraction, a sum over rows of one of the known
//! kinds, or something else, which scratch memory is for. Knows nothing of registers and prints nothing.

use super::Fragments;
use super::weight::Weight;
use crate::compile::codegen::cuda::loops::{Axis, merge};
use crate::compile::codegen::cuda::memory::is_single;
use crate::compile::{Binary, Expression, Operand, Program, Reducer, Source, Step, Value};
use crate::graph::DataType;

/// A step of the body.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::compile::codegen::cuda) enum Form {
    /// Of each element, from the same element of others.
    Map,
    /// One number of each row, combined over so many elements.
    Reduction(usize),
    /// A product with the weights of this position, or with rows and columns of them exchanged; the operand is the value of
    /// each row.
    Contraction { operand: usize, weights: usize, exchanged: bool },
    /// Anything else, in scratch memory.
    Scratch,
}

impl Form {
    /// Whether it reads and writes scratch memory.
    pub fn is_in_scratch(&self) -> bool {
        matches!(self, Form::Scratch)
    }
}

/// An accumulate step.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::compile::codegen::cuda) enum Sum {
    /// One number, from so many elements of each row.
    Single(usize),
    /// As many as a value has elements.
    Elements,
    /// The products of all elements of one value with all of another: the operands' positions.
    Products {
        left: usize,
        right: usize,
    },
    /// The same for which there are no registers: what a tile has is added to the gradient.
    ElementsAtOnce,
    ProductsAtOnce {
        left: usize,
        right: usize,
    },
    /// Anything else, of what lies in scratch memory; added up there as well, if it is more than one number.
    Scratch,
}

impl Sum {
    /// Whether it reads scratch memory.
    pub fn is_in_scratch(&self) -> bool {
        matches!(self, Sum::Scratch)
    }

    /// Whether it is added to the gradient tile by tile.
    pub fn is_at_once(&self) -> bool {
        matches!(self, Sum::ElementsAtOnce | Sum::ProductsAtOnce { .. })
    }
}

impl Fragments {
    pub(super) fn form(&mut self, program: &Program, step: &Step, data_type: DataType) -> Option<Form> {
        if !step.writes_all(program.values[step.result.index()].elements) || !reads_fragments(program, step) {
            return None;
        }
        let (outer, reduced) = axes(step);
        match (outer.as_slice(), reduced.as_slice()) {
            ([] | [_], []) => reads_in_place(program, step, outer.first()).then_some(Form::Map),
            ([], [axis]) if axis.size.is_multiple_of(8) => {
                reads_in_place(program, step, Some(axis)).then_some(Form::Reduction(axis.size))
            }
            ([outer], [inner]) => self.contraction(program, step, outer, inner, data_type),
            _ => None,
        }
    }

    fn contraction(
        &mut self,
        program: &Program,
        step: &Step,
        outer: &Axis,
        inner: &Axis,
        data_type: DataType,
    ) -> Option<Form> {
        let (first, second) = factors(&step.expression)?;
        if step.reducer != Reducer::Sum || !inner.size.is_multiple_of(8) {
            return None;
        }
        let (operand, other) =
            if is_fragment(program, &step.operands[first]) { (first, second) } else { (second, first) };
        let (row, factor) = (&step.operands[operand], &step.operands[other]);
        let fits = is_fragment(program, row)
            && (row.offset, outer.strides[operand], inner.strides[operand]) == (0, 0, 1)
            && program.values[row.value.index()].elements == inner.size
            && !program.values[factor.value.index()].per_row;
        if !fits {
            return None;
        }
        let weight = Weight {
            value: factor.value,
            offset: factor.offset,
            inner: inner.size,
            inner_stride: inner.strides[other],
            outer: outer.size,
            outer_stride: outer.strides[other],
            start: 0,
        };
        let position = |wanted: &Weight| self.weights.iter().position(|known| known == wanted);
        // Matrices of 16 bits are turned on their way to the tensor cores, if need be.
        let can_turn = data_type.bytes() == 2;
        let exchanged = can_turn.then(|| position(&weight.exchanged())).flatten();
        let weights = position(&weight).or(exchanged).unwrap_or(self.weights.len());
        let exchanged = exchanged == Some(weights);
        if weights == self.weights.len() {
            self.weights.push(weight);
        }
        Some(Form::Contraction { operand, weights, exchanged })
    }
}

/// What an accumulate step is, if it is one of the known kinds.
pub(super) fn sum(program: &Program, step: &Step) -> Option<Sum> {
    if !step.writes_all(program.values[step.result.index()].elements) || !reads_fragments(program, step) {
        return None;
    }
    let (outer, reduced) = axes(step);
    match (outer.as_slice(), reduced.as_slice()) {
        ([], [] | [_]) if is_single(step) => {
            let elements = reduced.first().map_or(1, |axis| axis.size);
            let whole = elements == 1 || elements.is_multiple_of(8);
            (whole && reads_in_place(program, step, reduced.first())).then_some(Sum::Single(elements))
        }
        ([axis], []) if axis.size.is_multiple_of(8) && reads_in_place(program, step, Some(axis)) => Some(Sum::Elements),
        ([rows, columns], []) => {
            let (first, second) = factors(&step.expression)?;
            let along = |operand: usize, axis: &Axis, other: &Axis| {
                let read = &step.operands[operand];
                is_fragment(program, read)
                    && (read.offset, axis.strides[operand], other.strides[operand]) == (0, 1, 0)
                    && program.values[read.value.index()].elements == axis.size
            };
            let is = |left, right| along(left, rows, columns) && along(right, columns, rows);
            if is(first, second) {
                Some(Sum::Products { left: first, right: second })
            } else {
                is(second, first).then_some(Sum::Products { left: second, right: first })
            }
        }
        _ => None,
    }
}

/// The axes of a step, merged where all operands allow it.
fn axes(step: &Step) -> (Vec<Axis>, Vec<Axis>) {
    (merge(&step.shape.0, &step.operands, 0), merge(&step.reduced.0, &step.operands, step.shape.rank()))
}

/// The two operands that an expression multiplies.
pub(super) fn factors(expression: &Expression) -> Option<(usize, usize)> {
    match expression {
        Expression::Binary(Binary::Mul, a, b) => match (a.as_ref(), b.as_ref()) {
            (Expression::Operand(a), Expression::Operand(b)) if a != b => Some((*a, *b)),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a value can be a fragment: of each row as many elements to each lane, or one number.
pub(super) fn is_whole(value: &Value) -> bool {
    !value.per_row || value.elements == 1 || value.elements.is_multiple_of(8)
}

/// Whether a step reads and writes nothing that can be no fragment, or is nowhere until it is read.
fn reads_fragments(program: &Program, step: &Step) -> bool {
    let mut values = step.reads().chain([step.result]);
    values.all(|value| is_whole(&program.values[value.index()])) && !draws(program, step)
}

/// Whether a step draws random numbers.
pub(super) fn draws(program: &Program, step: &Step) -> bool {
    step.reads().any(|value| matches!(program.values[value.index()].source, Source::Random(_)))
}

/// Whether an operand is a value of each row with more than one element, held in registers.
fn is_fragment(program: &Program, operand: &Operand) -> bool {
    let value = &program.values[operand.value.index()];
    value.per_row && value.elements > 1
}

/// Whether every value of each row is read element by element along the one axis, or is one number.
pub(super) fn reads_in_place(program: &Program, step: &Step, axis: Option<&Axis>) -> bool {
    step.operands.iter().enumerate().all(|(position, operand)| {
        let elements = program.values[operand.value.index()].elements;
        !is_fragment(program, operand)
            || axis.is_some_and(|axis| (axis.size, axis.strides[position]) == (elements, 1) && operand.offset == 0)
    })
}
