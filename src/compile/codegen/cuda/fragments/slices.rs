//! Prints the loops over slices of wide values: one in which they are made and multiplied on, and, where sums want them, one in which
//! they are made again once it is known which rows count. Which values those are says [`super::stream`].

use super::program::Rows;
use super::stream::Stream;
use super::{Form, Sum};
use crate::compile::codegen::cuda::program::row_name;
use crate::compile::{Source, Step, ValueId};
use std::collections::BTreeSet;
use std::fmt::Write;

impl<'a> Rows<'a> {
    /// The loop in which slices are made and multiplied on.
    pub(super) fn products_of_slices(&mut self, stream: &Stream) {
        let ends: Vec<_> = self.steps().filter(|(step, _)| stream.ends.contains(&step.result)).collect();
        let needed = stream.needed(&self.planned.program, ends.iter().map(|(step, _)| *step));
        for (step, _) in &ends {
            let _ = writeln!(self.text, "number products_{}[{}][4] = {{}};", step.result.0, step.shape.elements() / 8);
        }
        let steps = self.steps().filter(|(step, _)| needed.contains(&step.result)).chain(ends);
        self.rows_stay = true;
        self.over_slices(stream, stream.slice, steps.collect(), |_| {});
        self.rows_stay = false;
    }

    /// The loop in which the slices that sums are of are made again, now that it is known which rows count.
    pub(super) fn sums_of_slices(&mut self, stream: &Stream) {
        let sums: Vec<_> = self.sums().enumerate().filter(|(_, (step, _))| stream.is_read(step)).collect();
        if sums.is_empty() {
            return;
        }
        let needed = stream.needed(&self.planned.program, sums.iter().map(|(_, (step, _))| *step));
        // What is the same for all slices.
        for (_, (step, sum)) in &sums {
            let Sum::ProductsAtOnce { left, right } = sum else { continue };
            for &operand in [left, right] {
                if !self.exchanges() && !stream.values.contains(&step.operands[operand].value) {
                    self.turned_operand(step, operand, operand == *left);
                }
            }
        }
        let steps = self.steps().filter(|(step, _)| needed.contains(&step.result)).collect();
        self.over_slices(stream, stream.slice_of_sums, steps, |rows| {
            for (position, (step, sum)) in sums {
                rows.sum(position, step, sum);
            }
        });
    }

    /// A loop over slices: these steps, and what is done with what they made. Products of what lies outside come first, and those that
    /// are ends last, so that few have to be waited for apart.
    fn over_slices(
        &mut self,
        stream: &Stream,
        slice: usize,
        steps: Vec<(&'a Step, &'a Form)>,
        then: impl FnOnce(&mut Self),
    ) {
        let is_first = |(step, form): &(&Step, &Form)| match form {
            Form::Contraction { operand, .. } => !stream.values.contains(&step.operands[*operand].value),
            _ => false,
        };
        let is_end = |(step, _): &(&Step, &Form)| stream.ends.contains(&step.result);
        let (firsts, others): (Vec<_>, Vec<_>) = steps.into_iter().partition(is_first);
        let (ends, others): (Vec<_>, Vec<_>) = others.into_iter().partition(is_end);
        for (step, form) in &firsts {
            if let Form::Contraction { operand, .. } = form {
                let (value, _) = self.unscaled(step.operands[*operand].value);
                if !self.is_taken_again(value) {
                    self.operand(value);
                }
            }
        }
        let outside = (self.operands.clone(), self.turned.clone());
        let count = stream.elements / slice;
        let _ = writeln!(self.text, "#pragma unroll 1\nfor (int slice = 0; slice < {count}; ++slice) {{");
        self.in_slice = Some(slice);
        self.contractions(&firsts);
        for (step, form) in others {
            self.step(step, form);
        }
        self.contractions(&ends);
        then(self);
        self.in_slice = None;
        (self.operands, self.turned) = outside;
        self.text += "}\n";
    }

    /// Makes again what a step or a sum after the slices reads, if it can be made at once of the rows and single numbers: it
    /// would take registers that slices want.
    pub(super) fn make_again(
        &mut self,
        stream: &Stream,
        reads: impl Iterator<Item = ValueId>,
        made: &mut BTreeSet<ValueId>,
    ) {
        let mut needed: BTreeSet<ValueId> = reads.filter(|value| !made.contains(value)).collect();
        let mut steps = Vec::new();
        for (step, form) in self.steps().collect::<Vec<_>>().into_iter().rev() {
            let is_later = stream.has(step) || stream.after.contains(&step.result);
            let is_wide = self.width(step.result) > 1 && !self.fragments.is_inline(step.result);
            if *form == Form::Map && is_wide && !is_later && needed.contains(&step.result) {
                needed.extend(step.reads().filter(|value| !made.contains(value)));
                steps.push((step, form));
            }
        }
        for (value, input) in self.rows_read() {
            if needed.contains(&value) {
                let (name, value) = (row_name(input), value.0);
                let _ = writeln!(self.text, "{name} = take(rows_of_{name}, place);\nv{value} = numbers_of({name});");
            }
        }
        made.extend(needed);
        self.again = true;
        for (step, form) in steps.into_iter().rev() {
            self.step(step, form);
        }
        self.again = false;
    }

    /// Whether a value comes out of shared memory in each slice: rows of 16 bits are operands as they lie.
    pub(super) fn is_taken_again(&self, value: ValueId) -> bool {
        let is_row = matches!(self.planned.program.values[value.index()].source, Source::Row(_));
        self.rows_stay && is_row && self.class.data_type.bytes() == 2
    }

    /// Elements of a value as it is here: those of a slice, if it is made so.
    pub(super) fn width(&self, value: ValueId) -> usize {
        let whole = self.planned.program.values[value.index()].elements;
        self.in_slice.filter(|_| self.fragments.stream_of(value).is_some()).unwrap_or(whole)
    }

    /// How far beyond the first the slice is that a loop has come to, if elements lie so far apart.
    pub(super) fn of_slice(&self, apart: usize) -> String {
        self.in_slice.map_or(String::new(), |slice| format!(" + slice * {}", slice * apart))
    }
}
