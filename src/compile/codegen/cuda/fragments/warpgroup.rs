//! Which warps multiply together. From 9.0 on four warps, a warpgroup, can multiply their rows by a matrix that the tensor cores read
//! from shared memory by themselves: once for 64 rows, not once for 16, and twice as fast. They have to keep step, so it is done only
//! where products are most of the work. Sums that are added to the gradient tile by tile are products of all rows of the block
//! then, which its warps show each other; this file says where. Knows no step that multiplies.

use super::program::Rows;
use super::{Form, Fragments, Sum, stage_bytes};
use crate::compile::codegen::cuda::memory::Place;
use crate::compile::{KernelClass, Program, Step, ValueId};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The compute capability that has the instructions, and no later one.
const CAPABILITY: u32 = 90;

/// Warps of a warpgroup.
const WARPS: usize = 4;

/// Elements of the left factor of products summed over rows that a warpgroup has at a time.
const LEFT: usize = 64;

/// What all columns are a multiple of.
const COLUMNS: usize = 32;

/// The values that warps show each other, and from which vector on of a warp's room they lie. Empty if they do not.
#[derive(Clone, Debug, Default)]
pub(in crate::compile::codegen::cuda) struct Exchange {
    /// Whole values, in the room that the tile's rows came through.
    whole: BTreeMap<ValueId, usize>,
    /// Slices, in a room of their own.
    slices: BTreeMap<ValueId, usize>,
    /// Vectors of the latter.
    vectors: usize,
}

impl Exchange {
    fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.slices.is_empty()
    }
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
        self.warpgroups = Some(self.exchange(program, class).unwrap_or_default());
        if let Some(stream) = &mut self.stream
            && !program.accumulate.iter().any(|step| stream.is_read(step))
        {
            stream.widen();
        }
    }

    /// What has to be shown for the sums of products that are added at once; `None` if one of them does not fit.
    fn exchange(&self, program: &Program, class: &KernelClass) -> Option<Exchange> {
        let mut exchange = Exchange::default();
        let mut room = 0;
        for (step, sum) in program.accumulate.iter().zip(&self.sums) {
            let Sum::ProductsAtOnce { left, right } = *sum else { continue };
            let values = [left, right].map(|operand| {
                let value = step.operands[operand].value;
                self.inline.get(&value).map_or(value, |scaled| scaled.row)
            });
            let widths = values.map(|value| self.width(program, value));
            if !widths.iter().any(|width| width.is_multiple_of(LEFT)) || widths.iter().any(|width| width % COLUMNS != 0) {
                return None;
            }
            for (value, width) in values.into_iter().zip(widths) {
                let is_slice = self.stream.as_ref().is_some_and(|stream| stream.values.contains(&value));
                let (places, taken) = match is_slice {
                    true => (&mut exchange.slices, &mut exchange.vectors),
                    false => (&mut exchange.whole, &mut room),
                };
                places.entry(value).or_insert_with(|| std::mem::replace(taken, *taken + vectors(width)));
            }
        }
        (16 * room <= stage_bytes(class)).then_some(exchange)
    }

    /// Numbers of shared memory for the slices that the warps of a block show each other.
    pub fn exchanged_numbers(&self, threads: usize) -> usize {
        self.warpgroups.as_ref().map_or(0, |exchange| threads / 32 * exchange.vectors * 4)
    }
}

impl Rows<'_> {
    /// The name of the function that contracts, before what it is a template of.
    pub(super) fn contraction(&self) -> &'static str {
        if self.fragments.warpgroups.is_some() { "contract_together" } else { "contract" }
    }

    /// Whether warps show each other rows.
    pub(super) fn exchanges(&self) -> bool {
        self.fragments.warpgroups.as_ref().is_some_and(|exchange| !exchange.is_empty())
    }

    /// Shows the whole values.
    pub(super) fn show_whole(&mut self) {
        let Some(exchange) = &self.fragments.warpgroups else { return };
        for (value, vector) in &exchange.whole {
            self.show(*value, &format!("where_rows_came(stage, {vector})"));
        }
        self.wait_for_shown();
    }

    /// Shows what this slice has of values.
    pub(super) fn show_slices(&mut self) {
        let Some(exchange) = &self.fragments.warpgroups else { return };
        if exchange.is_empty() {
            return;
        }
        self.text += "__syncthreads();\n";
        let start = self.weights + self.fragments.extent(self.class);
        for (value, vector) in &exchange.slices {
            let rows = format!(
                "{{reinterpret_cast<uint4*>(shared + {start}) + {vector}, {vectors}}}",
                vectors = exchange.vectors
            );
            self.show(*value, &rows);
        }
        self.wait_for_shown();
    }

    fn show(&mut self, value: ValueId, rows: &str) {
        let (operand, id) = (self.operand(value), value.0);
        let _ = write!(
            self.text,
            "auto shown_{id} = {operand};\nif (!whole) clear_dead(shown_{id}, alive);\n\
             const RowsOfBlock block_{id} = {rows};\nshow(block_{id}, shown_{id});\n"
        );
    }

    fn wait_for_shown(&mut self) {
        if self.exchanges() {
            self.text += "show_tensor_cores();\n__syncthreads();\n";
        }
    }

    /// Adds the products of what was shown to the gradient.
    pub(super) fn products_of_block(&mut self, step: &Step, operands: [usize; 2], slices: usize, scale: &str) {
        let Some(Place::Gradient(offset)) = self.planned.layout.places[step.result.index()] else { return };
        let columns = self.elements(&step.operands[operands[1]]);
        let [left, right] = operands.map(|operand| self.unscaled(step.operands[operand].value).0);
        let is_exchanged = !self.width(left).is_multiple_of(LEFT);
        let (first, second) = if is_exchanged { (right, left) } else { (left, right) };
        let slice = self.of_slice(slices);
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
