//! Prints the sums over rows: what a warp adds up in registers, and how the warps of a block put theirs together.

use super::Sum;
use super::program::Rows;
use crate::compile::codegen::cuda::memory::Place;
use crate::compile::codegen::cuda::program::note;
use crate::compile::{Expression, Step, ValueId};
use std::fmt::Write;

impl Rows<'_> {
    /// Adds the sums of all warps up in shared memory, in the order of the warps: all at once where there is room for a part
    /// of each warp, else in turns.
    pub fn sums_of_warps(&mut self) -> String {
        let (mut parts, mut total, mut turn) = (String::new(), String::new(), String::new());
        let mut part = 0;
        for (position, (step, sum)) in self.sums().enumerate() {
            let Some(Place::Shared(start)) = self.planned.layout.places[step.result.index()] else { continue };
            let elements = step.shape.elements();
            let (name, size) = match sum {
                Sum::Single(_) => continue,
                Sum::Elements => ("keep_elements", format!(", {elements}")),
                Sum::Products { .. } => ("keep_products", String::new()),
            };
            let scale = self.scale_of(step, sum);
            let _ = writeln!(parts, "{name}<false{size}>(part + {part}, sum_{position}, {scale}, place);");
            let _ = writeln!(total, "add_parts(shared + {start}, parts + {part}, {elements}, PART);");
            let _ = writeln!(turn, "{name}<true{size}>(shared + {start}, sum_{position}, {scale}, place);");
            part += elements;
        }
        if part > 0 {
            let _ = write!(
                self.text,
                "constexpr int PART = {part};\n\
                 if constexpr (PART * WARPS * (int)sizeof(number) <= STAGE_BYTES) {{\n\
                 number* const parts = reinterpret_cast<number*>(stages());\n\
                 number* const part = parts + threadIdx.x / 32 * PART;\n\
                 __syncthreads();\n{parts}__syncthreads();\n{total}}} else {{\n\
                 for (int warp = 0; warp < WARPS; ++warp) {{\n\
                 __syncthreads();\nif (threadIdx.x / 32 == warp) {{\n{turn}}}\n}}\n}}\n"
            );
        }
        self.take()
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
            Sum::Elements => {
                let elements = step.shape.elements();
                let reads = self.reads(step, elements);
                let term = match self.row_of_elements(step) {
                    Some((value, _)) => self.name(value),
                    None => self.term(step),
                };
                let add = format!("if (alive[h]) sum_{position}[i] += {term};\n");
                self.over(elements, &reads, &add);
            }
            Sum::Products { left, right } => {
                let [left, right] = [left, right].map(|&operand| {
                    let (value, _) = self.unscaled(step.operands[operand].value);
                    self.turned(value)
                });
                let _ = writeln!(self.text, "multiply_rows(sum_{position}, {left}, {right});");
            }
        }
    }

    /// A value with rows and elements exchanged, zeros where a row is not alive; made where it is first wanted.
    fn turned(&mut self, value: ValueId) -> String {
        let operand = self.operand(value);
        if self.turned.insert(value) {
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
            Sum::Products { left, right } => {
                [left, right].into_iter().filter_map(|&operand| self.unscaled(step.operands[operand].value).1).collect()
            }
            Sum::Elements => self.row_of_elements(step).and_then(|(_, scale)| scale).into_iter().collect(),
            Sum::Single(_) => Vec::new(),
        };
        if factors.is_empty() { "1".into() } else { factors.join(" * ") }
    }

    /// The value whose elements an accumulate step adds up as they are, and what they are to be multiplied by.
    fn row_of_elements(&self, step: &Step) -> Option<(ValueId, Option<String>)> {
        let value = step.operands.first()?.value;
        let is_row = self.planned.program.values[value.index()].per_row;
        (step.expression == Expression::Operand(0) && is_row).then(|| self.unscaled(value))
    }
}
