//! Programs that run in *fragments*: each warp works on 16 rows by itself, and every per-row value stays in registers.
//!
//! A lane holds the same elements of every value of the same size (`fragments.cu` says which), so maps need no exchange, a
//! reduction ends with two shuffles, and a contraction is a product of the tensor cores whose result lies where the next
//! step wants it. What does not fit this vocabulary runs in shared memory, as [`super::step`] prints it.
//!
//! In order: this file says which programs fit and what each of their steps is; [`program`] prints the loop over rows.

mod program;

pub(super) use program::Rows;

use super::loops::{Axis, merge};
use super::memory::is_single;
use crate::compile::{Binary, Expression, KernelClass, Operand, Program, Reducer, Source, Step, Value, ValueId};
use crate::graph::DataType;

/// Threads of a block whose programs run in fragments. Warps need nothing of each other but weights and sums.
pub(super) const THREADS: usize = 128;

/// Rows that a warp works on at a time.
pub(super) const ROWS: usize = 16;

/// The least compute capability with the instructions that fragments use.
const LEAST_CAPABILITY: u32 = 80;

/// The widest chunk that is copied in fragments: what a lane has in flight must fit its registers.
const WIDEST_CHUNK: usize = 256;

/// Registers that the values of a thread may take by our count. It has 255, also for addresses and what is in flight.
const MOST_REGISTERS: usize = 320;

/// What the steps of a program are in fragments.
#[derive(Clone, Debug)]
pub(super) struct Fragments {
    /// By step of the body.
    pub body: Vec<Form>,
    /// By accumulate step.
    pub sums: Vec<Sum>,
    /// The uniform factors of contractions, which lie in shared memory as the tensor cores want them.
    pub weights: Vec<Weight>,
}

/// A step of the body.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    /// Of each element, from the same element of others.
    Map,
    /// One number of each row, combined over so many elements.
    Reduction(usize),
    /// A product with the weights of this position; the operand is the value of each row.
    Contraction { operand: usize, weights: usize },
}

/// An accumulate step.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sum {
    /// One number, from so many elements of each row.
    Single(usize),
    /// As many as a value has elements.
    Elements,
    /// The products of all elements of one value with all of another: the operands' positions.
    Products { left: usize, right: usize },
}

/// A matrix `[inner, outer]` that a contraction multiplies by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Weight {
    pub value: ValueId,
    pub offset: usize,
    pub inner: usize,
    pub inner_stride: usize,
    pub outer: usize,
    pub outer_stride: usize,
    /// Where it begins in shared memory, in numbers from the end of what other values take.
    pub start: usize,
}

impl Weight {
    /// Numbers of shared memory: two 16-bit factors to a word, or two of f32 in two parts each.
    fn extent(&self, data_type: DataType) -> usize {
        let (lanes, columns) = (32, self.outer / 8);
        if data_type.bytes() == 2 {
            self.inner.div_ceil(16) * columns * lanes * 2
        } else {
            self.inner / 8 * columns * lanes * 4
        }
    }
}

/// Whether identity copies in fragments, and programs may run in them.
pub(super) fn serve(class: &KernelClass, capability: u32) -> bool {
    capability >= LEAST_CAPABILITY
        && class.data_type != DataType::F64
        && class.chunk.is_multiple_of(8)
        && class.chunk <= WIDEST_CHUNK
}

/// What a program is in fragments, if it fits.
pub(super) fn plan(program: &Program, data_type: DataType) -> Option<Fragments> {
    let number = |value: &Value| matches!(value.data_type, DataType::F32 | DataType::Bool);
    let whole = |value: &Value| !value.per_row || value.elements == 1 || value.elements.is_multiple_of(8);
    if !program.values.iter().all(|value| number(value) && whole(value)) {
        return None;
    }
    let mut fragments = Fragments { body: Vec::new(), sums: Vec::new(), weights: Vec::new() };
    for step in &program.body {
        let form = fragments.form(program, step)?;
        fragments.body.push(form);
    }
    for step in &program.accumulate {
        fragments.sums.push(sum(program, step)?);
    }
    let mut start = 0;
    for weight in &mut fragments.weights {
        weight.start = start;
        start += weight.extent(data_type);
    }
    (registers(program, &fragments) <= MOST_REGISTERS).then_some(fragments)
}

impl Fragments {
    /// Numbers of shared memory that the weights take.
    pub fn extent(&self, data_type: DataType) -> usize {
        self.weights.iter().map(|weight| weight.extent(data_type)).sum()
    }

    /// Whether nothing reads a value but contractions, which have it as weights.
    pub fn is_only_weights(&self, program: &Program, value: ValueId) -> bool {
        let reads = |step: &Step| step.reads().any(|read| read == value);
        let in_body = program.body.iter().zip(&self.body).any(|(step, form)| match form {
            Form::Contraction { operand, .. } => step.operands[*operand].value == value,
            _ => reads(step),
        });
        !in_body && !program.prologue.iter().chain(&program.accumulate).chain(&program.epilogue).any(reads)
    }

    fn form(&mut self, program: &Program, step: &Step) -> Option<Form> {
        if step.condition.is_some() || !step.writes_all(program.values[step.result.index()].elements) {
            return None;
        }
        let (outer, reduced) = axes(step);
        match (outer.as_slice(), reduced.as_slice()) {
            ([] | [_], []) => reads_in_place(program, step, outer.first()).then_some(Form::Map),
            ([], [axis]) if axis.size.is_multiple_of(8) => {
                reads_in_place(program, step, Some(axis)).then_some(Form::Reduction(axis.size))
            }
            ([outer], [inner]) => self.contraction(program, step, outer, inner),
            _ => None,
        }
    }

    fn contraction(&mut self, program: &Program, step: &Step, outer: &Axis, inner: &Axis) -> Option<Form> {
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
        let weights = self.weights.iter().position(|known| *known == weight).unwrap_or(self.weights.len());
        if weights == self.weights.len() {
            self.weights.push(weight);
        }
        Some(Form::Contraction { operand, weights })
    }
}

fn sum(program: &Program, step: &Step) -> Option<Sum> {
    if !step.writes_all(program.values[step.result.index()].elements) {
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
fn factors(expression: &Expression) -> Option<(usize, usize)> {
    match expression {
        Expression::Binary(Binary::Mul, a, b) => match (a.as_ref(), b.as_ref()) {
            (Expression::Operand(a), Expression::Operand(b)) if a != b => Some((*a, *b)),
            _ => None,
        },
        _ => None,
    }
}

/// Whether an operand is a value of each row with more than one element, held in registers.
fn is_fragment(program: &Program, operand: &Operand) -> bool {
    let value = &program.values[operand.value.index()];
    value.per_row && value.elements > 1 && !matches!(value.source, Source::Random(_))
}

/// Whether every value of each row is read element by element along the one axis, or is one number.
fn reads_in_place(program: &Program, step: &Step, axis: Option<&Axis>) -> bool {
    step.operands.iter().enumerate().all(|(position, operand)| {
        let elements = program.values[operand.value.index()].elements;
        !is_fragment(program, operand)
            || axis.is_some_and(|axis| (axis.size, axis.strides[position]) == (elements, 1) && operand.offset == 0)
    })
}

/// Registers that a lane needs at the busiest step, by a simple count: a fragment takes half as many as it has elements.
fn registers(program: &Program, fragments: &Fragments) -> usize {
    let last = program.body.len();
    let mut ends: Vec<usize> = vec![0; program.values.len()];
    for (position, step) in program.body.iter().enumerate() {
        step.reads().for_each(|value| ends[value.index()] = position);
    }
    let outputs = program.outputs.iter().map(|output| output.value).chain(program.guards.iter().copied());
    program.accumulate.iter().flat_map(Step::reads).chain(outputs).for_each(|value| ends[value.index()] = last);
    let size = |value: ValueId| {
        let value = &program.values[value.index()];
        if value.per_row { value.elements.div_ceil(2) } else { 0 }
    };
    let sums: usize = program
        .accumulate
        .iter()
        .zip(&fragments.sums)
        .map(|(step, sum)| match sum {
            Sum::Single(_) => 1,
            Sum::Elements => step.shape.elements() / 4,
            Sum::Products { .. } => step.shape.elements() / 32,
        })
        .sum();
    let rows: usize = program
        .values
        .iter()
        .filter(|value| matches!(value.source, Source::Row(_)))
        .map(|value| value.elements / 4)
        .sum();
    let busiest = (0..=last).map(|now| {
        let born = program.body.iter().take(now + 1).filter(|step| ends[step.result.index()] >= now);
        born.map(|step| size(step.result)).sum::<usize>()
    });
    sums + rows + busiest.max().unwrap_or(0)
}
