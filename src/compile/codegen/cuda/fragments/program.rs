//! Prints what a program does with rows in fragments. `fragments.cu` has the functions that the text calls.

use super::{Form, Fragments, Scaled, Sum};
use crate::compile::codegen::cuda::expression;
use crate::compile::codegen::cuda::memory::Place;
use crate::compile::codegen::cuda::plan::Planned;
use crate::compile::codegen::cuda::program::{note, row_name};
use crate::compile::codegen::cuda::step::Printer;
use crate::compile::{Destination, Expression, Operand, Pass, Reducer, Source, Step, ValueId};
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
    /// Values of which rows and elements were exchanged.
    turned: BTreeSet<ValueId>,
}

impl<'a> Rows<'a> {
    pub fn new(planned: &'a Planned, fragments: &'a Fragments, pass: Pass) -> Self {
        let weights = planned.layout.numbers;
        Rows {
            planned,
            fragments,
            pass,
            weights,
            text: String::new(),
            operands: BTreeSet::new(),
            turned: BTreeSet::new(),
        }
    }

    /// The first rows are on their way while parameters are made ready; those of the watched input were sent for before.
    pub fn first_fetch(&mut self) -> String {
        self.text += "const Place place = ahead.place;\n\
                      const long long step = rows_of_grid();\n\
                      long long first = ahead.first, next = ahead.next;\n\
                      Watching watching;\n";
        for (number, input) in self.inputs() {
            let name = row_name(input);
            if self.watched() == Some(input) {
                let _ = writeln!(self.text, "Walk& walk_{name} = ahead.walk_watched;");
                continue;
            }
            let _ = write!(
                self.text,
                "Walk walk_{name} = walk(launch.{name}, seed, first, launch.rows, place);\n\
                 #pragma unroll\nfor (int early = 0; early < STAGES - 1; ++early)\n\
                 fetch(early, {number}, walk_{name}, launch.{name}, seed, first + early * step, launch.rows, place);\n"
            );
        }
        if self.pass == Pass::Train {
            self.text += "next += (STAGES - 1) * step;\n";
        }
        self.text += "end_of_first_stages();\n";
        if self.has_output() {
            self.text += "Walk walk_output = walk(launch.output, seed, first, launch.rows, place);\n";
        }
        self.take()
    }

    /// Puts the factors of contractions where the tensor cores' loads find them.
    pub fn weights(&mut self) -> String {
        for weight in &self.fragments.weights {
            let (inner, outer, start) = (weight.inner, weight.outer, self.weights + weight.start);
            let element = |further: usize| {
                let index = index(weight.offset + further * weight.inner_stride, &[("at", 1)]);
                Printer::element(self.planned, weight.value, &index)
            };
            let (inner_stride, outer_stride) = (weight.inner_stride, weight.outer_stride);
            let _ = write!(
                self.text,
                "// v{} [{inner}, {outer}] as a factor\n\
                 #pragma unroll 4\nfor (int item = threadIdx.x; item < FACTORS<{inner}, {outer}>; item += THREADS) {{\n\
                 const Factor of = factor<{inner}, {outer}>(item);\n\
                 const int at = of.row * {inner_stride} + of.column * {outer_stride};\n\
                 if (of.exists) keep_factor(shared + {start}, item, {}, {});\n",
                weight.value.0,
                element(0),
                element(1),
            );
            // Only of 16-bit types, whose products take 16 elements at a time.
            if !inner.is_multiple_of(16) {
                let _ = writeln!(self.text, "else keep_factor(shared + {start}, item, 0, 0);");
            }
            self.text += "}\n";
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
    ///
    /// What is known of a row is used at once, so that few values live for long: guards and sums to one number follow the
    /// step that completes them, and the other sums, which need to know the rows that are alive, come last.
    pub fn rows(&mut self) -> String {
        self.text += "#pragma unroll 1\n\
                      for (int stage = 0; first < launch.rows; first += step, next += step, stage = stage + 1 == STAGES ? 0 : stage + 1) {\n\
                      if (next < launch.rows) {\n\
                      const int free = stage == 0 ? STAGES - 1 : stage - 1;\n";
        self.fetches("free");
        self.text += "}\n\
                      end_of_stage();\n\
                      wait_for_stages<STAGES - 1>();\n\
                      const Existing exists(first, launch.rows, place);\n\
                      bool alive[2] = {exists.row[0], exists.row[1]};\n";
        for (number, input) in self.inputs() {
            let _ = writeln!(self.text, "Tile {} = take(stage, {number});", row_name(input));
        }
        if let Some(input) = self.watched() {
            let (name, watch) = (row_name(input), if self.pass == Pass::Forward { "EVERYTHING" } else { "GRADIENT" });
            let _ = writeln!(self.text, "watch_tile<{watch}>(watching, seen, {name}, exists, place);\nforget({name});");
        }
        for (value, input) in self.rows_read() {
            let _ = writeln!(self.text, "const Fragment<CHUNK> v{} = numbers_of({});", value.0, row_name(input));
        }
        let mut known: BTreeSet<ValueId> = self.rows_read().into_iter().map(|(value, _)| value).collect();
        self.what_is_known(&known, None);
        for (step, form) in self.planned.program.body.iter().zip(&self.fragments.body) {
            if !self.fragments.is_inline(step.result) {
                self.step(step, form);
            }
            known.insert(step.result);
            self.what_is_known(&known, Some(step.result));
        }
        if !self.planned.program.guards.is_empty() && self.pass != Pass::Backward {
            self.text += "if (place.t == 0) seen.fallback_rows += (exists.row[0] && !alive[0]) + (exists.row[1] && !alive[1]);\n";
        }
        self.text += "const bool whole = __all_sync(0xffffffffu, alive[0] && alive[1]);\n";
        self.output();
        for (position, (step, sum)) in self.sums().enumerate() {
            self.sum(position, step, sum);
        }
        self.text += "}\nfinish(watching, seen, place);\n";
        self.take()
    }

    /// Sends for the tiles that the walks have come to.
    fn fetches(&mut self, stage: &str) {
        for (number, input) in self.inputs() {
            let name = row_name(input);
            let _ = writeln!(
                self.text,
                "fetch({stage}, {number}, walk_{name}, launch.{name}, seed, next, launch.rows, place);"
            );
        }
    }

    /// The guards and single sums that the newest value completes; `None` for those of the inputs.
    fn what_is_known(&mut self, known: &BTreeSet<ValueId>, newest: Option<ValueId>) {
        for &guard in &self.planned.program.guards {
            let is_new = newest.map_or(known.contains(&guard), |newest| newest == guard);
            if is_new {
                let _ = writeln!(self.text, "keep_representable(alive, v{}, place);", guard.0);
            }
        }
        for (position, (step, sum)) in self.sums().enumerate() {
            let Sum::Single(elements) = sum else { continue };
            let rows = || step.reads().filter(|value| self.planned.program.values[value.index()].per_row);
            let completes = |value: ValueId| newest.is_none_or(|newest| newest == value);
            let has_rows = rows().next().is_some();
            let is_new = rows().all(|value| known.contains(&value))
                && if has_rows { rows().any(completes) } else { newest.is_none() };
            if is_new {
                self.text += &note(step, ", summed over rows");
                let _ = writeln!(self.text, "number of_row_{position}[2] = {{}};");
                let reads = self.reads(step, *elements);
                let add = format!("of_row_{position}[h] += {};\n", self.term(step));
                self.over(*elements, &reads, &add);
            }
        }
    }

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
                let (value, scale) = self.unscaled(step.operands[*operand].value);
                let factor = self.operand(value);
                let (inner, outer, start) = (weight.inner, weight.outer, self.weights + weight.start);
                let product = format!("contract<{inner}, {outer}>({factor}, shared + {start}, place)");
                let product = match scale {
                    Some(scale) => format!("scaled({product}, {scale})"),
                    None => product,
                };
                let _ = writeln!(self.text, "const Fragment<{outer}> v{result} = {product};");
            }
        }
    }

    fn output(&mut self) {
        for output in self.planned.program.outputs.iter().filter(|output| output.target == Destination::Row) {
            let _ = writeln!(
                self.text,
                "Tile result = tile_of(v{});\n\
                 if (!whole) restore(result, {}, alive);\n\
                 put(walk_output, launch.output, seed, first, result, exists, place);",
                output.value.0,
                row_name(self.planned.program.fallback)
            );
        }
    }

    fn sum(&mut self, position: usize, step: &Step, sum: &Sum) {
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

    /// What a value is a multiple of, and by what, if it is computed where it is read.
    fn unscaled(&self, value: ValueId) -> (ValueId, Option<String>) {
        match self.fragments.inline.get(&value) {
            Some(Scaled { row, scale, offset }) => {
                (*row, Some(Printer::element(self.planned, *scale, &offset.to_string())))
            }
            None => (value, None),
        }
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

    fn declare(&mut self, value: ValueId) {
        let _ = match self.planned.program.values[value.index()].elements {
            1 => writeln!(self.text, "number v{}[2];", value.0),
            elements => writeln!(self.text, "Fragment<{elements}> v{};", value.0),
        };
    }

    /// The element of a value of each row that the loops of [`Self::over`] have come to.
    fn name(&self, value: ValueId) -> String {
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
    fn term(&self, step: &Step) -> String {
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
        let _ = match elements {
            1 => write!(self.text, "{{\n{reads}{rows}}}\n"),
            _ => write!(
                self.text,
                "{{\n{reads}#pragma unroll\nfor (int i = 0; i < {}; ++i) {{\n{rows}}}\n}}\n",
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

    /// The input that telemetry watches.
    fn watched(&self) -> Option<RowInput> {
        match self.pass {
            Pass::Forward => Some(RowInput::X),
            Pass::Backward => Some(RowInput::OutputGradient),
            Pass::Train => None,
        }
    }

    /// The row inputs that are fetched, each once, and their numbers in a stage: the watched one is the first.
    fn inputs(&self) -> Vec<(usize, RowInput)> {
        let watched = self.watched().into_iter();
        let mut inputs: Vec<RowInput> = watched.chain(self.rows_read().into_iter().map(|(_, input)| input)).collect();
        let mut seen = Vec::new();
        inputs.retain(|input| {
            !seen.contains(input) && {
                seen.push(*input);
                true
            }
        });
        inputs.into_iter().enumerate().collect()
    }

    /// The values that are rows of an input.
    fn rows_read(&self) -> Vec<(ValueId, RowInput)> {
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
