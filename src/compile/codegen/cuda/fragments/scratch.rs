//! Steps in scratch memory: those that read elements in another order than they lie in registers, such as a convolution along the
//! chunk, or that draw random numbers. Lanes have a row each there, two lanes share its elements, and [`Printer`] prints what they do.

use super::form::draws;
use super::program::Rows;
use super::{Form, Fragments, ROWS, Sum, is_whole};
use crate::compile::codegen::cuda::loops::{Loops, over_rows};
use crate::compile::codegen::cuda::memory::Place;
use crate::compile::codegen::cuda::plan::Planned;
use crate::compile::codegen::cuda::program::note;
use crate::compile::codegen::cuda::step::Printer;
use crate::compile::{Destination, Program, Source, Step, ValueId};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Elements of a row, and sums, that scratch memory may have to hold. With more, few warps would fit on a multiprocessor.
const MOST: usize = 1024;

/// The values that lie in scratch memory: what steps there write, and what they and sums there read of other steps. `None` if they
/// are too many, or what leaves the program can be no fragment.
pub(super) fn values(program: &Program, fragments: &Fragments) -> Option<BTreeSet<ValueId>> {
    let of = |value: ValueId| &program.values[value.index()];
    let is_made = |value: &ValueId| of(*value).per_row && of(*value).source == Source::Step;
    let touched = fragments.steps_in_scratch(program).flat_map(|step| step.reads().chain([step.result]));
    let values: BTreeSet<ValueId> = touched.filter(is_made).collect();
    let added: usize = fragments.summed_in_scratch(program).map(|step| step.shape.elements()).sum();
    let elements = added + values.iter().map(|&value| of(value).elements).sum::<usize>();
    (elements <= MOST && leaves(program).all(|value| is_whole(of(value)))).then_some(values)
}

/// What is known of rows by it, or becomes of them.
fn leaves(program: &Program) -> impl Iterator<Item = ValueId> {
    let rows = program.outputs.iter().filter(|output| output.target == Destination::Row).map(|output| output.value);
    program.guards.iter().copied().chain(rows)
}

impl Fragments {
    /// Whether anything is done there, be it only to rows where they came.
    pub fn uses_scratch(&self) -> bool {
        self.body.iter().any(Form::is_in_scratch) || self.sums.iter().any(Sum::is_in_scratch)
    }

    /// The steps and sums there.
    fn steps_in_scratch<'a>(&'a self, program: &'a Program) -> impl Iterator<Item = &'a Step> {
        let steps = program.body.iter().zip(&self.body).filter(|(_, form)| form.is_in_scratch());
        steps.map(|(step, _)| step).chain(self.summed_in_scratch(program))
    }

    fn summed_in_scratch<'a>(&'a self, program: &'a Program) -> impl Iterator<Item = &'a Step> {
        program.accumulate.iter().zip(&self.sums).filter(|(_, sum)| sum.is_in_scratch()).map(|(step, _)| step)
    }

    /// About how many elements of a row pass through scratch memory. To draw a random number takes as long as several of them.
    pub fn work_in_scratch(&self, program: &Program) -> usize {
        let of_element = |step: &Step| if draws(program, step) { DRAW } else { 1 };
        let work = |step: &Step| step.shape.elements() * step.reduced.elements() * of_element(step);
        self.steps_in_scratch(program).map(work).sum()
    }
}

/// What a random number takes where an element takes 1: ten rounds of two multiplications.
const DRAW: usize = 8;

impl Rows<'_> {
    /// Where the warp's scratch memory is, with zeros for what is added up there. Of few sums each lane has a share in registers.
    pub(super) fn scratch(&mut self) {
        let layout = &self.planned.layout;
        if layout.scratch == 0 {
            return;
        }
        let (start, numbers) = (self.start_of_scratch(), layout.scratch);
        let _ = writeln!(self.text, "number* const scratch = shared + {start} + threadIdx.x / 32 * {numbers};");
        for (position, (step, start)) in self.planned.program.accumulate.iter().zip(&layout.scratch_sums).enumerate() {
            let Some(start) = start else { continue };
            let count = step.shape.elements();
            let _ = match Loops::at_once(step) {
                Some(_) => writeln!(self.text, "number sum_{position}[{count}] = {{}};"),
                None => writeln!(
                    self.text,
                    "for (int i = threadIdx.x % 32; i < {count}; i += 32) scratch[{start} + i] = 0;"
                ),
            };
        }
    }

    fn start_of_scratch(&self) -> usize {
        self.weights + self.fragments.extent(self.class)
    }

    pub(super) fn step_in_scratch(&mut self, step: &Step) {
        // Random numbers are too much text for several at once, and take longer than memory does.
        let loops = if draws(&self.planned.program, step) { Loops::new(step, 2) } else { Loops::of_neighbours(step) };
        let printer = Printer { planned: self.planned, step, loops };
        self.text += &note(step, " per row, in scratch memory");
        self.in_scratch(step, &printer.print("group", "2"));
    }

    /// What lanes do that have a row each.
    fn in_scratch(&mut self, step: &Step, text: &str) {
        self.text += "{\n__syncwarp();\n\
                      const int row = threadIdx.x % FRAGMENT_ROWS, group = threadIdx.x % 32 / FRAGMENT_ROWS;\n";
        if draws(&self.planned.program, step) {
            self.text += "const long long first = (long long)tiles.number(tile) * FRAGMENT_ROWS;\n";
        }
        self.text += text;
        self.text += "}\n";
    }

    /// After a step whose result lies in scratch memory: puts it there, or takes it from there if registers want it. Returns whether
    /// the result is whole.
    pub(super) fn pass_scratch(&mut self, step: &Step, form: &Form) -> bool {
        let value = step.result;
        let Some(Place::Scratch(start)) = self.planned.layout.places[value.index()] else { return true };
        let (id, elements) = (value.0, self.planned.program.values[value.index()].elements);
        if !form.is_in_scratch() {
            let _ = writeln!(self.text, "__syncwarp();\nput_in_scratch(scratch + {start}, v{id}, place);");
            return true;
        }
        let last = self.planned.program.body.iter().rfind(|other| other.result == value);
        if last.is_none_or(|last| !std::ptr::eq(last, step)) {
            return false;
        }
        if self.is_wanted_in_registers(value) {
            let _ = match elements {
                1 => writeln!(
                    self.text,
                    "__syncwarp();\nnumber v{id}[2] = {{scratch[{start} + place.g], scratch[{start} + place.g + 8]}};"
                ),
                _ => writeln!(
                    self.text,
                    "__syncwarp();\nFragment<{elements}> v{id} = fragment_in_scratch<{elements}>(scratch + {start}, place);"
                ),
            };
        }
        true
    }

    fn is_wanted_in_registers(&self, value: ValueId) -> bool {
        let reads = |step: &Step| step.reads().any(|read| read == value);
        self.steps().any(|(step, form)| !form.is_in_scratch() && reads(step))
            || self.sums().any(|(step, sum)| !sum.is_in_scratch() && reads(step))
            || leaves(&self.planned.program).any(|leaf| leaf == value)
    }

    /// A sum over rows of what lies in scratch memory.
    pub(super) fn sum_in_scratch(&mut self, position: usize, step: &Step) {
        let planned = self.planned;
        let text = match (Loops::at_once(step), planned.layout.scratch_sums[position]) {
            (Some(loops), _) => {
                let run = if draws(&planned.program, step) { 1 } else { loops.run(2) };
                Printer { planned, step, loops }.print_single(&format!("sum_{position}"), "2", run)
            }
            (None, Some(start)) => {
                let mut of_warp: Planned = planned.clone();
                of_warp.layout.places[step.result.index()] = Some(Place::Scratch(start));
                let printer = Printer { planned: &of_warp, step, loops: over_rows(step, 32) };
                "const int lane = threadIdx.x % 32;\n".to_string() + &printer.print_sums(ROWS, 32, "lane")
            }
            (None, None) => return,
        };
        self.in_scratch(step, &format!("const unsigned alive = living;\n{text}"));
    }

    /// Puts together what the warps have added up in scratch memory.
    pub(super) fn sums_in_scratch(&mut self) {
        let layout = &self.planned.layout;
        let mut text = String::new();
        for (position, (step, sum)) in self.sums().enumerate() {
            let Some(start) = layout.scratch_sums[position] else { continue };
            let (from, apart, count) = (self.start_of_scratch() + start, layout.scratch, step.shape.elements());
            let condition = if self.is_gradient(step, sum) { "if (gradient) " } else { "" };
            if Loops::at_once(step).is_some() {
                let _ = writeln!(self.text, "{condition}keep_of_warp(scratch + {start}, sum_{position});");
            }
            let to = match layout.places[step.result.index()] {
                Some(Place::Gradient(offset)) => format!("<true>(gradient + {offset}"),
                Some(Place::Shared(start)) => format!("<false>(shared + {start}"),
                _ => continue,
            };
            let _ = writeln!(text, "{condition}gather_from_scratch{to}, shared + {from}, {apart}, {count});");
        }
        if !text.is_empty() {
            self.text += "__syncthreads();\n";
            self.text += &text;
        }
    }
}
