//! Programs that run in *fragments*: each warp works on 16 rows by itself, and every per-row value stays in registers.
//!
//! A lane holds the same elements of every value of the same size (`fragments.cu` says which), so maps need no exchange, a
//! reduction ends with two shuffles, and a contraction is a product of the tensor cores whose result lies where the next
//! step wants it. A step that reads elements in another order than they lie works in scratch memory of the warp. What does not fit
//! this vocabulary runs in shared memory, as [`super::step`] prints it.
//!
//! In order: this file says which programs fit ([`registers`]), [`form`] what each of their steps is, [`stream`] which values are made in
//! slices, [`weight`] where the factors of contractions lie, [`warpgroup`] which warps multiply together; [`program`] prints the loop
//! over rows, [`slices`] those over slices, [`step`] what they do with a tile, [`scratch`] what goes by way of memory, and [`sums`]
//! what is added up over tiles and warps.

mod form;
mod program;
mod registers;
mod scratch;
mod slices;
mod step;
mod stream;
mod sums;
mod warpgroup;
mod weight;

pub(super) use form::{Form, Sum};
pub(super) use program::Rows;

use super::memory::direct;
use crate::compile::{KernelClass, Operand, Pass, Program, Source, Step, Value, ValueId};
use crate::graph::DataType;
use form::{factors, is_whole, sum};
use registers::{COMFORTABLE, MOST, ROOMY, registers};
use std::collections::{BTreeMap, BTreeSet};
use stream::Stream;
use warpgroup::Exchange;
use weight::{VECTOR_BYTES, Weight, line_vectors};

/// Rows that a warp works on at a time.
pub(super) const ROWS: usize = 16;

/// Numbers of scratch memory from one element of a row to the next. Two lanes share the elements of a row. Where they are at elements
/// 8 apart, half of the banks lie between those, and each lane of the warp has a bank of its own. Where lanes have fragments, two of
/// them share one.
pub(super) const SCRATCH_PITCH: usize = ROWS + 2;

/// The least compute capability with the instructions that fragments use.
const LEAST_CAPABILITY: u32 = 80;

/// The widest chunk that is copied in fragments: what a lane has in flight must fit its registers.
const WIDEST_CHUNK: usize = 256;

/// Bytes of rows that a warp has room for. Where gradients are summed, there are few warps, and each has more.
fn room_for_stages(pass: Pass) -> usize {
    if pass == Pass::Forward { 9 << 10 } else { 14 << 10 }
}

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

/// How many times those rows a warp has at a time. Two keep memory busy; what is asked for beyond that makes it slower, on an H200,
/// because rows of a chunk lie apart. Three where products are summed, by few warps, and no scratch memory wants the room.
pub(super) fn stages<'a>(class: &KernelClass, mut programs: impl Iterator<Item = &'a Fragments> + Clone) -> usize {
    let uses_scratch = programs.clone().any(Fragments::uses_scratch);
    let sums_products = class.pass != Pass::Forward && programs.any(Fragments::has_products);
    let most = if sums_products && !uses_scratch { 3 } else { 2 };
    (room_for_stages(class.pass) / stage_bytes(class)).clamp(1, most)
}

/// Threads of a block whose programs run in fragments. Its warps need nothing of each other but the weights, which they make
/// ready together, and the sums: where weights are few, sums are put together sooner in small blocks. Measured on an H200.
pub(super) fn threads<'a>(class: &KernelClass, programs: impl Iterator<Item = &'a Fragments> + Clone) -> usize {
    let uses_scratch = programs.clone().any(Fragments::uses_scratch);
    let weights = 4 * programs.map(|fragments| fragments.extent(class)).max().unwrap_or(0);
    match weights {
        // So that many small blocks fill a multiprocessor's memory.
        _ if uses_scratch => 64,
        0..=0x4000 if class.pass != Pass::Forward => 64,
        0..=0xa000 if class.data_type == DataType::F32 => 64,
        0..=0x10000 => 128,
        _ => 256,
    }
}

/// Warps that a multiprocessor can run at once without keeping values of these programs in memory: 64 K registers, of which a
/// lane needs some for other things, and more of them where gradients are summed.
pub(super) fn warps<'a>(class: &KernelClass, programs: impl Iterator<Item = &'a Fragments> + Clone) -> usize {
    let uses_scratch = programs.clone().any(Fragments::uses_scratch);
    match programs.map(|fragments| fragments.registers).max().unwrap_or(0) {
        0..=120 if class.pass == Pass::Forward && class.data_type != DataType::F32 && !uses_scratch => 16,
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
    if fragments.registers > ROOMY && !fragments.uses_scratch() {
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
