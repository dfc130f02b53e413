//! Prints a program: prologue, loop over tiles of rows, epilogue, and the waits between steps.

use super::fragments;
use super::hazards::{Access, Hazards};
use super::loops::{Loops, over_rows};
use super::memory::{Place, extent, is_single, pitch};
use super::plan::{Plan, Planned};
use super::step::Printer;
use crate::compile::{Condition, Destination, KernelClass, Pass, Source, Step, ValueId};
use crate::graph::{RowInput, Scalar};
use std::fmt::Write;

/// The function of one program.
pub(super) fn print(class: &KernelClass, number: usize, planned: &Planned, plan: &Plan) -> String {
    let (tile, threads) = (plan.tiling.rows.into(), plan.shape.threads);
    let mut writer = Writer { text: String::new(), planned, tile, threads, hazards: Hazards::default() };
    let frozen = number >= class.programs.len();
    let branch = if frozen { number - class.programs.len() } else { number };
    writer.head(number, branch, frozen);
    match &planned.fragments {
        None => {
            writer.before_rows();
            writer.rows(class);
            writer.text += await_turn(class.pass);
        }
        Some(fragments) => {
            let mut rows = fragments::Rows::new(class, planned, fragments);
            writer.text += &rows.first_fetch();
            // Weights that are parameters wait for nothing.
            if rows.weights_are_parameters() {
                writer.text += &rows.weights();
                writer.before_rows();
            } else {
                writer.before_rows();
                writer.wait();
                writer.text += &rows.weights();
            }
            writer.wait();
            writer.text += &rows.rows();
            writer.text += &rows.sums_of_warps();
        }
    }
    writer.after_rows();
    writer.text += "}\n";
    indent(&writer.text)
}

struct Writer<'a> {
    text: String,
    planned: &'a Planned,
    tile: usize,
    threads: usize,
    hazards: Hazards,
}

impl Writer<'_> {
    fn head(&mut self, number: usize, branch: usize, frozen: bool) {
        let what = if frozen { ", parameters frozen" } else { "" };
        let _ = write!(
            self.text,
            "// Branch {branch}{what}.\n\
             static __device__ void program_{number}(const Launch& launch, int seed, const Selection& selection, Ahead& ahead, Observed& seen) {{\n\
             number* const shared = numbers();\n\
             const Bank& bank = launch.banks[{branch}];\n\
             const long long start = selection.slot * bank.size;\n\
             const Parameters parameters = {{bank.parameters + start}};\n\
             number* const gradient = bank.gradient && selection.program < PROGRAMS ? bank.gradient + start : nullptr;\n\
             const number alpha = selection.alpha;\n\
             const number loss_scale = (number)launch.loss_scale;\n\
             const int row = threadIdx.x % TILE, group = threadIdx.x / TILE;\n"
        );
        let has = |wanted: fn(&Source) -> bool| self.planned.program.values.iter().any(|value| wanted(&value.source));
        if has(|source| *source == Source::Scalar(Scalar::Dropout)) {
            self.text += "const number dropout = launch.random ? 1 : 0;\n";
        }
        if has(|source| matches!(source, Source::Random(_))) {
            self.text += "const natural key = launch.random ? *launch.random + launch.random_offset : 0;\n";
        }
    }

    fn before_rows(&mut self) {
        let program = &self.planned.program;
        for (index, value) in program.values.iter().enumerate() {
            if let (Source::Parameter(offset), Some(Place::Shared(start))) =
                (value.source, self.planned.layout.places[index])
            {
                let count = value.elements;
                self.touch(vec![self.access(ValueId(index as u32), true, false)]);
                let _ = writeln!(self.text, "read_in<{count}>(shared + {start}, parameters, {offset});");
            }
        }
        for step in &program.prologue {
            self.uniform_step(step);
        }
        for (position, step) in program.accumulate.iter().enumerate() {
            if is_single(step) {
                let _ = writeln!(self.text, "number sum_{position} = 0;");
            } else if let Some(Place::Shared(start)) = self.planned.layout.places[step.result.index()] {
                let count = step.shape.elements();
                self.touch(vec![self.access(step.result, true, false)]);
                let _ = writeln!(self.text, "clear(shared + {start}, {count});");
            }
        }
    }

    fn rows(&mut self, class: &KernelClass) {
        let program = &self.planned.program;
        self.text += "for (long long first = (long long)ahead.assignment.part * TILE; first < launch.rows; first += (long long)ahead.assignment.parts * TILE) {\n\
                      const int valid = launch.rows - first < TILE ? (int)(launch.rows - first) : TILE;\n";
        self.wait();
        let mut watched = class.pass.watched();
        for (index, value) in program.values.iter().enumerate() {
            if let (Source::Row(input), Some(Place::Shared(start))) = (value.source, self.planned.layout.places[index])
            {
                let watch = watched.take_if(|watched| *watched == input).map_or("NOTHING", |_| watch(class.pass));
                let rows = row_name(input);
                let _ = writeln!(
                    self.text,
                    "load_tile<{watch}>(shared + {start}, launch.{rows}, seed, first, valid, seen);"
                );
            }
        }
        self.text += "if (threadIdx.x < TILE) fallen()[threadIdx.x] = (int)threadIdx.x >= valid;\n\
                      if (threadIdx.x == 0) seen.count += (long long)valid * CHUNK;\n";
        self.wait();
        for step in &program.body {
            self.row_step(step);
        }
        for &guard in &program.guards {
            self.touch(vec![self.access(guard, false, true)]);
            let Some(Place::Shared(start)) = self.planned.layout.places[guard.index()] else { continue };
            let count = program.values[guard.index()].elements;
            let _ = writeln!(self.text, "guard(shared + {start}, {count});");
        }
        if !program.guards.is_empty() {
            self.wait();
            if class.pass != Pass::Backward {
                self.text += "if ((int)threadIdx.x < valid && fallen()[threadIdx.x]) ++seen.fallback_rows;\n";
            }
        }
        for output in program.outputs.iter().filter(|output| output.target == Destination::Row) {
            self.touch(vec![self.access(output.value, false, false)]);
            let Some(Place::Shared(start)) = self.planned.layout.places[output.value.index()] else { continue };
            let fallback = row_name(program.fallback);
            let _ = writeln!(
                self.text,
                "store_tile(shared + {start}, launch.output, launch.{fallback}, seed, first, valid);"
            );
        }
        if !program.accumulate.is_empty() {
            self.text += "const unsigned alive = alive_rows();\n";
        }
        for (position, step) in program.accumulate.iter().enumerate() {
            self.sum_step(position, step);
        }
        self.text += "}\n";
    }

    fn after_rows(&mut self) {
        let program = &self.planned.program;
        if program.accumulate.is_empty() {
            return;
        }
        self.wait();
        for (position, step) in program.accumulate.iter().enumerate().filter(|(_, step)| is_single(step)) {
            if let Some(Place::Shared(start)) = self.planned.layout.places[step.result.index()] {
                let _ = writeln!(self.text, "block_sum(sum_{position}, shared + {start});");
            }
        }
        self.wait();
        for step in &program.epilogue {
            self.uniform_step(step);
        }
        for output in &program.outputs {
            let value = output.value;
            let count = program.values[value.index()].elements;
            let element = |index: &str| Printer::element(self.planned, value, index);
            let line = match output.target {
                Destination::Row => continue,
                Destination::ParameterGradient(_)
                    if matches!(self.planned.layout.places[value.index()], Some(Place::Gradient(_))) =>
                {
                    continue;
                }
                Destination::ParameterGradient(offset) => match self.planned.layout.places[value.index()] {
                    Some(Place::Shared(start)) => {
                        format!("if (gradient) add_to(gradient + {offset}, shared + {start}, {count});")
                    }
                    _ => format!(
                        "if (gradient) for (int i = threadIdx.x; i < {count}; i += THREADS) atomicAdd(gradient + {offset} + i, {});",
                        element("i")
                    ),
                },
                Destination::AlphaGradient => format!(
                    "if (threadIdx.x == 0 && launch.alpha_gradient) atomicAdd(launch.alpha_gradient + seed, (float){});",
                    element("0")
                ),
                Destination::Loss => format!(
                    "if (threadIdx.x == 0 && launch.loss) atomicAdd(launch.loss + 2ll * seed, (double){});\n\
                     if (threadIdx.x == 0 && launch.loss && ahead.assignment.part == 0) atomicAdd(launch.loss + 2ll * seed + 1, 1.0);",
                    element("0")
                ),
            };
            self.touch(vec![self.access(value, false, false)]);
            let _ = writeln!(self.text, "{line}");
        }
    }

    /// A step outside the rows: threads share its results.
    fn uniform_step(&mut self, step: &Step) {
        let loops = Loops::new(step, self.threads);
        self.text += &note(step, "");
        self.touch(self.accesses(step, &loops, false));
        self.under_condition(step, |planned| Printer { planned, step, loops }.print("threadIdx.x", "THREADS"));
    }

    /// A step of the body: groups share its results, the threads of a group have a row each.
    fn row_step(&mut self, step: &Step) {
        let loops = Loops::new(step, self.threads / self.tile);
        self.text += &note(step, " per row");
        self.touch(self.accesses(step, &loops, true));
        self.under_condition(step, |planned| Printer { planned, step, loops }.print("group", "GROUPS"));
    }

    /// Prints a step so that the block skips it if none of its rows wants it.
    fn under_condition(&mut self, step: &Step, print: impl FnOnce(&Planned) -> String) {
        let Some(Condition { value, holds }) = step.condition else {
            self.text += &print(self.planned);
            return;
        };
        let wants = format!("({} != 0) == {holds}", Printer::element(self.planned, value, "0"));
        let any = if self.planned.program.values[value.index()].per_row {
            format!("__syncthreads_or(row < valid && {wants})")
        } else {
            wants
        };
        let _ = write!(self.text, "if ({any}) {{\n{}}}\n", print(self.planned));
    }

    fn sum_step(&mut self, position: usize, step: &Step) {
        self.text += &note(step, ", summed over rows");
        let single = is_single(step);
        let loops = if single { Loops::new(step, 1) } else { over_rows(step, self.threads) };
        let reads = step.operands.iter().map(|operand| self.access(operand.value, false, false)).collect();
        self.touch(reads);
        let printer = Printer { planned: self.planned, step, loops };
        self.text += &if single {
            printer.print_single(&format!("sum_{position}"), "GROUPS", 1)
        } else {
            printer.print_sums(self.tile, self.threads, "threadIdx.x")
        };
    }

    /// What a step touches. In a step of the body that blocks nothing, the groups share elements in the usual way.
    fn accesses(&self, step: &Step, loops: &Loops, in_rows: bool) -> Vec<Access> {
        let usual = in_rows && loops.blocks.is_empty();
        let mut accesses = vec![self.written(step, usual && step.offset == 0)];
        accesses.extend(step.condition.map(|condition| self.access(condition.value, false, false)));
        for (position, operand) in step.operands.iter().enumerate() {
            let own = usual && loops.reads_in_place(position);
            accesses.push(self.access(operand.value, false, own));
        }
        accesses
    }

    /// The part of its result that a step writes.
    fn written(&self, step: &Step, own: bool) -> Access {
        let mut access = self.access(step.result, true, own);
        let elements = self.planned.program.values[step.result.index()].elements;
        let numbers_of_element = access.range.len() / elements;
        access.range.start += step.offset * numbers_of_element;
        access.range.end = access.range.start + step.shape.elements() * numbers_of_element;
        access
    }

    fn access(&self, value: ValueId, writes: bool, own: bool) -> Access {
        let start = match self.planned.layout.places[value.index()] {
            Some(Place::Shared(start)) => start,
            _ => return Access { range: 0..0, writes, own: None },
        };
        let size = extent(&self.planned.program, value, pitch(self.tile));
        Access { range: start..start + size, writes, own: own.then_some(value.0) }
    }

    fn touch(&mut self, accesses: Vec<Access>) {
        if self.hazards.must_wait(accesses) {
            self.text += "__syncthreads();\n";
        }
    }

    fn wait(&mut self) {
        self.hazards.waited();
        self.text += "__syncthreads();\n";
    }
}

/// The comment above a step.
pub(super) fn note(step: &Step, what: &str) -> String {
    let read: Vec<String> = step.operands.iter().map(|operand| format!("v{}", operand.value.0)).collect();
    let over = if step.reduced.elements() > 1 {
        format!(", {:?} over {}", step.reducer, step.reduced).to_lowercase()
    } else {
        String::new()
    };
    format!("// v{} {}{what}{over}, from {}\n", step.result.0, step.shape, read.join(", "))
}

/// Waits until it is the block's turn to add gradients, if there are any.
pub(super) fn await_turn(pass: Pass) -> &'static str {
    if pass == Pass::Forward { "" } else { "await_turn();\n" }
}

/// What telemetry looks at in a pass that it watches.
pub(super) fn watch(pass: Pass) -> &'static str {
    if pass == Pass::Forward { "EVERYTHING" } else { "GRADIENT" }
}

pub(super) fn row_name(input: RowInput) -> &'static str {
    match input {
        RowInput::X => "x",
        RowInput::OutputGradient => "output_gradient",
        RowInput::Target => "target",
    }
}

/// Indents lines by the braces around them.
fn indent(text: &str) -> String {
    let mut indented = String::with_capacity(text.len() * 2);
    let mut depth = 0usize;
    for line in text.lines() {
        if line.starts_with('}') {
            depth = depth.saturating_sub(1);
        }
        if !line.starts_with('#') {
            indented.extend(std::iter::repeat_n("  ", depth));
        }
        indented += line;
        indented.push('\n');
        if line.ends_with('{') {
            depth += 1;
        }
    }
    indented
}
