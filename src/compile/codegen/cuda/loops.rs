//! The loops of a step: its axes merged where all operands allow it, and the registers each thread blocks outputs in.

use crate::compile::{Operand, Reducer, Step, ValueId};

/// An axis and how far each operand moves along it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::compile::codegen) struct Axis {
    pub size: usize,
    pub strides: Vec<usize>,
}

/// A run of neighbouring indices of one axis that a thread computes at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Block {
    pub axis: usize,
    pub size: usize,
}

/// The loops of a step.
#[derive(Clone, Debug)]
pub(super) struct Loops {
    /// Axes of the result; no size-1 axes, adjacent axes merged where possible.
    pub outer: Vec<Axis>,
    /// Axes that are combined away, likewise.
    pub reduced: Vec<Axis>,
    /// What the operands read, and their offsets.
    pub operands: Vec<(ValueId, usize)>,
    /// At most two blocked axes.
    pub blocks: Vec<Block>,
}

/// The largest block along one axis, and the most accumulators of a thread.
pub(super) const LARGEST_BLOCK: usize = 8;
const LARGEST_PRODUCT: usize = 16;

/// The most neighbours at once along two axes.
const MOST_NEIGHBOURS: usize = 24;

impl Loops {
    /// The loops of a step that `workers` threads (or groups of threads) share.
    pub(super) fn new(step: &Step, workers: usize) -> Loops {
        let rank = step.shape.rank();
        let operands = step.operands.iter().map(|operand| (operand.value, operand.offset)).collect();
        let mut loops = Loops {
            outer: merge(&step.shape.0, &step.operands, 0),
            reduced: merge(&step.reduced.0, &step.operands, rank),
            operands,
            blocks: Vec::new(),
        };
        loops.blocks = loops.choose_blocks(workers);
        loops
    }

    /// The loops of a step of which two lanes share the results of a row: neighbours at once, for they often read the same.
    pub(super) fn of_neighbours(step: &Step) -> Loops {
        let mut loops = Loops::new(step, 2);
        if loops.blocks.is_empty() {
            loops.blocks = loops.neighbours();
        }
        loops
    }

    /// A block of the last axis and, where it is all of that, of the axis before: eights of results if they allow it, for then the
    /// lanes do not meet in the banks of scratch memory.
    fn neighbours(&self) -> Vec<Block> {
        let fits = |axis: usize, size: usize, all: usize| {
            self.outer[axis].size.is_multiple_of(size) && self.elements() >= 2 * all
        };
        let Some(last) = self.outer.len().checked_sub(1) else { return Vec::new() };
        let Some(size) = (2..=LARGEST_BLOCK).rfind(|&size| fits(last, size, size)) else { return Vec::new() };
        let mut blocks = vec![Block { axis: last, size }];
        if last > 0 && size == self.outer[last].size && !size.is_multiple_of(LARGEST_BLOCK) {
            let is_eights = |other: &usize| {
                let all = size * other;
                all.is_multiple_of(LARGEST_BLOCK) && all <= MOST_NEIGHBOURS && fits(last - 1, *other, all)
            };
            let other = (2..=LARGEST_BLOCK).find(is_eights);
            blocks.splice(..0, other.map(|size| Block { axis: last - 1, size }));
        }
        blocks
    }

    /// How many combinations next to each other a worker does at once, if `workers` share those of a result.
    pub(super) fn run(&self, workers: usize) -> usize {
        (1..=LARGEST_BLOCK).rfind(|run| self.reductions().is_multiple_of(workers * run)).unwrap_or(1)
    }

    /// The loops of a step of which a thread has all results at once, if they are few and lie along one axis.
    pub(super) fn at_once(step: &Step) -> Option<Loops> {
        let mut loops = Loops::new(step, 1);
        let axes: Vec<usize> = loops.outer.iter().map(|axis| axis.size).collect();
        loops.blocks = match axes[..] {
            [] => Vec::new(),
            [size] if size <= LARGEST_BLOCK => vec![Block { axis: 0, size }],
            _ => return None,
        };
        let is_sum = loops.reduced.is_empty() || step.reducer == Reducer::Sum;
        is_sum.then_some(loops)
    }

    /// How many results there are.
    pub(super) fn elements(&self) -> usize {
        product(&self.outer)
    }

    /// How many combinations each result takes.
    pub(super) fn reductions(&self) -> usize {
        product(&self.reduced)
    }

    /// How many blocks of results there are.
    pub(super) fn items(&self) -> usize {
        self.elements() / self.block_elements()
    }

    pub(super) fn block_elements(&self) -> usize {
        self.blocks.iter().map(|block| block.size).product()
    }

    pub(super) fn block_of(&self, axis: usize) -> usize {
        self.blocks.iter().find(|block| block.axis == axis).map_or(1, |block| block.size)
    }

    /// Elements to move in the result along each outer axis.
    pub(super) fn result_strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.outer.len()];
        for axis in (1..self.outer.len()).rev() {
            strides[axis - 1] = strides[axis] * self.outer[axis].size;
        }
        strides
    }

    /// Whether an operand reads, for each result, the element of the same number.
    pub(super) fn reads_in_place(&self, operand: usize) -> bool {
        self.operands[operand].1 == 0
            && self.reduced.is_empty()
            && self.outer.iter().zip(self.result_strides()).all(|(axis, stride)| axis.strides[operand] == stride)
    }

    /// The blocks with which the busiest worker reads least. A result that takes few combinations is not worth blocking.
    fn choose_blocks(&self, workers: usize) -> Vec<Block> {
        if self.reductions() < 4 {
            return Vec::new();
        }
        let mut best = (self.cost(&[], workers), Vec::new());
        let sizes = |axis: usize| (2..=LARGEST_BLOCK).filter(move |size| self.outer[axis].size.is_multiple_of(*size));
        for first in 0..self.outer.len() {
            for size in sizes(first) {
                let one = vec![Block { axis: first, size }];
                let mut candidates = vec![one.clone()];
                for second in first + 1..self.outer.len() {
                    candidates.extend(sizes(second).filter(|other| size * other <= LARGEST_PRODUCT).map(|other| {
                        let mut two = one.clone();
                        two.push(Block { axis: second, size: other });
                        two
                    }));
                }
                for candidate in candidates {
                    let cost = self.cost(&candidate, workers);
                    if cost < best.0 {
                        best = (cost, candidate);
                    }
                }
            }
        }
        best.1
    }

    /// Reads and operations of the busiest worker for one combination.
    fn cost(&self, blocks: &[Block], workers: usize) -> usize {
        let size: usize = blocks.iter().map(|block| block.size).product();
        let rounds = (self.elements() / size).div_ceil(workers);
        let reads: usize = (0..self.operands.len())
            .map(|operand| {
                let moving = blocks.iter().filter(|block| self.outer[block.axis].strides[operand] != 0);
                moving.map(|block| block.size).product::<usize>()
            })
            .sum();
        rounds * (reads + size)
    }
}

/// The same loops for sums over rows, of which each row is one more combination.
pub(super) fn over_rows(step: &Step, threads: usize) -> Loops {
    let mut loops = Loops::new(step, threads);
    if loops.blocks.is_empty() {
        // Every result takes a combination for each row, so it is worth blocking whatever the step itself reduces.
        loops.reduced.push(Axis { size: 4, strides: vec![0; loops.operands.len()] });
        loops.blocks = loops.choose_blocks(threads);
        loops.reduced.pop();
    }
    loops
}

fn product(axes: &[Axis]) -> usize {
    axes.iter().map(|axis| axis.size).product()
}

/// Axes without those of size 1, an axis merged into the next where every operand steps over exactly the whole of it.
pub(in crate::compile::codegen) fn merge(sizes: &[usize], operands: &[Operand], first: usize) -> Vec<Axis> {
    let mut axes: Vec<Axis> = Vec::new();
    for (position, &size) in sizes.iter().enumerate().filter(|(_, size)| **size != 1) {
        let strides: Vec<usize> = operands.iter().map(|operand| operand.strides[first + position]).collect();
        match axes.last_mut() {
            Some(last) if last.strides.iter().zip(&strides).all(|(&outer, &inner)| outer == inner * size) => {
                last.size *= size;
                last.strides = strides;
            }
            _ => axes.push(Axis { size, strides }),
        }
    }
    axes
}
