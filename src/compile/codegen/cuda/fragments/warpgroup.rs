//! Which warps multiply together. From 9.0 on four warps, a warpgroup, can multiply their rows by a matrix that the tensor cores read
//! from shared memory by themselves: once for 64 rows, not once for 16, and twice as fast. They have to keep step, so it is done only
//! where products are most of the work. Sums that are added to the gradient tile by tile are products of all rows of the block
//! then, which its warps show each other; this file says where. Knows no step that multiplies.

use super::program::Rows;
use super::stream::Stream;
use super::{Form, Fragments, Sum, stage_bytes};
use crate::compile::codegen::cuda::memory::Place;
use crate::compile::{KernelClass, Program, Step, ValueId};
use crate::graph::RowInput;
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt::Write;

/// The compute capability that has the instructions, and no later one.
const CAPABILITY: u32 = 90;

/// Warps of a warpgroup.
const WARPS: usize = 4;

/// Elements of the left factor of products summed over rows that a warpgroup has at a time.
const LEFT: usize = 64;

/// What all columns are a multiple of.
const COLUMNS: usize = 32;

/// The values that warps show each other. Nothing if they do not.
#[derive(Clone, Debug, Default)]
pub(in crate::compile::codegen::cuda) struct Exchange {
    /// Whole values, and from which vector on they lie in the room that the warp's rows came through.
    whole: BTreeMap<ValueId, usize>,
    /// Whether there are slices, which have a room of their own, one at a time.
    has_slices: bool,
}

/// Vectors of 16 rows of so many 16-bit elements.
fn vectors(elements: usize) -> usize {
    2 * elements
}

impl Fragments {
    /// Lets the warps of a block multiply together, where they can and it pays.
    pub fn join_warps(&mut self, program: &Program, class: &KernelClass, capability: u32, threads: usize) {
        let is_whole = |form: &Form| match form {
            Form::Contraction { weights, .. } => {
                let weight = &self.weights[*weights];
                weight.inner.is_multiple_of(COLUMNS) && weight.outer.is_multiple_of(COLUMNS)
            }
            _ => true,
        };
        let can = capability == CAPABILITY && class.data_type.bytes() == 2 && threads.is_multiple_of(32 * WARPS);
        if !can || self.stream.is_none() || !self.body.iter().all(is_whole) {
            return;
        }
        if let Some(stream) = &mut self.stream {
            stream.widen(program);
        }
        self.warpgroups = Some(self.exchange(program, class).unwrap_or_default());
    }

    /// What has to be shown for the sums of products that are added at once; `None` if one of them does not fit, or others may want
    /// rows from where they came.
    fn exchange(&self, program: &Program, class: &KernelClass) -> Option<Exchange> {
        let mut exchange = Exchange::default();
        let mut room = 0;
        for (step, sum) in program.accumulate.iter().zip(&self.sums) {
            let (left, right) = match *sum {
                Sum::ProductsAtOnce { left, right } => (left, right),
                Sum::Single(_) | Sum::ElementsAtOnce => continue,
                Sum::Elements | Sum::Products { .. } | Sum::Scratch => return None,
            };
            let values = [left, right].map(|operand| {
                let value = step.operands[operand].value;
                self.inline.get(&value).map_or(value, |scaled| scaled.row)
            });
            let slice = |value: ValueId| self.stream_of(value).map(|stream| stream.slice_of_sums);
            let widths = values.map(|value| slice(value).unwrap_or(program.values[value.index()].elements));
            if !widths.iter().any(|width| width.is_multiple_of(LEFT)) || widths.iter().any(|width| width % COLUMNS != 0)
            {
                return None;
            }
            for (value, width) in values.into_iter().zip(widths) {
                if slice(value).is_some() {
                    exchange.has_slices = true;
                } else if let Entry::Vacant(entry) = exchange.whole.entry(value) {
                    entry.insert(room);
                    room += vectors(width);
                }
            }
        }
        (16 * room <= stage_bytes(class)).then_some(exchange)
    }

    /// Numbers of shared memory for the slices that the warps of a block show each other.
    pub fn exchanged_numbers(&self, threads: usize) -> usize {
        let slice = self.stream.as_ref().map_or(0, |stream| stream.slice_of_sums);
        let has_slices = self.warpgroups.as_ref().is_some_and(|exchange| exchange.has_slices);
        if has_slices { threads / 32 * vectors(slice) * 4 } else { 0 }
    }
}

impl Rows<'_> {
    /// The name of the function that contracts, before what it is a template of.
    pub(super) fn contraction(&self) -> &'static str {
        if self.fragments.warpgroups.is_some() { "contract_together" } else { "contract" }
    }

    /// Whether warps show each other rows.
    pub(super) fn exchanges(&self) -> bool {
        self.fragments.warpgroups.as_ref().is_some_and(|exchange| exchange.has_slices || !exchange.whole.is_empty())
    }

    /// What is of rows that are no longer where they came once the output has gone that way.
    pub(super) fn overwritten(&self) -> BTreeSet<ValueId> {
        let is_watched = |(_, input): &(ValueId, RowInput)| self.class.pass.watched() == Some(*input);
        let mut values: BTreeSet<ValueId> =
            self.rows_read().into_iter().filter(is_watched).map(|(value, _)| value).collect();
        for step in &self.planned.program.body {
            if step.reads().any(|value| values.contains(&value)) {
                values.insert(step.result);
            }
        }
        values
    }

    /// Shows the whole values; what is not `made` is made again, for it would take registers that the steps after slices want.
    pub(super) fn show_whole(&mut self, stream: &Stream, mut made: BTreeSet<ValueId>) {
        let Some(exchange) = &self.fragments.warpgroups else { return };
        let again = |value: &&ValueId| self.operands.contains(value) && !made.contains(value);
        for value in exchange.whole.keys().filter(again).collect::<Vec<_>>() {
            self.make_again(stream, [*value].into_iter(), &mut made);
            let _ = writeln!(self.text, "operand_{id} = operand_of(v{id});", id = value.0);
        }
        // What is shown lies where the rows were.
        for (value, vector) in &exchange.whole {
            self.show(*value, &format!("where_rows_came(stage, {vector})"));
        }
        if !exchange.whole.is_empty() {
            self.text += "show_tensor_cores();\n__syncthreads();\n";
        }
    }

    fn show(&mut self, value: ValueId, rows: &str) {
        let (operand, id) = (self.operand(value), value.0);
        let _ = write!(
            self.text,
            "auto shown_{id} = {operand};\nif (!whole) clear_dead(shown_{id}, alive);\n\
             const RowsOfBlock block_{id} = {rows};\nshow(block_{id}, shown_{id});\n"
        );
    }

    /// Adds products to the gradient: of values that all warps have shown, and of a slice that they show now.
    pub(super) fn products_of_block(&mut self, step: &Step, operands: [usize; 2], apart: usize, scale: &str) {
        let Some(Place::Gradient(offset)) = self.planned.layout.places[step.result.index()] else { return };
        let columns = self.elements(&step.operands[operands[1]]);
        let values = operands.map(|operand| self.unscaled(step.operands[operand].value).0);
        if let Some(&slice) = values.iter().find(|&&value| self.fragments.stream_of(value).is_some()) {
            let start = self.weights + self.fragments.extent(self.class);
            self.text += "__syncthreads();\n";
            self.show(slice, &format!("rows_of_block(shared + {start}, {})", vectors(self.width(slice))));
            self.text += "show_tensor_cores();\n__syncthreads();\n";
        }
        let [left, right] = values;
        let is_exchanged = !self.width(left).is_multiple_of(LEFT);
        let (first, second) = if is_exchanged { (right, left) } else { (left, right) };
        let slice = self.of_slice(apart);
        let _ = writeln!(
            self.text,
            "add_products_of_block<{columns}, {is_exchanged}, {m}, {n}>(gradient + {offset}{slice}, block_{first}, block_{second}, {scale}, place);",
            m = self.width(first),
            n = self.width(second),
            first = first.0,
            second = second.0,
        );
    }
}
