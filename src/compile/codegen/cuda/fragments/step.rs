//! Prints one step of rows in fragments: a map, a reduction over the elements of a row, or a contraction with weights.

use super::program::Rows;
use super::weight::{VECTOR_BYTES, Weight};
use super::{Form, Scaled};
use crate::compile::codegen::cuda::expression;
use crate::compile::codegen::cuda::memory::Place;
use crate::compile::codegen::cuda::program::{note, row_name};
use crate::compile::codegen::cuda::step::{Printer, combine, index, start};
use crate::compile::{Operand, Source, Step, ValueId};
use crate::graph::DataType;
use std::fmt::Write;

impl Rows<'_> {
    pub(super) fn step(&mut self, step: &Step, form: &Form) {
        let result = step.result.0;
        match form {
            Form::Map => {
                self.text += &note(step, " per row");
                let elements = self.width(step.result);
                if !self.again {
                    self.declare(step.result);
                }
                let term = self.term(step);
                let reads = self.reads(step, elements);
                let target = self.name(step.result);
                self.over(elements, &reads, &format!("{target} = {term};\n"));
            }
            Form::Reduction(elements) => {
                self.text += &note(step, " per row");
                let start = start(step.reducer, DataType::F32);
                let _ = writeln!(self.text, "number v{result}[2] = {{{start}, {start}}};");
                let total = format!("v{result}[h]");
                let term = combine(step.reducer, DataType::F32, &total, &self.term(step));
                let reads = self.reads(step, *elements);
                self.over(*elements, &reads, &term);
                let other = |distance: usize| format!("__shfl_xor_sync(0xffffffffu, {total}, {distance})");
                let combine: String =
                    [1, 2].map(|distance| combine(step.reducer, DataType::F32, &total, &other(distance))).concat();
                let _ = write!(self.text, "#pragma unroll\nfor (int h = 0; h < 2; ++h) {{\n{combine}}}\n");
            }
            Form::Contraction { .. } => self.contractions(&[(step, form)]),
            Form::Scratch => self.step_in_scratch(step),
        }
    }

    /// Contractions that need nothing of each other. What ends slices is added up over them, and a value after the last.
    pub(super) fn contractions(&mut self, steps: &[(&Step, &Form)]) {
        let (mut declarations, mut products, mut results) = (String::new(), String::new(), String::new());
        let mut held = Vec::new();
        for (step, form) in steps {
            let Form::Contraction { operand, weights, exchanged } = form else { continue };
            let result = step.result.0;
            let (value, scale) = self.unscaled(step.operands[*operand].value);
            let (inner, outer) = (self.width(value), self.width(step.result));
            let is_end = self.fragments.stream.as_ref().is_some_and(|stream| stream.ends.contains(&step.result));
            if !is_end {
                let _ = writeln!(declarations, "number products_{result}[{}][4] = {{}};", outer / 8);
            }
            if !is_end || self.in_slice.is_some() {
                held.push(result);
                let factor = self.operand(value);
                let contract = self.contract(*weights, *exchanged, inner, outer);
                let at = self.factors(*weights, *exchanged, is_end);
                let _ = writeln!(products, "{}{contract}(products_{result}, {factor}, {at});", note(step, " per row"));
            }
            if !is_end || self.in_slice.is_none() {
                let product = format!("fragment_of<{outer}>(products_{result})");
                let product = match scale {
                    Some(scale) => format!("scaled({product}, {scale})"),
                    None => product,
                };
                let _ = writeln!(results, "const Fragment<{outer}> v{result} = {product};");
            }
        }
        if self.fragments.warpgroups.is_some() && !products.is_empty() {
            let held: String = held.iter().map(|result| format!("hold(products_{result});\n")).collect();
            products = format!("{held}begin_products();\n{products}end_products();\n");
        }
        self.text += &format!("{declarations}{products}{results}");
    }

    /// The function that multiplies by weights `[inner, outer]`, or by a slice of them.
    fn contract(&self, weights: usize, exchanged: bool, inner: usize, outer: usize) -> String {
        let weight = &self.fragments.weights[weights];
        match self.class.data_type.bytes() {
            2 => format!(
                "{}<{}, {inner}, {outer}, {}>",
                self.contraction(),
                weight.is_inner_along() == exchanged,
                weight.vectors()
            ),
            _ => format!("contract<{inner}, {outer}, {}>", weight.outer),
        }
    }

    /// Where the weights or the slice of them begins.
    fn factors(&self, weights: usize, exchanged: bool, slice_is_inner: bool) -> String {
        let weight = &self.fragments.weights[weights];
        let is_inner = slice_is_inner != exchanged;
        let of_element = match self.class.data_type.bytes() {
            2 if is_inner == weight.is_inner_along() => VECTOR_BYTES / 4,
            2 => weight.vectors() * VECTOR_BYTES / 4,
            _ if is_inner => weight.outer / 8 * Weight::extent_together(self.class) / 8,
            _ => Weight::extent_together(self.class) / 8,
        };
        let start = if self.fragments.warpgroups.is_some() { "shared, " } else { "shared + " };
        format!("{start}{}{}", self.weights + weight.start, self.of_slice(of_element))
    }

    /// A value as an operand of the tensor cores; made where it is first wanted.
    pub(super) fn operand(&mut self, value: ValueId) -> String {
        if self.operands.insert(value) {
            let made_of = match self.planned.program.values[value.index()].source {
                Source::Row(input) if self.is_taken_again(value) => format!("take(rows_of_{}, place)", row_name(input)),
                Source::Row(input) => row_name(input).to_string(),
                _ => format!("v{}", value.0),
            };
            let _ = writeln!(self.text, "auto operand_{} = operand_of({made_of});", value.0);
        }
        format!("operand_{}", value.0)
    }

    /// What a value is a multiple of, and by what, if it is computed where it is read.
    pub(super) fn unscaled(&self, value: ValueId) -> (ValueId, Option<String>) {
        match self.fragments.inline.get(&value) {
            Some(Scaled { row, scale, offset }) => {
                (*row, Some(Printer::element(self.planned, *scale, &offset.to_string())))
            }
            None => (value, None),
        }
    }

    fn declare(&mut self, value: ValueId) {
        let _ = match self.width(value) {
            1 => writeln!(self.text, "number v{}[2];", value.0),
            elements => writeln!(self.text, "Fragment<{elements}> v{};", value.0),
        };
    }

    /// The element of a value of each row that the loops of [`Self::over`] have come to.
    pub(super) fn name(&self, value: ValueId) -> String {
        if self.fragments.is_inline(value)
            && let Some(step) = self.planned.program.body.iter().find(|step| step.result == value)
        {
            return self.term(step);
        }
        match self.planned.program.values[value.index()].elements {
            1 => format!("v{}[h]", value.0),
            _ => format!("v{}.rows[h][i]", value.0),
        }
    }

    /// The expression of a step, of the names that [`Self::reads`] declares and [`Self::name`] gives.
    pub(super) fn term(&self, step: &Step) -> String {
        let names: Vec<expression::Name> = step
            .operands
            .iter()
            .enumerate()
            .map(|(position, operand)| {
                let value = &self.planned.program.values[operand.value.index()];
                let name = match stride(step, operand) {
                    _ if value.per_row => self.name(operand.value),
                    _ if self.fragments.is_inline(step.result) => {
                        Printer::element(self.planned, operand.value, &operand.offset.to_string())
                    }
                    0 => format!("a{position}"),
                    _ => format!("a{position}[i]"),
                };
                (name, value.data_type)
            })
            .collect();
        expression::print(&step.expression, &names)
    }

    /// Reads what is the same for all rows into registers.
    pub(super) fn reads(&self, step: &Step, elements: usize) -> String {
        let mut text = String::new();
        let channel = format!("channel<{elements}>(place.t, i)");
        let (slice, channel) = match self.in_slice {
            None => (String::new(), channel),
            Some(elements) => {
                let slice = format!("{elements} * slice + ");
                let channel = format!("({slice}{channel})");
                (slice, channel)
            }
        };
        for (position, operand) in step.operands.iter().enumerate() {
            if self.planned.program.values[operand.value.index()].per_row {
                continue;
            }
            let stride = stride(step, operand);
            let element = |index: &str| Printer::element(self.planned, operand.value, index);
            let _ = match self.planned.layout.places[operand.value.index()] {
                _ if stride == 0 => {
                    writeln!(text, "const number a{position} = {};", element(&operand.offset.to_string()))
                }
                Some(Place::Shared(start)) if stride == 1 && (start + operand.offset).is_multiple_of(4) => writeln!(
                    text,
                    "number a{position}[{}];\nread_elements<{elements}>(a{position}, shared + {slice}{}, place);",
                    elements / 4,
                    start + operand.offset
                ),
                _ => writeln!(
                    text,
                    "number a{position}[{}];\n#pragma unroll\nfor (int i = 0; i < {}; ++i) a{position}[i] = {};",
                    elements / 4,
                    elements / 4,
                    element(&index(operand.offset, &[(&channel, stride)]))
                ),
            };
        }
        text
    }

    /// The loops over a lane's elements of both of its rows.
    pub(super) fn over(&mut self, elements: usize, reads: &str, inner: &str) {
        let rows = format!("#pragma unroll\nfor (int h = 0; h < 2; ++h) {{\n{inner}}}\n");
        let _ = match elements {
            1 => write!(self.text, "{{\n{reads}{rows}}}\n"),
            _ => write!(
                self.text,
                "{{\n{reads}#pragma unroll\nfor (int i = 0; i < {}; ++i) {{\n{rows}}}\n}}\n",
                elements / 4
            ),
        };
    }
}

/// Elements that an operand moves along the one axis of a step that fits fragments.
fn stride(step: &Step, operand: &Operand) -> usize {
    let sizes = step.shape.0.iter().chain(&step.reduced.0);
    sizes.zip(&operand.strides).filter(|(size, _)| **size != 1).map(|(_, stride)| *stride).last().unwrap_or(0)
}
