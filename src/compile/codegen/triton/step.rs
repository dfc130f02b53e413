//! Prints one step: the tile it computes, and what becomes of that.

use super::expression::{self, Name};
use super::places::{Places, Space};
use super::{ROWS, WIDTH};
use crate::compile::codegen::cuda::{Axis, merge};
use crate::compile::{Expression, Operand, Program, Reducer, Source, Step, ValueId};
use crate::graph::{DataType, RowInput, Scalar};

/// What becomes of the tile.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Sink {
    /// It is the value.
    Value,
    /// The sum of its rows is added to the value.
    Sum,
}

/// A step about to be printed.
pub(super) struct Printer<'a> {
    pub program: &'a Program,
    pub places: &'a Places,
    pub step: &'a Step,
    /// What tells its names from those of other steps.
    pub number: usize,
    /// Whether it runs for each row of the tile.
    pub per_row: bool,
    /// Whether numbers are f64.
    pub double: bool,
}

impl Printer<'_> {
    /// The lines of the step.
    pub fn print(&self, sink: Sink) -> String {
        let (space, number) = (Space::of(self.step), self.number);
        let width = space.width();
        let in_parts = width > WIDTH;
        let tile = width.next_power_of_two().min(WIDTH);
        let rows = if self.per_row { ROWS } else { 1 };
        let integer = self.own_type().is_integer();
        let kind = if integer { "tl.int64" } else { "number" };
        let start = format!("tile_{number} = tl.full([{rows}, {tile}], {}, {kind})\n", self.neutral());

        let lanes = if in_parts {
            format!("lane_{number} = start_{number} + tl.arange(0, {tile})[None, :]\n")
        } else {
            format!("lane_{number} = tl.arange(0, {tile})[None, :]\n")
        };
        let masked = !width.is_multiple_of(tile);
        let inside = if masked { format!("inside_{number} = lane_{number} < {width}\n") } else { String::new() };
        let part = |inner: &str| match in_parts {
            true => format!("for start_{number} in range(0, {width}, {tile}):\n{}", indented(inner)),
            false => inner.to_string(),
        };
        let (reads, term) = (self.reads(&space, masked), self.term());
        if space.combines_lanes {
            let term = if masked { format!("tl.where(inside_{number}, {term}, {})", self.neutral()) } else { term };
            let combine =
                format!("{lanes}{inside}{reads}tile_{number} = {}\n", self.combined(&format!("tile_{number}"), &term));
            let result = format!("tile_{number} = {}\n", self.over_lanes());
            return start + &part(&combine) + &result + &self.keep(sink, "0", false);
        }
        let lane = format!("lane_{number}");
        let loops: usize = space.loops.iter().product();
        let compute = if loops > 1 {
            let combine = format!("{reads}tile_{number} = {}\n", self.combined(&format!("tile_{number}"), &term));
            let wrap = if self.own_type() == DataType::I32 {
                format!("tile_{number} = wrapped(tile_{number})\n")
            } else {
                String::new()
            };
            format!("{start}for loop_{number} in range(0, {loops}):\n{}{wrap}", indented(&combine))
        } else if self.step.operands.is_empty() {
            format!("{start}tile_{number} = tl.zeros_like(tile_{number}) + {term}\n")
        } else {
            format!("{reads}tile_{number} = {term}\n")
        };
        part(&(lanes + &inside + &compute + &self.keep(sink, &lane, masked)))
    }

    /// The values that it reads from scratch memory.
    pub fn read_from_memory(&self) -> impl Iterator<Item = ValueId> {
        let space = Space::of(self.step);
        let of_step = |operand: &&Operand| self.program.values[operand.value.index()].source == Source::Step;
        let elsewhere = move |operand: &&Operand| !self.places.reads_registers(self.program, &space, operand);
        self.step.operands.iter().filter(of_step).filter(elsewhere).map(|operand| operand.value)
    }

    fn own_type(&self) -> DataType {
        self.program.values[self.step.result.index()].data_type
    }

    fn operand_type(&self, operand: &Operand) -> DataType {
        self.program.values[operand.value.index()].data_type
    }

    /// What combining with changes nothing.
    fn neutral(&self) -> &'static str {
        match (self.step.reducer, self.own_type().is_integer()) {
            (Reducer::Sum, true) => "0",
            (Reducer::Sum, false) => "0.0",
            (Reducer::Max, true) => "-0x8000000000000000",
            (Reducer::Max, false) => "float(\"-inf\")",
            (Reducer::Min, true) => "0x7FFFFFFFFFFFFFFF",
            (Reducer::Min, false) => "float(\"inf\")",
        }
    }

    fn combined(&self, a: &str, b: &str) -> String {
        match (self.step.reducer, self.own_type().is_integer()) {
            (Reducer::Sum, _) => format!("{a} + {b}"),
            (Reducer::Max, true) => format!("tl.maximum({a}, {b})"),
            (Reducer::Max, false) => format!("maximum({a}, {b})"),
            (Reducer::Min, true) => format!("tl.minimum({a}, {b})"),
            (Reducer::Min, false) => format!("minimum({a}, {b})"),
        }
    }

    /// The tile combined along its lanes.
    fn over_lanes(&self) -> String {
        let tile = format!("tile_{}", self.number);
        match (self.step.reducer, self.own_type()) {
            (Reducer::Sum, DataType::I32) => format!("wrapped(tl.sum({tile}, axis=1, keep_dims=True))"),
            (Reducer::Sum, _) => format!("tl.sum({tile}, axis=1, keep_dims=True)"),
            (Reducer::Max, own) if own.is_integer() => format!("tl.max({tile}, axis=1, keep_dims=True)"),
            (Reducer::Min, own) if own.is_integer() => format!("tl.min({tile}, axis=1, keep_dims=True)"),
            (Reducer::Max, _) => format!("largest({tile})"),
            (Reducer::Min, _) => format!("smallest({tile})"),
        }
    }

    fn term(&self) -> String {
        let space = Space::of(self.step);
        let names: Vec<Name> = self
            .step
            .operands
            .iter()
            .enumerate()
            .map(|(position, operand)| (self.operand_name(&space, position, operand), self.operand_type(operand)))
            .collect();
        expression::print(&self.step.expression, &names, self.double)
    }

    fn operand_name(&self, space: &Space<'_>, position: usize, operand: &Operand) -> String {
        let value = &self.program.values[operand.value.index()];
        match value.source {
            Source::Scalar(scalar) => scalar_name(scalar).into(),
            Source::Row(_) | Source::Step if self.places.reads_registers(self.program, space, operand) => {
                format!("v{}", operand.value.0)
            }
            _ => format!("read_{}_{position}", self.number),
        }
    }

    /// Reads what does not lie in registers.
    fn reads(&self, space: &Space<'_>, masked: bool) -> String {
        let mut text = String::new();
        let lanes = merge(space.lanes, &self.step.operands, space.first_lane);
        let loops = merge(space.loops, &self.step.operands, space.first_loop);
        for (position, operand) in self.step.operands.iter().enumerate() {
            let name = format!("read_{}_{position}", self.number);
            if self.operand_name(space, position, operand) != name || !used(&self.step.expression, position) {
                continue;
            }
            let mut terms = terms(&lanes, position, &format!("lane_{}", self.number));
            let moves = !terms.is_empty();
            terms.extend(self::terms(&loops, position, &format!("loop_{}", self.number)));
            let mask = if masked && moves { Some(format!("inside_{}", self.number)) } else { None };
            text += &format!(
                "{name} = {}\n",
                element(self.program, self.places, operand.value, &index(operand.offset, &terms), mask.as_deref())
            );
        }
        text
    }

    /// Where in scratch memory a value's elements begin, for the rows of the tile.
    fn address(&self, value: ValueId) -> String {
        address(self.program, self.places, value)
    }

    /// Puts the tile where the value is. `lane` is the element of the first lane.
    fn keep(&self, sink: Sink, lane: &str, masked: bool) -> String {
        let (number, result) = (self.number, self.step.result);
        let name = format!("v{}", result.0);
        let tile = match sink {
            Sink::Value => format!("tile_{number}"),
            Sink::Sum => format!("tl.sum(tl.where(alive, tile_{number}, 0.0), axis=0, keep_dims=True)"),
        };
        let mask = if masked { format!(", mask=inside_{number}") } else { String::new() };
        let offset = if self.step.offset == 0 { String::new() } else { format!(" + {}", self.step.offset) };
        let mut text = String::new();
        if self.places.in_registers(result) {
            text += &match sink {
                Sink::Value => format!("{name} = {tile}\n"),
                Sink::Sum => format!("{name} += {tile}\n"),
            };
            if sink == Sink::Value && self.places.in_memory(result).is_some() {
                text += &format!("tl.store({}{offset} + {lane}, {name}{mask})\n", self.address(result));
            }
        } else {
            text += &format!("at_{number} = {}{offset} + {lane}\n", self.address(result));
            text += &match sink {
                Sink::Value => format!("tl.store(at_{number}, {tile}{mask})\n"),
                Sink::Sum => format!("tl.store(at_{number}, tl.load(at_{number}{mask}) + {tile}{mask})\n"),
            };
        }
        text
    }
}

/// The elements of a value that an index names, read from wherever they are but registers.
pub(super) fn element(program: &Program, places: &Places, value: ValueId, index: &str, mask: Option<&str>) -> String {
    let of = &program.values[value.index()];
    let other = if of.data_type.is_integer() { "0" } else { "0.0" };
    let masked = mask.map(|mask| format!(", mask={mask}, other={other}")).unwrap_or_default();
    match of.source {
        Source::Row(input) => {
            let tensor = row_name(input);
            let mask = mask.map(|mask| format!(" & {mask}")).unwrap_or_default();
            let at = format!("{tensor} + row * {tensor}_row + ({index}) * {tensor}_channel");
            format!("tl.load({at}, mask=valid{mask}, other=0.0).to(number)")
        }
        Source::Parameter(offset) => format!("tl.load(parameters + slot_start + {offset} + {index}{masked})"),
        Source::Scalar(scalar) => scalar_name(scalar).into(),
        Source::Index => format!("tl.cast({index}, number)"),
        Source::Random(stream) => format!("random_number(key, row, {index}, seed, {stream}) * dropout"),
        Source::Step => format!("tl.load({} + {index}{masked})", address(program, places, value)),
    }
}

fn scalar_name(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Alpha => "weight",
        Scalar::LossScale => "loss_scale",
        Scalar::Dropout => "dropout",
    }
}

/// Where in scratch memory a value's elements begin, for the rows of the tile.
pub(super) fn address(program: &Program, places: &Places, value: ValueId) -> String {
    let of = &program.values[value.index()];
    let memory = if of.data_type.is_integer() { "integers" } else { "scratch" };
    let place = places.in_memory(value).unwrap_or(0);
    let rows = if of.per_row { format!(" + tile_row * {}", of.elements) } else { String::new() };
    format!("{memory} + {place}{rows}")
}

/// The name of a row tensor.
pub(super) fn row_name(input: RowInput) -> &'static str {
    match input {
        RowInput::X => "x",
        RowInput::OutputGradient => "output_gradient",
        RowInput::Target => "target",
    }
}

/// Lines one level further in.
pub(super) fn indented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".into() } else { format!("    {line}\n") }).collect()
}

fn used(expression: &Expression, operand: usize) -> bool {
    expression.reads(operand) > 0
}

/// The terms of an index: along each axis that an operand moves along, from the number of an element.
fn terms(axes: &[Axis], operand: usize, element: &str) -> Vec<String> {
    let mut below: usize = axes.iter().map(|axis| axis.size).product();
    let mut terms = Vec::new();
    for (position, axis) in axes.iter().enumerate() {
        below /= axis.size;
        let mut index = element.to_string();
        if below > 1 {
            index += &format!(" // {below}");
        }
        if position > 0 {
            index += &format!(" % {}", axis.size);
        }
        match axis.strides[operand] {
            0 => {}
            1 if index == element => terms.push(index),
            1 => terms.push(format!("({index})")),
            stride => terms.push(format!("({index}) * {stride}")),
        }
    }
    terms
}

/// An index; of one element, it is a tile of one.
fn index(offset: usize, terms: &[String]) -> String {
    if terms.is_empty() {
        return format!("tl.full([1, 1], {offset}, tl.int32)");
    }
    let start = (offset != 0).then(|| offset.to_string());
    terms.iter().cloned().chain(start).collect::<Vec<_>>().join(" + ")
}
