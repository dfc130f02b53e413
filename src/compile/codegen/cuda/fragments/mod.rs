//! Programs that run in *fragments*: each warp works on 16 rows by itself, and every per-row value stays in registers.
//!
//! A lane holds the same elements of every value of the same size (`fragments.cu` says which), so maps need no exchange, a
//! reduction ends with two shuffles, and a contraction is a product of the tensor cores whose result lies where the next
//! step wants it. A step that reads elements in another order than they lie works in scratch memory of the warp. What does not fit
//! this vocabulary runs in shared memory, as [`super::step`] prints it.
//!
//! In order: this file says which programs fit ([`registers`]) and what each of their steps is, [`stream`] which values are made in
//! slices, [`weight`] where the factors of contractions lie, [`warpgroup`] which warps multiply together; [`program`] prints the loop
//! over rows, [`slices`] those over slices, [`step`] what they do with a tile, [`scratch`] what goes by way of memory, and [`sums`]
//! what is added up over tiles and warps.

mod program;
mod registers;
mod scratch;
mod slices;
mod step;
mod stream;
mod sums;
mod warpgroup;
mod weight;

pub(super) use program::Rows;

use super::loops::{Axis, merge};
use super::memory::{direct, is_single};
use crate::compile::{Binary, Expression, KernelClass, Operand, Pass, Program, Reducer, Source, Step, Value, ValueId};
use crate::graph::DataType;
use registers::{COMFORTABLE, MOST, ROOMY, registers};
use std::collections::{BTreeMap, BTreeSet};
use stream::Stream;
use warpgroup::Exchange;
use weight::{VECTOR_BYTES, Weight, line_vectors};

/// Rows that a warp works on at a time.
pub(super) const ROWS: usize = 16;

/// The least compute capability with the instructions that fragments use.
const LEAST_CAPABILITY: u32 = 80;

/// The widest chunk that is copied in fragments: what a lane has in flight must fit its registers.
const WIDEST_CHUNK: usize = 256;

/// Bytes of rows that a warp has on their way to it, where that allows the most stages. More gain nothing, on an H200; where
/// gradients are summed, few warps wait for memory at a time, so each asks for more.
fn comfortable_stage_bytes(pass: Pass) -> usize {
    if pass == Pass::Forward { 9 << 10 } else { 14 << 10 }
}
const MOST_STAGES: usize = 3;

/// What the steps of a program are in fragments.
#[derive(Clone, Debug)]
pub(super) struct Fragments {
    /// By step of the body.
    pub body: Vec<Form>,
    /// By accumulate step.
    pub sums: Vec<Sum>,
    /// Values that are cheaper to compute wherever they are read than to keep.
    pub inline: BTreeMap<ValueId, Scaled>,
    /// The uniform factors of contractions, which lie in shared memory as the tensor cores want them.
    pub weights: Vec<Weight>,
    /// Values of each row that lie in scratch memory: what steps there write, and what they read of other steps.
    pub scratch: BTreeSet<ValueId>,
    /// What is made slice by slice, where whole values would be too many for registers.
    pub stream: Option<Stream>,
    /// Registers of a lane that its values take at the busiest step.
    pub registers: usize,
    /// What warps that multiply together show each other of sums, if they do.
    pub warpgroups: Option<Exchange>,
}

/// A row input times a number that is the same for all elements: an element of a uniform value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaled {
    pub row: ValueId,
    pub scale: ValueId,
    pub offset: usize,
}

/// A step of the body.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
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
pub(super) enum Sum {
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
    fn is_at_once(&self) -> bool {
        matches!(self, Sum::ElementsAtOnce | Sum::ProductsAtOnce { .. })
    }
}

/// Whether identity copies in fragments, and programs may run in them.
pub(super) fn serve(class: &KernelClass, capability: u32) -> bool {
    capability >= LEAST_CAPABILITY
        && class.data_type != DataType::F64
        && class.chunk.is_multiple_of(8)
        && class.chunk <= WIDEST_CHUNK
}

/// Row tensors that a pass reads.
pub(super) fn inputs(pass: Pass) -> usize {
    if pass == Pass::Forward { 1 } else { 2 }
}

/// Bytes of shared memory for the rows that a warp works on at a time.
pub(super) fn stage_bytes(class: &KernelClass) -> usize {
    inputs(class.pass) * ROWS * line_vectors(class.chunk * class.data_type.bytes()) * VECTOR_BYTES
}

/// How many times those rows a warp has at a time: enough to keep memory busy, and fewer where scratch memory is wanted.
pub(super) fn stages<'a>(class: &KernelClass, mut programs: impl Iterator<Item = &'a Fragments>) -> usize {
    let most = if programs.any(|fragments| !fragments.scratch.is_empty()) { 2 } else { MOST_STAGES };
    (comfortable_stage_bytes(class.pass) / stage_bytes(class)).clamp(1, most)
}

/// Threads of a block whose programs run in fragments. Its warps need nothing of each other but the weights, which they make
/// ready together, and the sums: where weights are few, sums are put together sooner in small blocks. Measured on an H200.
pub(super) fn threads<'a>(class: &KernelClass, programs: impl Iterator<Item = &'a Fragments>) -> usize {
    let needs = |fragments: &Fragments| (4 * fragments.extent(class), !fragments.scratch.is_empty());
    let (weights, has_scratch) = programs.map(needs).fold((0, false), |all, one| (all.0.max(one.0), all.1 | one.1));
    match weights {
        // So that many small blocks fill a multiprocessor's memory.
        _ if has_scratch => 64,
        0..=0x4000 if class.pass != Pass::Forward => 64,
        0..=0xa000 if class.data_type == DataType::F32 => 64,
        0..=0x10000 => 128,
        _ => 256,
    }
}

/// Warps that a multiprocessor can run at once without keeping values of these programs in memory: 64 K registers, of which a
/// lane needs some for other things, and more of them where gradients are summed.
pub(super) fn warps<'a>(class: &KernelClass, programs: impl Iterator<Item = &'a Fragments>) -> usize {
    let needs = |fragments: &Fragments| (fragments.registers, !fragments.scratch.is_empty());
    let (registers, has_scratch) = programs.map(needs).fold((0, false), |all, one| (all.0.max(one.0), all.1 | one.1));
    match registers {
        0..=120 if class.pass == Pass::Forward && class.data_type != DataType::F32 && !has_scratch => 16,
        0..=120 => 12,
        _ => 8,
    }
}

/// What a program is in fragments, if it fits.
pub(super) fn plan(program: &Program, class: &KernelClass) -> Option<Fragments> {
    let is_number = |value: &Value| matches!(value.data_type, DataType::F32 | DataType::Bool);
    if !program.values.iter().all(is_number) || program.body.iter().any(|step| step.condition.is_some()) {
        return None;
    }
    let mut fragments = Fragments {
        body: Vec::new(),
        sums: Vec::new(),
        inline: BTreeMap::new(),
        weights: Vec::new(),
        scratch: BTreeSet::new(),
        stream: None,
        registers: 0,
        warpgroups: None,
    };
    for step in &program.body {
        let form = fragments.form(program, step, class.data_type).unwrap_or(Form::Scratch);
        fragments.body.push(form);
    }
    for step in &program.accumulate {
        fragments.sums.push(sum(program, step).unwrap_or(Sum::Scratch));
    }
    fragments.scratch = scratch::values(program, &fragments)?;
    fragments.inline = cheap(program, &fragments);
    fragments.registers = registers(program, &fragments);
    if fragments.registers > ROOMY && fragments.scratch.is_empty() {
        let stream = Stream::find(program, &fragments);
        let is_free = |stream: &Stream| !program.accumulate.iter().any(|step| stream.is_read(step));
        let is_needed = fragments.registers > COMFORTABLE;
        fragments.stream = stream.filter(|stream| is_needed || is_free(stream));
        if is_needed {
            fragments.add_at_once(program);
        }
        fragments.registers = registers(program, &fragments);
    }
    let mut start = 0;
    for weight in &mut fragments.weights {
        weight.start = start;
        start += weight.extent(class);
    }
    (fragments.registers <= MOST).then_some(fragments)
}

impl Fragments {
    /// Numbers of shared memory that the weights take.
    pub fn extent(&self, class: &KernelClass) -> usize {
        self.weights.iter().map(|weight| weight.extent(class)).sum()
    }

    /// What makes a value in slices, if something does.
    pub fn stream_of(&self, value: ValueId) -> Option<&Stream> {
        self.stream.as_ref().filter(|stream| stream.values.contains(&value))
    }

    /// Whether it multiplies on the tensor cores.
    pub fn has_products(&self) -> bool {
        self.body.iter().any(|form| matches!(form, Form::Contraction { .. }))
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

    /// Whether a value is computed wherever it is read.
    pub fn is_inline(&self, value: ValueId) -> bool {
        self.inline.contains_key(&value)
    }

    /// Whether a value is a sum that lies nowhere but in the gradient.
    pub fn is_added_at_once(&self, program: &Program, value: ValueId) -> bool {
        let mut sums = program.accumulate.iter().zip(&self.sums);
        sums.any(|(step, sum)| step.result == value && sum.is_at_once())
    }

    /// Bytes of what a warp adds up in registers over its tiles.
    pub fn bytes_of_sums(&self, program: &Program) -> usize {
        let steps = program.accumulate.iter().zip(&self.sums);
        let kept = steps.filter(|(_, sum)| matches!(sum, Sum::Elements | Sum::Products { .. }));
        kept.map(|(step, _)| 4 * step.shape.elements()).sum()
    }

    /// Whether there are such sums.
    pub fn adds_at_once(&self) -> bool {
        self.sums.iter().any(Sum::is_at_once)
    }

    /// Whether a sum is a gradient as it is, and whole results of tensor cores.
    fn can_add_at_once(program: &Program, step: &Step, sum: &Sum) -> bool {
        let elements = |operand: usize| program.values[step.operands[operand].value.index()].elements;
        let is_whole = match *sum {
            Sum::Products { left, right } => elements(left).is_multiple_of(16) && elements(right).is_multiple_of(16),
            _ => step.shape.elements().is_multiple_of(32),
        };
        is_whole && direct(program, step.result).is_some()
    }

    /// Gives up the registers of sums.
    fn add_at_once(&mut self, program: &Program) {
        for (step, sum) in program.accumulate.iter().zip(&mut self.sums) {
            *sum = match *sum {
                Sum::Elements if Self::can_add_at_once(program, step, sum) => Sum::ElementsAtOnce,
                Sum::Products { left, right } if Self::can_add_at_once(program, step, sum) => {
                    Sum::ProductsAtOnce { left, right }
                }
                _ => continue,
            };
        }
    }

    fn form(&mut self, program: &Program, step: &Step, data_type: DataType) -> Option<Form> {
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

fn sum(program: &Program, step: &Step) -> Option<Sum> {
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
fn factors(expression: &Expression) -> Option<(usize, usize)> {
    match expression {
        Expression::Binary(Binary::Mul, a, b) => match (a.as_ref(), b.as_ref()) {
            (Expression::Operand(a), Expression::Operand(b)) if a != b => Some((*a, *b)),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a value can be a fragment: of each row as many elements to each lane, or one number.
fn is_whole(value: &Value) -> bool {
    !value.per_row || value.elements == 1 || value.elements.is_multiple_of(8)
}

/// Whether a step reads and writes nothing that can be no fragment, or is nowhere until it is read.
fn reads_fragments(program: &Program, step: &Step) -> bool {
    let mut values = step.reads().chain([step.result]).map(|value| &program.values[value.index()]);
    values.all(|value| is_whole(value) && !matches!(value.source, Source::Random(_)))
}

/// Whether an operand is a value of each row with more than one element, held in registers.
fn is_fragment(program: &Program, operand: &Operand) -> bool {
    let value = &program.values[operand.value.index()];
    value.per_row && value.elements > 1
}

/// Whether every value of each row is read element by element along the one axis, or is one number.
fn reads_in_place(program: &Program, step: &Step, axis: Option<&Axis>) -> bool {
    step.operands.iter().enumerate().all(|(position, operand)| {
        let elements = program.values[operand.value.index()].elements;
        !is_fragment(program, operand)
            || axis.is_some_and(|axis| (axis.size, axis.strides[position]) == (elements, 1) && operand.offset == 0)
    })
}

/// Products of a row input and a number that is the same for all elements, with the operands' positions: the input is kept
/// anyway, and sums of the products are products of sums.
fn cheap(program: &Program, fragments: &Fragments) -> BTreeMap<ValueId, Scaled> {
    let leaves =
        |value: ValueId| program.guards.contains(&value) || program.outputs.iter().any(|output| output.value == value);
    let is_row = |operand: &Operand| matches!(program.values[operand.value.index()].source, Source::Row(_));
    let is_scale = |operand: &Operand| {
        !program.values[operand.value.index()].per_row && operand.strides.iter().all(|stride| *stride == 0)
    };
    let maps = program.body.iter().zip(&fragments.body).filter(|(_, form)| **form == Form::Map);
    maps.filter(|(step, _)| !leaves(step.result) && !fragments.scratch.contains(&step.result))
        .filter_map(|(step, _)| {
            let (a, b) = factors(&step.expression)?;
            let of = |row: usize, scale: usize| {
                (is_row(&step.operands[row]) && is_scale(&step.operands[scale])).then(|| Scaled {
                    row: step.operands[row].value,
                    scale: step.operands[scale].value,
                    offset: step.operands[scale].offset,
                })
            };
            Some((step.result, of(a, b).or_else(|| of(b, a))?))
        })
        .collect()
}
