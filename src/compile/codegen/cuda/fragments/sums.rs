//! Prints the sums over rows: what a warp adds up in registers, and how the warps of a block put theirs together.

use super::Sum;
use super::program::Rows;
use crate::compile::codegen::cuda::memory::Place;
use crate::compile::codegen::cuda::program::{await_turn, note, row_name};
use crate::compile::{Destination, Expression, Source, Step, ValueId};
use crate::graph::RowInput;
use std::collections::BTreeSet;
use std::fmt::Write;

impl Rows<'_> {
    /// Adds up the sums of all warps. Those that are gradients go by way of the memory that rows came through, where there is
    /// room for all warps; others to shared memory, in the same way or in the order of the warps. Gradients wait for the block's turn.
    pub fn sums_of_warps(&mut self) -> String {
        let wait = await_turn(self.class.pass);
        let (mut parts, mut totals, mut turns) = (String::new(), String::new(), String::new());
        let mut part = 0;
        for (position, (step, sum)) in self.sums().enumerate() {
            let elements = step.shape.elements();
            let (name, size) = match sum {
                Sum::Single(_) | Sum::ElementsAtOnce | Sum::ProductsAtOnce { .. } | Sum::Scratch => continue,
                Sum::Elements if self.are_rows(step) => ("keep_column", String::new()),
                Sum::Elements => ("keep_elements", format!(", {elements}")),
                Sum::Products { .. } => ("keep_products", String::new()),
            };
            let scale = self.scale_of(step, sum);
            let condition = if self.is_gradient(step, sum) { "if (gradient) " } else { "" };
            let _ = match self.planned.layout.places[step.result.index()] {
                Some(Place::Gradient(offset)) => {
                    writeln!(totals, "{condition}add_parts(gradient + {offset}, parts + {part}, PART, {elements});")
                }
                Some(Place::Shared(start)) => {
                    let _ = writeln!(
                        turns,
                        "{condition}{name}<true{size}>(shared + {start}, sum_{position}, {scale}, place);"
                    );
                    writeln!(totals, "{condition}keep_parts(shared + {start}, parts + {part}, PART, {elements});")
                }
                _ => continue,
            };
            let _ = writeln!(parts, "{condition}{name}<false{size}>(part + {part}, sum_{position}, {scale}, place);");
            part += elements;
        }
        if part > 0 {
            let all = format!(
                "number* const parts = reinterpret_cast<number*>(stages());\n\
                 number* const part = parts + threadIdx.x / 32 * PART;\n\
                 __syncthreads();\n{parts}__syncthreads();\n{wait}{totals}"
            );
            let _ = match turns.as_str() {
                "" => write!(self.text, "constexpr int PART = {part};\n{all}"),
                _ => write!(
                    self.text,
                    "constexpr int PART = {part};\n\
                     if constexpr (PART * WARPS * (int)sizeof(number) <= STAGE_BYTES) {{\n{all}}} else {{\n\
                     for (int warp = 0; warp < WARPS; ++warp) {{\n\
                     __syncthreads();\nif (threadIdx.x / 32 == warp) {{\n{turns}}}\n}}\n{wait}}}\n"
                ),
            };
        } else {
            self.text += wait;
        }
        self.sums_in_scratch();
        self.take()
    }

    /// Whether nothing comes of a sum but gradients of parameters, which frozen seeds do without. One number of each row is added
    /// up in any case.
    pub(super) fn is_gradient(&self, step: &Step, sum: &Sum) -> bool {
        let program = &self.planned.program;
        let others =
            program.outputs.iter().filter(|output| !matches!(output.target, Destination::ParameterGradient(_)));
        let mut needed: BTreeSet<ValueId> = others.map(|output| output.value).collect();
        for step in program.epilogue.iter().rev() {
            if needed.contains(&step.result) {
                needed.extend(step.reads());
            }
        }
        !matches!(sum, Sum::Single(_)) && !needed.contains(&step.result)
    }

    pub(super) fn sum(&mut self, position: usize, step: &Step, sum: &Sum) {
        if !matches!(sum, Sum::Single(_)) {
            self.text += &note(step, ", summed over rows");
        }
        match sum {
            Sum::Single(elements) => {
                // The four lanes of a row share its elements, but each of them has a number of the row.
                let once = if *elements == 1 { "place.t == 0 && " } else { "" };
                for h in 0..2 {
                    let _ = writeln!(self.text, "if ({once}alive[{h}]) sum_{position} += of_row_{position}[{h}];");
                }
            }
            Sum::Scratch => self.sum_in_scratch(position, step),
            Sum::Elements if self.are_rows(step) => {
                let rows = self.turned_operand(step, 0, true);
                let _ = writeln!(self.text, "sum_rows(sum_{position}, {rows});");
            }
            Sum::Elements => {
                self.elements_of_tile(position, step, step.shape.elements());
            }
            Sum::Products { left, right } => {
                let (left, right) = (self.turned_operand(step, *left, true), self.turned_operand(step, *right, false));
                let _ = writeln!(self.text, "multiply_rows(sum_{position}, {left}, {right});");
            }
            Sum::ElementsAtOnce => {
                let elements = self.in_slice.unwrap_or(step.shape.elements());
                let _ = writeln!(self.text, "number sum_{position}[{}] = {{}};", elements / 4);
                self.elements_of_tile(position, step, elements);
                let add = format!("add_elements<{elements}>(to, sum_{position}, {}, place);", self.scale_of(step, sum));
                self.add_at_once(step, 1, &add);
            }
            Sum::ProductsAtOnce { left, right } => {
                let columns = self.elements(&step.operands[*right]);
                let is_left = self.width(step.operands[*left].value) != self.elements(&step.operands[*left]);
                let (apart, scale) = (if is_left { columns } else { 1 }, self.scale_of(step, sum));
                if self.exchanges() {
                    return self.products_of_block(step, [*left, *right], apart, &scale);
                }
                let (left, right) = (self.turned_operand(step, *left, true), self.turned_operand(step, *right, false));
                let add = format!("add_products<{columns}>(to, {left}, {right}, {scale}, place);");
                self.add_at_once(step, apart, &add);
            }
        }
    }

    /// Adds up what a lane has of the elements of a tile.
    fn elements_of_tile(&mut self, position: usize, step: &Step, elements: usize) {
        let reads = self.reads(step, elements);
        let term = match self.row_of_elements(step) {
            Some((value, _)) => self.name(value),
            None => self.term(step),
        };
        let add = format!("if (alive[h]) sum_{position}[i] += {term};\n");
        self.over(elements, &reads, &add);
    }

    /// Adds to the gradient, which there is, what a tile or a slice of it has; slices lie so many numbers apart. A block that has all rows of its
    /// seed does so in the order of its warps.
    fn add_at_once(&mut self, step: &Step, apart: usize, add: &str) {
        let Some(Place::Gradient(offset)) = self.planned.layout.places[step.result.index()] else { return };
        let slice = self.of_slice(apart);
        let _ = write!(
            self.text,
            "#pragma unroll 1\n\
             for (int turn = 0; turn < (ahead.assignment.parts == 1 ? WARPS : 1); ++turn) {{\n\
             if (ahead.assignment.parts == 1) __syncthreads();\n\
             if (ahead.assignment.parts > 1 || threadIdx.x / 32 == turn) {{\n\
             number* const to = gradient + {offset}{slice};\n{add}\n}}\n}}\n"
        );
    }

    pub(super) fn turned_operand(&mut self, step: &Step, operand: usize, is_left: bool) -> String {
        let (value, _) = self.unscaled(step.operands[operand].value);
        match self.planned.program.values[value.index()].source {
            Source::Row(input) if self.class.data_type.bytes() == 2 => self.turned_rows(value, input, is_left),
            _ => self.turned(value),
        }
    }

    /// Rows with rows and elements exchanged, as they come out of shared memory for the left or the right of a product.
    fn turned_rows(&mut self, value: ValueId, input: RowInput, is_left: bool) -> String {
        let name = format!("turned_{}_{}", value.0, if is_left { "left" } else { "right" });
        if self.turned.insert((value, is_left)) {
            let rows = row_name(input);
            let _ = writeln!(
                self.text,
                "auto {name} = turned_tile<{is_left}>(rows_of_{rows});\n\
                 if (!whole) {name} = turned_living(take(rows_of_{rows}, place), alive);"
            );
        }
        name
    }

    /// A value with rows and elements exchanged, zeros where a row is not alive; made where it is first wanted.
    fn turned(&mut self, value: ValueId) -> String {
        let operand = self.operand(value);
        if self.turned.insert((value, true)) {
            let _ = writeln!(
                self.text,
                "auto living_{id} = {operand};\nif (!whole) clear_dead(living_{id}, alive);\n\
                 const auto turned_{id} = turned(living_{id});",
                id = value.0
            );
        }
        format!("turned_{}", value.0)
    }

    /// What the sums of an accumulate step are to be multiplied by in the end.
    fn scale_of(&self, step: &Step, sum: &Sum) -> String {
        let factors: Vec<String> = match sum {
            Sum::Products { left, right } | Sum::ProductsAtOnce { left, right } => {
                [left, right].into_iter().filter_map(|&operand| self.unscaled(step.operands[operand].value).1).collect()
            }
            Sum::Elements | Sum::ElementsAtOnce => {
                self.row_of_elements(step).and_then(|(_, scale)| scale).into_iter().collect()
            }
            Sum::Single(_) | Sum::Scratch => Vec::new(),
        };
        if factors.is_empty() { "1".into() } else { factors.join(" * ") }
    }

    /// Whether a sum is of rows as they lie, of 16 bits: those are summed on the tensor cores.
    pub(super) fn are_rows(&self, step: &Step) -> bool {
        let is_row = |value: ValueId| matches!(self.planned.program.values[value.index()].source, Source::Row(_));
        self.class.data_type.bytes() == 2 && self.row_of_elements(step).is_some_and(|(value, _)| is_row(value))
    }

    /// The value whose elements an accumulate step adds up as they are, and what they are to be multiplied by.
    fn row_of_elements(&self, step: &Step) -> Option<(ValueId, Option<String>)> {
        let value = step.operands.first()?.value;
        let is_row = self.planned.program.values[value.index()].per_row;
        (step.expression == Expression::Operand(0) && is_row).then(|| self.unscaled(value))
    }
}
