//! How many registers a program in fragments takes, about, and how many it may. Knows no instruction.

use super::{Fragments, Sum, is_whole};
use crate::compile::{Program, Source, Step, ValueId};

/// Registers that the values of a lane may take by our count, which takes values whole that the compiler makes piece by
/// piece: where it says so many, a few of the 255 that there are have to be kept in memory for a while. Beyond, the widest
/// values are made in slices, and sums of products are added to the gradient at once.
pub(super) const COMFORTABLE: usize = 320;

/// Beyond this, slices are made where they cost nothing: where no sum wants them again when all of them are known.
pub(super) const ROOMY: usize = 160;

/// Beyond this, programs run outside fragments: at twice as many, NVRTC took a minute, and most values lay in memory.
pub(super) const MOST: usize = 640;

/// Registers that a lane needs at the busiest step, by a simple count: a fragment takes half as many as it has elements.
pub(super) fn registers(program: &Program, fragments: &Fragments) -> usize {
    let last = program.body.len();
    let mut ends: Vec<usize> = vec![0; program.values.len()];
    for (position, step) in program.body.iter().enumerate() {
        step.reads().for_each(|value| ends[value.index()] = position);
    }
    let outputs = program.outputs.iter().map(|output| output.value).chain(program.guards.iter().copied());
    program.accumulate.iter().flat_map(Step::reads).chain(outputs).for_each(|value| ends[value.index()] = last);
    let size = |value: ValueId| {
        let is_inline = fragments.is_inline(value);
        let slice = fragments.stream_of(value).map(|stream| stream.slice);
        let value = &program.values[value.index()];
        let elements = slice.unwrap_or(value.elements);
        if value.per_row && !is_inline && is_whole(value) { elements.div_ceil(2) } else { 0 }
    };
    let sums: usize = program
        .accumulate
        .iter()
        .zip(&fragments.sums)
        .map(|(step, sum)| match sum {
            Sum::Single(_) | Sum::Scratch => 1,
            Sum::Elements => step.shape.elements() / 4,
            Sum::Products { .. } => step.shape.elements() / 32,
            Sum::ElementsAtOnce => 8,
            // Sixteen results at a time.
            Sum::ProductsAtOnce { .. } => 16,
        })
        .sum();
    let rows: usize = program
        .values
        .iter()
        .filter(|value| matches!(value.source, Source::Row(_)))
        .map(|value| value.elements / 4)
        .sum();
    let busiest = (0..=last).map(|now| {
        let born = program.body.iter().take(now + 1).filter(|step| ends[step.result.index()] >= now);
        born.map(|step| size(step.result)).sum::<usize>()
    });
    sums + rows + busiest.max().unwrap_or(0)
}
