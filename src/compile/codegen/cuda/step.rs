//! Prints one step: its loops, what it reads into registers, and what it does with the result.

use super::expression;
use super::loops::{Axis, LARGEST_BLOCK, Loops};
use super::memory::Place;
use super::plan::Planned;
use super::program::row_name;
use crate::compile::{Reducer, Step, ValueId};
use crate::graph::DataType;
use std::fmt::Write;

/// A step about to be printed.
pub(super) struct Printer<'a> {
    pub planned: &'a Planned,
    pub step: &'a Step,
    pub loops: Loops,
}

/// Names of the two block loops.
const BLOCK_NAMES: [&str; 2] = ["p", "q"];

/// Names of loop variables: of the result's axes and of the reduced ones.
const OUTER: &str = "i";
const REDUCED: &str = "r";

impl Printer<'_> {
    /// A step whose results are shared out: the loop over items starts at `first`, of `count` workers.
    pub(super) fn print(&self, first: &str, count: &str) -> String {
        let items = self.loops.items();
        // Bounds on unrolling keep large programs small; nobody waits for a block of results but for the reads of a map.
        let is_single = self.loops.reduced.is_empty() && self.loops.blocks.is_empty();
        let unroll = if is_single && !self.planned.is_long() { 4 } else { 1 };
        let mut text =
            format!("#pragma unroll {unroll}\nfor (int item = {first}; item < {items}; item += {count}) {{\n");
        text += &self.item_indices("item");
        if self.loops.reduced.is_empty() {
            text += &self.reads();
            text += &self.in_blocks(&format!("{} = {};\n", self.result(), self.term()));
        } else {
            text += &self.declare("total", self.start());
            let combine = self.combine("total");
            text += &self.over_reduced(&(self.reads() + &self.in_blocks(&combine)));
            text += &self.in_blocks(&format!("{} = {};\n", self.result(), self.of_block("total")));
        }
        text + "}\n"
    }

    /// A sum over the rows of the tile, added to the sums that are there, by so many threads, of which one is called by `name`. Each
    /// has results of its own; with few results, neighbouring threads share the rows of one.
    pub(super) fn print_sums(&self, tile: usize, threads: usize, name: &str) -> String {
        let items = self.loops.items();
        let mut sharing = 1;
        while sharing < tile && items * sharing * 2 <= threads {
            sharing *= 2;
        }
        let mut sum = self.declare("total", "0");
        let _ = writeln!(sum, "#pragma unroll {}", self.unrolling());
        let _ = writeln!(sum, "for (int row = {name} % {sharing}; row < {tile}; row += {sharing}) {{");
        if self.step.reducer != Reducer::Sum && !self.loops.reduced.is_empty() {
            sum += &self.declare("extreme", self.start());
            let combine = self.in_blocks(&self.combine("extreme"));
            sum += &self.over_reduced(&(self.reads() + &combine));
            sum += "if (alive >> row & 1) {\n";
            sum += &self.in_blocks(&format!("{} += {};\n", self.of_block("total"), self.of_block("extreme")));
            sum += "}\n";
        } else {
            let add = self.in_blocks(&format!("{} += {};\n", self.of_block("total"), self.term()));
            sum += &self.over_reduced(&format!("{}if (alive >> row & 1) {{\n{add}}}\n", self.reads()));
        }
        sum += "}\n";
        let keep = match self.planned.layout.places[self.step.result.index()] {
            Some(Place::Gradient(offset)) => {
                let index = self.result_index(offset + self.step.offset);
                format!("if (gradient) atomicAdd(gradient + {index}, {});\n", self.of_block("total"))
            }
            _ => format!("{} += {};\n", self.result(), self.of_block("total")),
        };
        let keep = self.in_blocks(&keep);
        if sharing == 1 {
            return format!(
                "for (int item = {name}; item < {items}; item += {threads}) {{\n{}{sum}{keep}}}\n",
                self.item_indices("item")
            );
        }
        let total = self.of_block("total");
        let gather = self.in_blocks(&format!(
            "for (int distance = {}; distance > 0; distance /= 2) {total} += __shfl_xor_sync(0xffffffffu, {total}, distance);\n",
            sharing / 2
        ));
        // Threads past the last item sum something that nobody keeps: shuffles want the whole warp.
        format!(
            "{{\nconst int item = {name} / {sharing} < {items} ? {name} / {sharing} : {last};\n{}{sum}{gather}\
             if ({name} / {sharing} < {items} && {name} % {sharing} == 0) {{\n{keep}}}\n}}\n",
            self.item_indices("item"),
            last = items - 1,
        )
    }

    /// A sum over the rows that is one number, or one block of them: each thread adds the share of its row and group to registers,
    /// which is a run of so many combinations at a time.
    pub(super) fn print_single(&self, register: &str, groups: &str, run: usize) -> String {
        let reductions = self.loops.reductions();
        let mut text = "if (alive >> row & 1) {\n".to_string();
        let _ = match run {
            1 => writeln!(text, "for (int item = group; item < {reductions}; item += {groups}) {{"),
            _ => writeln!(
                text,
                "#pragma unroll 1\nfor (int first = group * {run}; first < {reductions}; first += {groups} * {run}) {{\n\
                 #pragma unroll\nfor (int item = first; item < first + {run}; ++item) {{"
            ),
        };
        text += &indices(&self.loops.reduced, REDUCED, |_| 1, "item");
        for axis in 0..self.loops.outer.len() {
            let _ = writeln!(text, "const int {OUTER}{axis} = 0;");
        }
        text += &self.reads();
        text += &self.in_blocks(&format!("{} += {};\n", self.of_block(register), self.term()));
        text + if run == 1 { "}\n}\n" } else { "}\n}\n}\n" }
    }

    /// What a combination begins with.
    fn start(&self) -> &'static str {
        start(self.step.reducer, self.result_type())
    }

    /// One more term combined into a register.
    fn combine(&self, register: &str) -> String {
        combine(self.step.reducer, self.result_type(), &self.of_block(register), &self.term())
    }

    fn result_type(&self) -> DataType {
        self.planned.program.values[self.step.result.index()].data_type
    }

    /// The element of a value that an index names.
    pub(super) fn element(planned: &Planned, value: ValueId, index: &str) -> String {
        let Some(place) = planned.layout.places[value.index()] else { return "not_a_number()".into() };
        let of = &planned.program.values[value.index()];
        match place {
            Place::Shared(start) => {
                let index = if of.per_row { format!("({index}) * PITCH + row") } else { index.into() };
                if of.data_type.is_integer() {
                    format!("reinterpret_cast<integer*>(shared + {start})[{index}]")
                } else {
                    format!("shared[{start} + {index}]")
                }
            }
            Place::Parameter(start) => format!("parameters[{start} + {index}]"),
            Place::Alpha => "alpha".into(),
            Place::LossScale => "loss_scale".into(),
            Place::Dropout => "dropout".into(),
            Place::Index => format!("(number)({index})"),
            Place::Random(stream) => {
                format!("(launch.random ? random_number(key, first + row, {index}, seed, {stream}) : 0)")
            }
            Place::Scratch(start) if of.per_row => format!("scratch[{start} + ({index}) * SCRATCH_PITCH + row]"),
            Place::Scratch(start) => format!("scratch[{start} + {index}]"),
            Place::Row(input) => format!("element_of(rows_of_{}, row, {index})", row_name(input)),
            // Sums that lie nowhere are never read.
            Place::Gradient(_) => "not_a_number()".into(),
        }
    }

    /// The first index of each outer axis, from the number of an item.
    fn item_indices(&self, item: &str) -> String {
        indices(&self.loops.outer, OUTER, |axis| self.loops.block_of(axis), item)
    }

    fn result_index(&self, start: usize) -> String {
        let strides = self.loops.result_strides();
        let mut terms: Vec<(String, usize)> =
            strides.iter().enumerate().map(|(axis, &stride)| (format!("{OUTER}{axis}"), stride)).collect();
        for (block, name) in self.loops.blocks.iter().zip(BLOCK_NAMES) {
            terms.push((name.into(), strides[block.axis]));
        }
        index(start, &terms)
    }

    fn result(&self) -> String {
        Self::element(self.planned, self.step.result, &self.result_index(self.step.offset))
    }

    /// The names of the operands in the expression.
    fn term(&self) -> String {
        let names: Vec<expression::Name> = (0..self.loops.operands.len())
            .map(|operand| (format!("a{operand}{}", subscript(&self.moving(operand))), self.operand_type(operand)))
            .collect();
        expression::print(&self.step.expression, &names)
    }

    fn operand_type(&self, operand: usize) -> DataType {
        self.planned.program.values[self.loops.operands[operand].0.index()].data_type
    }

    /// The blocks along which an operand moves: name, size and stride.
    fn moving(&self, operand: usize) -> Vec<(&'static str, usize, usize)> {
        let blocks = self.loops.blocks.iter().zip(BLOCK_NAMES);
        blocks
            .map(|(block, name)| (name, block.size, self.loops.outer[block.axis].strides[operand]))
            .filter(|(_, _, stride)| *stride != 0)
            .collect()
    }

    /// Reads each operand into registers, once for all results of the block that use it.
    fn reads(&self) -> String {
        let mut text = String::new();
        for (operand, &(value, offset)) in self.loops.operands.iter().enumerate() {
            let named = |prefix: &'static str, axes: &[Axis]| -> Vec<(String, usize)> {
                axes.iter()
                    .enumerate()
                    .map(|(axis, loops)| (format!("{prefix}{axis}"), loops.strides[operand]))
                    .collect()
            };
            let mut terms = [named(OUTER, &self.loops.outer), named(REDUCED, &self.loops.reduced)].concat();
            let moving = self.moving(operand);
            terms.extend(moving.iter().map(|&(name, _, stride)| (name.to_string(), stride)));
            let element = Self::element(self.planned, value, &index(offset, &terms));
            let kind = expression::type_name(self.operand_type(operand));
            if moving.is_empty() {
                let _ = writeln!(text, "const {kind} a{operand} = {element};");
            } else if let (Some(Place::Row(input)), true) =
                (self.planned.layout.places[value.index()], self.is_in_vectors(operand))
            {
                terms.truncate(terms.len() - moving.len());
                let (row, channel) = (row_name(input), index(offset, &terms));
                let _ = write!(
                    text,
                    "{kind} a{operand}[{LARGEST_BLOCK}];\nelements_of(a{operand}, rows_of_{row}, row, {channel});\n"
                );
            } else {
                let size: usize = moving.iter().map(|(_, size, _)| size).product();
                let _ = writeln!(text, "{kind} a{operand}[{size}];");
                let inner = format!("a{operand}{} = {element};\n", subscript(&moving));
                text += &moving.iter().rev().fold(inner, |inner, &(name, size, _)| unrolled(name, size, &inner));
            }
        }
        text
    }

    /// Whether an operand moves along blocks of eight neighbouring elements that begin at eights: vectors of any type.
    fn is_in_vectors(&self, operand: usize) -> bool {
        let outer = self.loops.outer.iter().enumerate();
        let steps = outer.map(|(axis, loops)| loops.strides[operand] * self.loops.block_of(axis));
        let reduced = self.loops.reduced.iter().map(|axis| axis.strides[operand]);
        let mut all = steps.chain(reduced).chain([self.loops.operands[operand].1]);
        matches!(self.moving(operand)[..], [(_, LARGEST_BLOCK, 1)])
            && all.all(|number| number.is_multiple_of(LARGEST_BLOCK))
    }

    fn declare(&self, name: &str, start: &str) -> String {
        let kind = expression::type_name(self.result_type());
        if self.loops.blocks.is_empty() {
            return format!("{kind} {name} = {start};\n");
        }
        let declared = format!("{kind} {name}[{}];\n", self.loops.block_elements());
        declared + &self.in_blocks(&format!("{} = {start};\n", self.of_block(name)))
    }

    fn of_block(&self, name: &str) -> String {
        let blocks: Vec<_> =
            self.loops.blocks.iter().zip(BLOCK_NAMES).map(|(block, name)| (name, block.size, 0)).collect();
        format!("{name}{}", subscript(&blocks))
    }

    fn in_blocks(&self, inner: &str) -> String {
        let blocks = self.loops.blocks.iter().zip(BLOCK_NAMES).rev();
        blocks.fold(inner.to_string(), |inner, (block, name)| unrolled(name, block.size, &inner))
    }

    /// How often a loop that combines is unrolled: blocks have enough to do at once, where the program is long.
    fn unrolling(&self) -> usize {
        if self.planned.is_long() && !self.loops.blocks.is_empty() { 1 } else { 4 }
    }

    fn over_reduced(&self, inner: &str) -> String {
        let axes = self.loops.reduced.iter().enumerate().rev();
        axes.fold(inner.to_string(), |inner, (axis, loops)| {
            let name = format!("{REDUCED}{axis}");
            let is_last = axis + 1 == self.loops.reduced.len();
            let unroll = if is_last { format!("#pragma unroll {}\n", self.unrolling()) } else { String::new() };
            format!("{unroll}for (int {name} = 0; {name} < {}; ++{name}) {{\n{inner}}}\n", loops.size)
        })
    }
}

fn subscript(blocks: &[(&'static str, usize, usize)]) -> String {
    match blocks {
        [] => String::new(),
        [(name, ..)] => format!("[{name}]"),
        [(first, ..), (second, size, _), ..] => format!("[{first} * {size} + {second}]"),
    }
}

fn unrolled(name: &str, size: usize, inner: &str) -> String {
    format!("#pragma unroll\nfor (int {name} = 0; {name} < {size}; ++{name}) {{\n{inner}}}\n")
}

/// What a combination of numbers of a type begins with.
pub(super) fn start(reducer: Reducer, data_type: DataType) -> &'static str {
    match (reducer, data_type.is_integer()) {
        (Reducer::Sum, _) => "0",
        (Reducer::Max, false) => "lowest()",
        (Reducer::Min, false) => "(-lowest())",
        (Reducer::Max, true) => "(-0x7fffffffffffffffll - 1)",
        (Reducer::Min, true) => "0x7fffffffffffffffll",
    }
}

/// One more term combined into a register.
pub(super) fn combine(reducer: Reducer, data_type: DataType, register: &str, term: &str) -> String {
    match (reducer, data_type) {
        (Reducer::Sum, DataType::I32) => format!("{register} = wrapped({register} + {term});\n"),
        (Reducer::Sum, DataType::I64) => format!("{register} = (integer)((natural){register} + (natural){term});\n"),
        (Reducer::Sum, _) => format!("{register} += {term};\n"),
        (Reducer::Max, _) => format!("{register} = maximum({register}, {term});\n"),
        (Reducer::Min, _) => format!("{register} = minimum({register}, {term});\n"),
    }
}

/// `start + sum(name * stride)`, without what is zero.
pub(super) fn index<N: AsRef<str>>(start: usize, terms: &[(N, usize)]) -> String {
    let mut parts: Vec<String> = terms
        .iter()
        .filter(|(_, stride)| *stride != 0)
        .map(|(name, stride)| match (name.as_ref(), *stride) {
            (name, 1) => name.to_string(),
            (name, stride) => format!("{name} * {stride}"),
        })
        .collect();
    if start != 0 || parts.is_empty() {
        parts.push(start.to_string());
    }
    parts.join(" + ")
}

/// Declares the index of each axis, from a number that counts their blocks, the last axis fastest.
fn indices(axes: &[Axis], prefix: &str, block: impl Fn(usize) -> usize, item: &str) -> String {
    let mut text = String::new();
    let mut below = 1;
    let mut lines = Vec::new();
    for (axis, loops) in axes.iter().enumerate().rev() {
        let count = loops.size / block(axis);
        let mut value = item.to_string();
        if below > 1 {
            value += &format!(" / {below}");
        }
        if axis > 0 {
            value += &format!(" % {count}");
        }
        if block(axis) > 1 {
            value += &format!(" * {}", block(axis));
        }
        lines.push(format!("const int {prefix}{axis} = {value};\n"));
        below *= count;
    }
    lines.iter().rev().for_each(|line| text += line);
    text
}
