//! Prints what a program does with rows in fragments. `fragments.cu` has the functions that the text calls.

use super::{Form, Fragments, Sum};
use crate::compile::codegen::cuda::expression;
use crate::compile::codegen::cuda::memory::Place;
use crate::compile::codegen::cuda::plan::Planned;
use crate::compile::codegen::cuda::program::{note, row_name};
use crate::compile::codegen::cuda::step::Printer;
use crate::compile::{Destination, Operand, Pass, Reducer, Source, Step, ValueId};
use crate::graph::RowInput;
use std::collections::BTreeSet;
use std::fmt::Write;

/// The printer of one program's rows.
pub(in crate::compile::codegen::cuda) struct Rows<'a> {
    planned: &'a Planned,
    fragments: &'a Fragments,
    pass: Pass,
    /// Where the weights begin in shared memory.
    weights: usize,
    text: String,
    /// Values that were made operands of the tensor cores.
    operands: BTreeSet<ValueId>,
}

impl<'a> Rows<'a> {
    pub fn new(planned: &'a Planned, fragments: &'a Fragments, pass: Pass) -> Self {
        let weights = planned.layout.numbers;
        Rows { planned, fragments, pass, weights, text: String::new(), operands: BTreeSet::new() }
    }

    /// The first rows are on their way while parameters are made ready.
    pub fn first_fetch(&mut self) -> String {
        self.text += "const Place place = place_of_lane();\n\
                      long long first = first_of_warp();\n";
        for (_, input) in self.inputs() {
            let name = row_name(input);
            let _ = writeln!(
                self.text,
                "const Access access_{name} = access_to(launch.{name}, launch.rows);\n\
                 Tile next_{name} = fetch(launch.{name}, access_{name}, seed, first, launch.rows, place);"
            );
        }
        if self.has_output() {
            self.text += "const Access access_output = access_to(launch.output, launch.rows);\n";
        }
        self.take()
    }

    /// Puts the factors of contractions where the tensor cores' loads find them.
    pub fn weights(&mut self) -> String {
        for weight in &self.fragments.weights {
            let (inner, outer, start) = (weight.inner, weight.outer, self.weights + weight.start);
            let element = |inner: &str| {
                let index = index(weight.offset, &[(inner, weight.inner_stride), ("at.column", weight.outer_stride)]);
                Printer::element(self.planned, weight.value, &index)
            };
            let _ = write!(
                self.text,
                "// v{} [{inner}, {outer}] as a factor\n\
                 for (int item = threadIdx.x; item < FACTORS<{inner}, {outer}>; item += THREADS) {{\n\
                 const Factor at = factor<{inner}, {outer}>(item);\n\
                 if (at.exists) keep_factor(shared + {start}, item, {}, {});\n\
                 else keep_factor(shared + {start}, item, 0, 0);\n}}\n",
                weight.value.0,
                element("at.row"),
                element("(at.row + 1)"),
            );
        }
        for (position, (step, sum)) in self.sums().enumerate() {
            match sum {
                Sum::Single(_) => {}
                Sum::Elements => {
                    let _ = writeln!(self.text, "number sum_{position}[{}] = {{}};", step.shape.elements() / 4);
                }
                Sum::Products { left, right } => {
                    let (left, right) = (self.elements(&step.operands[*left]), self.elements(&step.operands[*right]));
                    let _ = writeln!(self.text, "Products<{left}, {right}> sum_{position} = {{}};");
                }
            }
        }
        self.take()
    }

    /// The loop over tiles of rows.
    pub fn rows(&mut self) -> String {
        self.text += "for (; first < launch.rows; first += rows_of_grid()) {\n\
                      const Existing exists(first, launch.rows, place);\n";
        for (value, input) in self.inputs() {
            let name = row_name(input);
            let _ = writeln!(self.text, "const Tile {name} = next_{name};");
            let _ = writeln!(
                self.text,
                "if (first + rows_of_grid() < launch.rows) next_{name} = fetch(launch.{name}, access_{name}, seed, first + rows_of_grid(), launch.rows, place);"
            );
            let watch = match (self.pass, input) {
                (Pass::Forward, RowInput::X) => Some("EVERYTHING"),
                (Pass::Backward, RowInput::OutputGradient) => Some("GRADIENT"),
                _ => None,
            };
            let _ = writeln!(self.text, "const Fragment<CHUNK> v{} = numbers_of({name});", value.0);
            if let Some(watch) = watch {
                let _ = writeln!(self.text, "observe_tile<{watch}>(seen, v{}, exists, place);", value.0);
            }
        }
        for (step, form) in self.planned.program.body.iter().zip(&self.fragments.body) {
            self.step(step, form);
        }
        self.guards();
        self.output();
        for (position, (step, sum)) in self.sums().enumerate() {
            self.sum(position, step, sum);
        }
        self.text += "}\n";
        self.take()
    }

    /// Adds the sums of all warps up in shared memory, in the order of the warps.
    pub fn sums_of_warps(&mut self) -> String {
        let mut turn = String::new();
        for (position, (step, sum)) in self.sums().enumerate() {
            let Some(Place::Shared(start)) = self.planned.layout.places[step.result.index()] else { continue };
            let elements = step.shape.elements();
            match sum {
                Sum::Single(_) => {}
                Sum::Elements => {
                    let _ = writeln!(turn, "add_elements<{elements}>(shared + {start}, sum_{position}, place);");
                }
                Sum::Products { .. } => {
                    let _ = writeln!(turn, "add_products(shared + {start}, sum_{position}, place);");
                }
            }
        }
        if !turn.is_empty() {
            let _ = write!(
                self.text,
                "for (int warp = 0; warp < WARPS; ++warp) {{\n\
                 __syncthreads();\nif (threadIdx.x / 32 == warp) {{\n{turn}}}\n}}\n"
            );
        }
        self.take()
    }

    fn step(&mut self, step: &Step, form: &Form) {
        self.text += &note(step, " per row");
        let result = step.result.0;
        match form {
            Form::Map => {
                let elements = step.shape.elements();
                self.declare(step.result);
                let term = self.term(step);
                let reads = self.reads(step, elements);
                let target = self.name(step.result);
                self.over(elements, &reads, &format!("{target} = {term};\n"));
            }
            Form::Reduction(elements) => {
                let start = match step.reducer {
                    Reducer::Sum => "0",
                    Reducer::Max => "lowest()",
                    Reducer::Min => "(-lowest())",
                };
                let _ = writeln!(self.text, "number v{result}[2] = {{{start}, {start}}};");
                let total = format!("v{result}[h]");
                let term = self.combine(step.reducer, &total, &self.term(step));
                let reads = self.reads(step, *elements);
                self.over(*elements, &reads, &term);
                let other = |distance: usize| format!("__shfl_xor_sync(0xffffffffu, {total}, {distance})");
                let combine: String =
                    [1, 2].map(|distance| self.combine(step.reducer, &total, &other(distance))).concat();
                let _ = write!(self.text, "#pragma unroll\nfor (int h = 0; h < 2; ++h) {{\n{combine}}}\n");
            }
            Form::Contraction { operand, weights } => {
                let weight = &self.fragments.weights[*weights];
                let factor = self.operand(step.operands[*operand].value);
                let _ = writeln!(
                    self.text,
                    "const Fragment<{outer}> v{result} = contract<{inner}, {outer}>({factor}, shared + {start}, place);",
                    outer = weight.outer,
                    inner = weight.inner,
                    start = self.weights + weight.start,
                );
            }
        }
    }

    /// A row that falls back, or does not exist, adds nothing and keeps the bits of the fallback.
    fn guards(&mut self) {
        self.text += "bool alive[2] = {exists.row[0], exists.row[1]};\n";
        for guard in &self.planned.program.guards {
            let _ = writeln!(self.text, "keep_representable(alive, v{}, place);", guard.0);
        }
        if !self.planned.program.guards.is_empty() && self.pass != Pass::Backward {
            self.text += "if (place.t == 0) seen.fallback_rows += (exists.row[0] && !alive[0]) + (exists.row[1] && !alive[1]);\n";
        }
    }

    fn output(&mut self) {
        for output in self.planned.program.outputs.iter().filter(|output| output.target == Destination::Row) {
            let _ = writeln!(
                self.text,
                "put(launch.output, access_output, seed, first, tile_of(v{}, {}, alive), exists, place);",
                output.value.0,
                row_name(self.planned.program.fallback)
            );
        }
    }

    fn sum(&mut self, position: usize, step: &Step, sum: &Sum) {
        self.text += &note(step, ", summed over rows");
        match sum {
            Sum::Single(elements) => {
                let reads = self.reads(step, *elements);
                let add = format!("if (alive[h]) sum_{position} += {};\n", self.term(step));
                if *elements == 1 {
                    // The four lanes of a row have the same number.
                    self.text += "if (place.t == 0) {\n";
                    self.over(1, &reads, &add);
                    self.text += "}\n";
                } else {
                    self.over(*elements, &reads, &add);
                }
            }
            Sum::Elements => {
                let elements = step.shape.elements();
                let reads = self.reads(step, elements);
                let add = format!("if (alive[h]) sum_{position}[i] += {};\n", self.term(step));
                self.over(elements, &reads, &add);
            }
            Sum::Products { left, right } => {
                let [left, right] = [left, right].map(|&operand| {
                    let value = step.operands[operand].value;
                    let operand = self.operand(value);
                    format!("living({operand}, alive)")
                });
                let _ = writeln!(self.text, "multiply_rows(sum_{position}, {left}, {right});");
            }
        }
    }

    /// A value as an operand of the tensor cores; made where it is first wanted.
    fn operand(&mut self, value: ValueId) -> String {
        if self.operands.insert(value) {
            let made_of = match self.planned.program.values[value.index()].source {
                Source::Row(input) => row_name(input).to_string(),
                _ => format!("v{}", value.0),
            };
            let _ = writeln!(self.text, "const auto operand_{} = operand_of({made_of});", value.0);
        }
        format!("operand_{}", value.0)
    }

    fn declare(&mut self, value: ValueId) {
        let _ = match self.planned.program.values[value.index()].elements {
            1 => writeln!(self.text, "number v{}[2];", value.0),
            elements => writeln!(self.text, "Fragment<{elements}> v{};", value.0),
        };
    }

    /// The element of a value of each row that the loops of [`Self::over`] have come to.
    fn name(&self, value: ValueId) -> String {
        match self.planned.program.values[value.index()].elements {
            1 => format!("v{}[h]", value.0),
            _ => format!("v{}.rows[h][i]", value.0),
        }
    }

    /// The expression of a step, of the names that [`Self::reads`] declares and [`Self::name`] gives.
    fn term(&self, step: &Step) -> String {
        let names: Vec<expression::Name> = step
            .operands
            .iter()
            .enumerate()
            .map(|(position, operand)| {
                let value = &self.planned.program.values[operand.value.index()];
                let name = match value.source {
                    Source::Random(_) => {
                        let Some(Place::Random(stream)) = self.planned.layout.places[operand.value.index()] else {
                            return ("not_a_number()".into(), value.data_type);
                        };
                        let at = index(operand.offset, &[("element", stride(step, operand))]);
                        format!(
                            "(launch.random ? random_number(key, first + place.g + 8 * h, {at}, seed, {stream}) : 0)"
                        )
                    }
                    _ if value.per_row => self.name(operand.value),
                    _ if stride(step, operand) == 0 => format!("a{position}"),
                    _ => format!("a{position}[i]"),
                };
                (name, value.data_type)
            })
            .collect();
        expression::print(&step.expression, &names)
    }

    /// Reads what is the same for all rows into registers.
    fn reads(&self, step: &Step, elements: usize) -> String {
        let mut text = String::new();
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
                    "number a{position}[{}];\nread_elements<{elements}>(a{position}, shared + {}, place);",
                    elements / 4,
                    start + operand.offset
                ),
                _ => writeln!(
                    text,
                    "number a{position}[{}];\n#pragma unroll\nfor (int i = 0; i < {}; ++i) a{position}[i] = {};",
                    elements / 4,
                    elements / 4,
                    element(&index(operand.offset, &[(&format!("channel<{elements}>(place.t, i)"), stride)]))
                ),
            };
        }
        text
    }

    /// The loops over a lane's elements of both of its rows.
    fn over(&mut self, elements: usize, reads: &str, inner: &str) {
        let rows = format!("#pragma unroll\nfor (int h = 0; h < 2; ++h) {{\n{inner}}}\n");
        let element = if inner.contains("element") {
            format!("const int element = channel<{elements}>(place.t, i);\n")
        } else {
            String::new()
        };
        let _ = match elements {
            1 => write!(self.text, "{{\n{reads}{rows}}}\n"),
            _ => write!(
                self.text,
                "{{\n{reads}#pragma unroll\nfor (int i = 0; i < {}; ++i) {{\n{element}{rows}}}\n}}\n",
                elements / 4
            ),
        };
    }

    fn combine(&self, reducer: Reducer, total: &str, term: &str) -> String {
        match reducer {
            Reducer::Sum => format!("{total} += {term};\n"),
            Reducer::Max => format!("{total} = maximum({total}, {term});\n"),
            Reducer::Min => format!("{total} = minimum({total}, {term});\n"),
        }
    }

    /// The row inputs that the program reads, in the order of the pass.
    fn inputs(&self) -> Vec<(ValueId, RowInput)> {
        let values = self.planned.program.values.iter().enumerate();
        values
            .filter_map(|(index, value)| match value.source {
                Source::Row(input) => Some((ValueId(index as u32), input)),
                _ => None,
            })
            .collect()
    }

    fn has_output(&self) -> bool {
        self.planned.program.outputs.iter().any(|output| output.target == Destination::Row)
    }

    fn sums(&self) -> impl Iterator<Item = (&'a Step, &'a Sum)> + use<'a> {
        let (planned, fragments) = (self.planned, self.fragments);
        planned.program.accumulate.iter().zip(&fragments.sums)
    }

    fn elements(&self, operand: &Operand) -> usize {
        self.planned.program.values[operand.value.index()].elements
    }

    fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

/// Elements that an operand moves along the one axis of a step that fits fragments.
fn stride(step: &Step, operand: &Operand) -> usize {
    let sizes = step.shape.0.iter().chain(&step.reduced.0);
    sizes.zip(&operand.strides).filter(|(size, _)| **size != 1).map(|(_, stride)| *stride).last().unwrap_or(0)
}

/// `start + sum(name * stride)`, without what is zero.
fn index(start: usize, terms: &[(&str, usize)]) -> String {
    let terms: Vec<(String, usize)> = terms.iter().map(|(name, stride)| ((*name).to_string(), *stride)).collect();
    crate::compile::codegen::cuda::step::index(start, &terms)
}
