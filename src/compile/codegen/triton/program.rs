//! Prints a program: prologue, loop over tiles of rows, epilogue, and the barriers between steps.

use super::places::{Places, Scratch};
use super::step::{Printer, Sink, address, element, indented, row_name};
use super::{WIDTH, tensors};
use crate::compile::{Destination, KernelClass, Pass, Program, Source, Step, ValueId};
use crate::graph::DataType;
use std::collections::BTreeSet;
use std::fmt::Write;

/// What a program is given, in order, besides the row tensors.
pub(super) fn arguments(pass: Pass) -> Vec<String> {
    let mut names: Vec<String> = vec!["rows".into(), "seed".into()];
    for tensor in tensors(pass) {
        names.extend([tensor.to_string(), format!("{tensor}_row"), format!("{tensor}_channel")]);
    }
    let further: &[&str] = match pass {
        Pass::Forward => &["parameters", "slot_start", "weight", "telemetry"],
        Pass::Backward => &["parameters", "gradient", "slot_start", "weight", "telemetry", "alpha_gradient"],
        Pass::Train => &["parameters", "gradient", "slot_start", "weight", "telemetry", "loss", "loss_scale"],
    };
    names.extend(further.iter().chain(&["dropout", "key", "scratch", "integers"]).map(|name| name.to_string()));
    names
}

/// The function of one program; takes the scratch memory it needs.
pub(super) fn print(class: &KernelClass, number: usize, program: &Program, scratch: &mut Scratch) -> String {
    let places = Places::new(program, scratch);
    let double = class.data_type == DataType::F64;
    let mut writer =
        Writer { text: String::new(), class, program, places: &places, unread: BTreeSet::new(), steps: 0, double };
    let frozen = number >= class.programs.len();
    let branch = if frozen { number - class.programs.len() } else { number };
    let what = if frozen { ", parameters frozen" } else { "" };
    let arguments = arguments(class.pass).join(", ");
    writer.before_rows();
    let mut rows = Writer { text: String::new(), ..writer };
    rows.rows();
    let mut after = Writer { text: String::new(), ..rows };
    after.after_rows();
    format!(
        "\n\n# ---- Branch {branch}{what}. ----\n\n\n@triton.jit\ndef program_{number}({arguments}):\n{}    \
         for first in tl.range(tl.program_id(1).to(tl.int64) * ROWS, rows, tl.num_programs(1) * ROWS, num_stages=1):\n\
         {}{}",
        indented(&writer.text),
        indented(&indented(&rows.text)),
        indented(&after.text)
    )
}

struct Writer<'a> {
    text: String,
    class: &'a KernelClass,
    program: &'a Program,
    places: &'a Places,
    /// Values in scratch memory that were written since the last barrier.
    unread: BTreeSet<ValueId>,
    /// Steps printed so far, which their names are made of.
    steps: usize,
    double: bool,
}

/// A tile of some elements of a value: the names of the tile, of the numbers of the elements, and of the mask of those that
/// there are, if some are not.
struct Part {
    value: String,
    lane: String,
    mask: Option<String>,
}

impl Part {
    fn and_mask(&self) -> String {
        self.mask.as_ref().map(|mask| format!(" & {mask}")).unwrap_or_default()
    }
}

impl Writer<'_> {
    fn before_rows(&mut self) {
        let program = self.program;
        if program.values.iter().any(|value| value.source == Source::Step && value.per_row) {
            let _ = writeln!(self.text, "tile_row = tl.arange(0, ROWS)[:, None]");
        }
        for step in &program.prologue {
            self.step(step, false, Sink::Value);
        }
        let mut sums: Vec<ValueId> = program.accumulate.iter().map(|step| step.result).collect();
        sums.dedup();
        for sum in sums {
            let elements = program.values[sum.index()].elements;
            if self.places.in_registers(sum) {
                let _ = writeln!(self.text, "v{} = tl.zeros([1, {}], number)", sum.0, elements.next_power_of_two());
            } else {
                let at = address(program, self.places, sum);
                let _ = write!(
                    self.text,
                    "for zeroed in range(0, {elements}, {WIDTH}):\n    at = zeroed + tl.arange(0, {WIDTH})[None, :]\n    \
                     tl.store({at} + at, tl.zeros([1, {WIDTH}], number), mask=at < {elements})\n"
                );
            }
        }
    }

    fn rows(&mut self) {
        let program = self.program;
        if self.in_memory().next().is_some() {
            // Everybody has read what the last tile left, and sees what was written before this one.
            self.barrier();
        }
        self.text += "row = (first + tl.arange(0, ROWS)[:, None]).to(tl.int64)\nvalid = row < rows\n";
        let chunk = program.chunk;
        let tile = chunk.next_power_of_two();
        if tile <= WIDTH {
            let mask = if tile == chunk { "" } else { " & (channel < CHUNK)" };
            let _ = write!(self.text, "channel = tl.arange(0, {tile})[None, :]\nwithin = valid{mask}\n");
        }
        for (index, value) in program.values.iter().enumerate() {
            if let (Source::Row(input), true) = (value.source, self.places.in_registers(ValueId(index as u32))) {
                let tensor = row_name(input);
                let _ = writeln!(
                    self.text,
                    "v{index} = tl.load({tensor} + row * {tensor}_row + channel * {tensor}_channel, mask=within, \
                     other=0.0).to(number)"
                );
            }
        }
        for step in &program.body {
            self.step(step, true, Sink::Value);
        }
        self.guards();
        for step in &program.accumulate {
            self.step(step, true, Sink::Sum);
        }
        self.store();
    }

    /// Finds the rows that do not fall back.
    fn guards(&mut self) {
        self.text += "alive = valid\n";
        for &guard in &self.program.guards {
            self.over_elements(guard, &|part| {
                let bad = format!("(is_finite({} * HEADROOM) == 0){}", part.value, part.and_mask());
                format!("alive = alive & (tl.max(({bad}).to(tl.int32), axis=1, keep_dims=True) == 0)\n")
            });
        }
        if !self.program.guards.is_empty() && self.class.pass != Pass::Backward {
            self.text += "if telemetry is not None:\n    fallen = tl.sum((valid & (alive == 0)).to(tl.float64))\n    \
                          tl.atomic_add(telemetry + seed * COLUMNS + FALLBACK_ROWS, fallen)\n";
        }
    }

    /// Writes the rows, after everything has been read: the output may be an input.
    fn store(&mut self) {
        let program = self.program;
        let fallback = row_name(program.fallback);
        let falls = !program.guards.is_empty();
        for output in program.outputs.iter().filter(|output| output.target == Destination::Row) {
            self.barrier();
            self.over_elements(output.value, &|part| {
                let (value, lane, mask) = (&part.value, &part.lane, part.and_mask());
                let at = |tensor: &str| format!("{tensor} + row * {tensor}_row + {lane} * {tensor}_channel");
                if !falls {
                    return format!("tl.store({}, {value}, mask=valid{mask})\n", at("output"));
                }
                format!(
                    "kept = tl.load({}, mask=valid{mask}, other=0.0)\n\
                     tl.store({}, tl.where(alive, {value}.to(element), kept), mask=valid{mask})\n",
                    at(fallback),
                    at("output")
                )
            });
        }
    }

    fn after_rows(&mut self) {
        let program = self.program;
        // A block that has no rows has met no barrier.
        self.unread = self.in_memory().collect();
        for step in &program.epilogue {
            self.step(step, false, Sink::Value);
        }
        for output in &program.outputs {
            let value = output.value;
            let (condition, at) = match output.target {
                Destination::Row => continue,
                Destination::ParameterGradient(offset) => {
                    ("gradient is not None", format!("gradient + slot_start + {offset}"))
                }
                Destination::AlphaGradient => ("alpha_gradient is not None", "alpha_gradient + seed".into()),
                Destination::Loss => ("loss is not None", "loss + seed * 2".into()),
            };
            let cast = match output.target {
                Destination::AlphaGradient => ".to(tl.float32)",
                Destination::Loss => ".to(tl.float64)",
                _ => "",
            };
            if self.places.in_memory(value).is_some() && self.unread.contains(&value) {
                self.barrier();
            }
            let _ = writeln!(self.text, "if {condition}:");
            let outer = std::mem::take(&mut self.text);
            self.over_elements(value, &|part| {
                let mask = part.mask.as_ref().map(|mask| format!(", mask={mask}")).unwrap_or_default();
                format!("tl.atomic_add({at} + {}, {}{cast}{mask})\n", part.lane, part.value)
            });
            if output.target == Destination::Loss {
                let one = "tl.full([], 1.0, tl.float64)";
                let _ = writeln!(self.text, "tl.atomic_add(loss + seed * 2 + 1, {one}, mask=tl.program_id(1) == 0)");
            }
            self.text = outer + &indented(&self.text);
        }
        if self.text.is_empty() {
            self.text += "pass\n";
        }
    }

    /// Lines for the elements of a value, part by part.
    fn over_elements(&mut self, value: ValueId, print: &dyn Fn(&Part) -> String) {
        let (of, number) = (&self.program.values[value.index()], self.steps);
        self.steps += 1;
        let elements = of.elements;
        let tile = elements.next_power_of_two().min(WIDTH);
        let masked = !elements.is_multiple_of(tile);
        let mut part = Part {
            value: format!("v{}", value.0),
            lane: format!("lane_{number}"),
            mask: masked.then(|| format!("inside_{number}")),
        };
        let lane = &part.lane;
        let inside = if masked { format!("inside_{number} = {lane} < {elements}\n") } else { String::new() };
        if self.places.in_registers(value) && matches!(of.source, Source::Row(_) | Source::Step) {
            self.text += &format!("{lane} = tl.arange(0, {tile})[None, :]\n{inside}{}", print(&part));
            return;
        }
        if self.unread.contains(&value) {
            self.barrier();
        }
        let load = element(self.program, self.places, value, lane, part.mask.as_deref());
        let head = format!("{lane} = start_{number} + tl.arange(0, {tile})[None, :]\n{inside}part_{number} = {load}\n");
        part.value = format!("part_{number}");
        let inner = indented(&(head + &print(&part)));
        self.text += &format!("for start_{number} in range(0, {elements}, {tile}):\n{inner}");
    }

    fn step(&mut self, step: &Step, per_row: bool, sink: Sink) {
        let (program, places, number, double) = (self.program, self.places, self.steps, self.double);
        self.steps += 1;
        let printer = Printer { program, places, step, number, per_row, double };
        let adds_again = sink == Sink::Sum && self.unread.contains(&step.result);
        if adds_again || printer.read_from_memory().any(|value| self.unread.contains(&value)) {
            self.barrier();
        }
        let read: Vec<String> = step.operands.iter().map(|operand| format!("v{}", operand.value.0)).collect();
        let from = if read.is_empty() { String::new() } else { format!(" from {}", read.join(", ")) };
        let over = if step.reduced.elements() > 1 {
            format!(", {:?} over {}", step.reducer, step.reduced).to_lowercase()
        } else {
            String::new()
        };
        let summed = if sink == Sink::Sum { ", summed over rows" } else { "" };
        let _ = writeln!(self.text, "# v{} {}{from}{over}{summed}", step.result.0, step.shape);
        self.text += &printer.print(sink);
        if places.in_memory(step.result).is_some() {
            self.unread.insert(step.result);
        }
    }

    /// The values that lie in scratch memory.
    fn in_memory(&self) -> impl Iterator<Item = ValueId> + '_ {
        let values = (0..self.program.values.len()).map(|value| ValueId(value as u32));
        values.filter(|value| self.places.in_memory(*value).is_some())
    }

    fn barrier(&mut self) {
        self.text += "tl.debug_barrier()\n";
        self.unread.clear();
    }
}
