//! Runs the instructions of a procedure on one tile of rows.
//!
//! A value of the row space is stored element after element, each with one number for every lane, and a lane is a row:
//! whatever the strides of an operand, the numbers of neighbouring rows are adjacent.

use super::formula::{self, BLOCK, Formulas, Reads};
use super::vector::{Contraction, PADDING, Real, Source, Transposition, Vectors};
use crate::compile::Reducer;
use crate::compile::codegen::cpu::{
    self, Action, Axis, Formula, Instruction, MOST_AXES, MOST_OPERANDS, Procedure, Space,
};

/// Most lanes of a tile.
pub const LANES: usize = cpu::LANES[cpu::LANES.len() - 1] as usize;

/// Memory and loops for one task. The pointers are valid for the spaces of the procedure it was made for.
pub struct Machine<'a, T: Real> {
    pub vectors: &'a Vectors<T>,
    /// The row space, `LANES` numbers for each element.
    pub row: *mut T,
    /// The uniform space.
    pub uniform: *mut T,
    /// The seed's slot.
    pub parameters: *const T,
    /// Registers: [`registers`] of the procedure.
    pub registers: *mut T,
    /// Lanes as rows: [`turned`] of the procedure.
    pub turned: *mut T,
}

/// Numbers that the registers of a procedure take.
pub fn registers(procedure: &Procedure) -> usize {
    let needed = |instruction: &Instruction| match &instruction.action {
        Action::Evaluate { expression, .. } => formula::registers(instruction, expression),
        Action::Contract { .. } | Action::OuterProduct { .. } | Action::Exact(_) => 0,
    };
    procedure.instructions().map(needed).max().unwrap_or(0)
}

/// Numbers that the widest turned operand of a procedure takes.
pub fn turned(procedure: &Procedure) -> usize {
    let width = |instruction: &Instruction| match &instruction.action {
        Action::OuterProduct { lanes, .. } => lanes.extent.next_multiple_of(PADDING) * LANES,
        Action::Evaluate { .. } | Action::Contract { .. } | Action::Exact(_) => 0,
    };
    procedure.instructions().map(width).max().unwrap_or(0)
}

/// What a section works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Prologue or epilogue: single numbers.
    Uniform,
    /// So many lanes.
    Body { lanes: usize },
    /// The first `count` of so many lanes.
    Accumulate { lanes: usize, count: usize },
}

impl Section {
    fn lanes(self) -> usize {
        match self {
            Section::Uniform => 1,
            Section::Body { lanes } | Section::Accumulate { lanes, .. } => lanes,
        }
    }
}

/// The parts of [`Action::Evaluate`].
struct Evaluation<'a> {
    inner: &'a Axis,
    reducer: Option<Reducer>,
    formula: &'a Formula,
}

/// Where the outer loops stand, with room for `N` operands.
pub(super) struct Position<const N: usize> {
    counters: [usize; MOST_AXES],
    pub result: usize,
    pub operands: [usize; N],
}

impl<const N: usize> Position<N> {
    pub fn first(instruction: &Instruction) -> Self {
        let mut operands = [0; N];
        for (offset, access) in operands.iter_mut().zip(&instruction.operands) {
            *offset = access.offset;
        }
        Position { counters: [0; MOST_AXES], result: instruction.result, operands }
    }

    /// Moves on to the next iteration; false after the last one.
    pub fn advance(&mut self, axes: &[Axis]) -> bool {
        for (counter, axis) in self.counters.iter_mut().zip(axes).rev() {
            *counter += 1;
            self.result += axis.result;
            for (offset, stride) in self.operands.iter_mut().zip(&axis.operands) {
                *offset += stride;
            }
            if *counter < axis.extent {
                return true;
            }
            *counter = 0;
            self.result -= axis.result * axis.extent;
            for (offset, stride) in self.operands.iter_mut().zip(&axis.operands) {
                *offset -= stride * axis.extent;
            }
        }
        false
    }

    /// Whether this is the first iteration of the reduced loops.
    pub fn begins(&self, instruction: &Instruction) -> bool {
        let loops = instruction.outer.len();
        self.counters[loops - instruction.reduced..loops].iter().all(|counter| *counter == 0)
    }
}

impl<T: Real> Machine<'_, T> {
    /// Runs instructions in order.
    ///
    /// # Safety
    /// The instructions are of a section of this kind of a procedure that passed `check`, and this machine was made for
    /// that procedure. Lanes are a multiple of [`PADDING`], at most [`LANES`], and no fewer than `count`.
    pub unsafe fn run(&self, instructions: &[Instruction], section: Section) {
        for instruction in instructions {
            // SAFETY: the caller's promise.
            unsafe {
                if !self.wants(instruction, section) {
                    continue;
                }
                match &instruction.action {
                    Action::Exact(exact) => self.exact(instruction, exact, section.lanes()),
                    Action::Evaluate { inner, reducer, expression } => {
                        let evaluation = Evaluation { inner, reducer: *reducer, formula: expression };
                        // Room for few operands costs little to make.
                        match instruction.operands.len() {
                            0..=4 => self.evaluate::<4>(instruction, &evaluation, section),
                            5..=16 => self.evaluate::<16>(instruction, &evaluation, section),
                            _ => self.evaluate::<MOST_OPERANDS>(instruction, &evaluation, section),
                        }
                    }
                    Action::Contract { outputs, depth } => self.contract(instruction, outputs, depth, section.lanes()),
                    Action::OuterProduct { outputs, lanes } => {
                        if let Section::Accumulate { lanes: of, count } = section {
                            self.outer_product(instruction, outputs, lanes, of, count);
                        }
                    }
                }
            }
        }
    }

    /// Whether any row wants an instruction to run. Lanes without a row may say so too.
    ///
    /// # Safety
    /// As `run`.
    unsafe fn wants(&self, instruction: &Instruction, section: Section) -> bool {
        let Some((access, holds)) = instruction.condition else { return true };
        let lanes = if access.space == Space::Row { section.lanes() } else { 1 };
        // SAFETY: `check` found the element within its space; a uniform section has no condition of a row.
        let truths = unsafe {
            let first = match access.space {
                Space::Row => self.row.add(access.offset * lanes).cast_const(),
                space => self.uniform_element(space, access.offset),
            };
            std::slice::from_raw_parts(first, lanes)
        };
        truths.iter().any(|truth| (*truth != T::ZERO) == holds)
    }

    /// An element of one of the uniform spaces.
    ///
    /// # Safety
    /// The element is within the space.
    pub unsafe fn uniform_element(&self, space: Space, element: usize) -> *const T {
        let base = if space == Space::Parameter { self.parameters } else { self.uniform };
        // SAFETY: the caller's promise.
        unsafe { base.add(element) }
    }

    /// # Safety
    /// As `run`.
    unsafe fn contract(&self, instruction: &Instruction, outputs: &Axis, depth: &Axis, lanes: usize) {
        let mut position = Position::<2>::first(instruction);
        loop {
            // SAFETY: `check` found every element that the loops reach within its space, the result apart from the
            // operands; the row space has `lanes` numbers, a multiple of the padding, for each element.
            unsafe {
                (self.vectors.contract)(&Contraction {
                    scalars: self.uniform_element(instruction.operands[0].space, position.operands[0]),
                    scalar_output: outputs.operands[0],
                    scalar_depth: depth.operands[0],
                    lanes: self.row.add(position.operands[1] * lanes),
                    lane_depth: depth.operands[1] * lanes,
                    result: self.row.add(position.result * lanes),
                    result_output: outputs.result * lanes,
                    outputs: outputs.extent,
                    depth: depth.extent,
                    width: lanes,
                    add: !position.begins(instruction),
                });
            }
            if !position.advance(&instruction.outer) {
                return;
            }
        }
    }

    /// # Safety
    /// As `run`.
    unsafe fn outer_product(&self, instruction: &Instruction, outputs: &Axis, wide: &Axis, lanes: usize, count: usize) {
        let padded = wide.extent.next_multiple_of(PADDING);
        let mut position = Position::<2>::first(instruction);
        let mut turned = None;
        loop {
            // SAFETY: as in `contract`; `turned` has room for `padded` numbers of each lane.
            unsafe {
                if turned.replace(position.operands[1]) != Some(position.operands[1]) {
                    (self.vectors.transpose)(&Transposition {
                        from: self.row.add(position.operands[1] * lanes),
                        from_stride: wide.operands[1] * lanes,
                        to: self.turned,
                        to_stride: padded,
                        rows: wide.extent,
                        columns: count,
                    });
                }
                (self.vectors.contract)(&Contraction {
                    scalars: self.row.add(position.operands[0] * lanes),
                    scalar_output: outputs.operands[0] * lanes,
                    scalar_depth: 1,
                    lanes: self.turned,
                    lane_depth: padded,
                    result: self.uniform.add(position.result),
                    result_output: outputs.result,
                    outputs: outputs.extent,
                    depth: count,
                    width: wide.extent,
                    add: true,
                });
            }
            if !position.advance(&instruction.outer) {
                return;
            }
        }
    }

    /// # Safety
    /// As `run`.
    unsafe fn evaluate<const N: usize>(
        &self,
        instruction: &Instruction,
        evaluation: &Evaluation<'_>,
        section: Section,
    ) {
        let lanes = section.lanes();
        let inner = evaluation.inner;
        let at_once = BLOCK / lanes;
        let mut position = Position::<N>::first(instruction);
        let mut operands = [Source::Splat(T::ZERO); N];
        loop {
            let begins = position.begins(instruction);
            for first in (0..inner.extent).step_by(at_once) {
                let count = at_once.min(inner.extent - first);
                let result = position.result + first * inner.result;
                // SAFETY: `check` found all elements that the loops reach within their spaces and the result apart from
                // the operands; registers are apart from all spaces.
                unsafe {
                    let reads = Reads { machine: self, axis: inner, offsets: &position.operands, first, count, lanes };
                    let block = reads.block(instruction, evaluation.formula, &mut operands);
                    match section {
                        Section::Uniform => {
                            let into = self.uniform.add(result);
                            self.write(&block, evaluation, into, begins, first == 0, lanes);
                        }
                        Section::Body { .. } => {
                            let into = self.row.add(result * lanes);
                            self.write(&block, evaluation, into, begins, first == 0, lanes);
                        }
                        Section::Accumulate { count: rows, .. } => {
                            let (values, into) = (block.value(), self.uniform.add(result));
                            if inner.result == 1 {
                                let into = std::slice::from_raw_parts_mut(into, count);
                                (self.vectors.add_sums)(values, lanes, rows, into);
                            } else {
                                for (number, values) in values.chunks_exact(lanes).enumerate() {
                                    let into = std::slice::from_mut(&mut *into.add(number * inner.result));
                                    (self.vectors.add_sums)(values, lanes, rows, into);
                                }
                            }
                        }
                    }
                }
            }
            if !position.advance(&instruction.outer) {
                return;
            }
        }
    }

    /// Writes a block of an evaluated step, or combines it with what is there. `begins` says that the outer reduced
    /// loops have just begun, `first` that the inner one has.
    ///
    /// # Safety
    /// As `run`; `into` is where the block's first result lies.
    unsafe fn write(
        &self,
        block: &Formulas<'_, '_, T>,
        evaluation: &Evaluation<'_>,
        into: *mut T,
        begins: bool,
        first: bool,
        lanes: usize,
    ) {
        // SAFETY: the caller's promise: a result for every value of the block, or one if the inner loop is reduced.
        unsafe {
            match evaluation.reducer {
                Some(reducer) if evaluation.inner.result == 0 => {
                    let into = std::slice::from_raw_parts_mut(into, lanes);
                    let mut values = block.value();
                    if begins && first {
                        into.copy_from_slice(&values[..lanes]);
                        values = &values[lanes..];
                    }
                    (self.vectors.combine)(reducer, values, into);
                }
                Some(reducer) if !begins => {
                    let into = std::slice::from_raw_parts_mut(into, block.length);
                    (self.vectors.combine)(reducer, block.value(), into);
                }
                _ => block.write(std::slice::from_raw_parts_mut(into, block.length)),
            }
        }
    }
}
