//! Where each value of a program lies: in registers if it is only read element by element, else in scratch memory.

use super::{ROWS, WIDTH};
use crate::compile::{Operand, Program, Source, Step, ValueId};

/// Scratch memory of a block, which the programs of a kernel use in turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scratch {
    pub numbers: usize,
    pub integers: usize,
}

/// The places of a program's values, by value.
pub(super) struct Places {
    registers: Vec<bool>,
    memory: Vec<Option<usize>>,
}

/// The axes of a step that lie along the second axis of a tile, and those that are walked in a loop.
pub(super) struct Space<'a> {
    pub lanes: &'a [usize],
    pub loops: &'a [usize],
    /// Where in an operand's strides those of the lanes begin.
    pub first_lane: usize,
    /// And those of what is walked in a loop.
    pub first_loop: usize,
    /// Whether the lanes are combined.
    pub combines_lanes: bool,
}

impl<'a> Space<'a> {
    /// The axes of the result are lanes, unless there is one result: then those that are combined are.
    pub fn of(step: &'a Step) -> Space<'a> {
        let rank = step.shape.rank();
        if step.shape.elements() == 1 && step.reduced.elements() > 1 {
            Space {
                lanes: &step.reduced.0,
                loops: &step.shape.0,
                first_lane: rank,
                first_loop: 0,
                combines_lanes: true,
            }
        } else {
            Space {
                lanes: &step.shape.0,
                loops: &step.reduced.0,
                first_lane: 0,
                first_loop: rank,
                combines_lanes: false,
            }
        }
    }

    /// Elements along the lanes.
    pub fn width(&self) -> usize {
        self.lanes.iter().product()
    }

    /// Whether an operand reads, in each lane, the element of the same number of a value of so many elements.
    fn reads_in_place(&self, operand: &Operand, elements: usize) -> bool {
        let mut below = 1;
        let mut dense = true;
        for (&size, &stride) in self.lanes.iter().zip(&operand.strides[self.first_lane..]).rev() {
            dense &= size == 1 || stride == below;
            below *= size;
        }
        let still =
            self.loops.iter().zip(&operand.strides[self.first_loop..]).all(|(&size, &stride)| size == 1 || stride == 0);
        operand.offset == 0 && below == elements && dense && still
    }
}

impl Places {
    /// Places the values of a program, and takes the scratch memory for them.
    pub fn new(program: &Program, scratch: &mut Scratch) -> Places {
        let phases = [&program.prologue, &program.body, &program.accumulate, &program.epilogue];
        let steps = || phases.into_iter().flatten();
        let mut registers: Vec<bool> = program.values.iter().map(|value| value.elements <= WIDTH).collect();
        for step in steps().filter(|step| !step.writes_all(program.values[step.result.index()].elements)) {
            registers[step.result.index()] = false;
        }
        let mut in_memory: Vec<bool> = registers.iter().map(|register| !register).collect();
        for step in steps() {
            let space = Space::of(step);
            for operand in &step.operands {
                let elements = program.values[operand.value.index()].elements;
                in_memory[operand.value.index()] |= elements > 1 && !space.reads_in_place(operand, elements);
            }
        }
        // A sum grows in one place.
        for step in &program.accumulate {
            registers[step.result.index()] &= !in_memory[step.result.index()];
        }
        let mut taken = Scratch::default();
        let memory = program.values.iter().zip(in_memory).map(|(value, in_memory)| {
            if value.source != Source::Step || !in_memory {
                return None;
            }
            let numbers = if value.data_type.is_integer() { &mut taken.integers } else { &mut taken.numbers };
            let place = *numbers;
            // Whole lines of 128 bytes, so that no two values share one.
            *numbers += (value.elements * if value.per_row { ROWS } else { 1 }).next_multiple_of(32);
            Some(place)
        });
        let memory = memory.collect();
        scratch.numbers = scratch.numbers.max(taken.numbers);
        scratch.integers = scratch.integers.max(taken.integers);
        Places { registers, memory }
    }

    /// Whether the value is in registers.
    pub fn in_registers(&self, value: ValueId) -> bool {
        self.registers[value.index()]
    }

    /// Where in scratch memory it begins, if it is there.
    pub fn in_memory(&self, value: ValueId) -> Option<usize> {
        self.memory[value.index()]
    }

    /// Whether a step can read an operand from registers.
    pub fn reads_registers(&self, program: &Program, space: &Space<'_>, operand: &Operand) -> bool {
        let elements = program.values[operand.value.index()].elements;
        self.in_registers(operand.value) && (elements == 1 || space.reads_in_place(operand, elements))
    }
}
