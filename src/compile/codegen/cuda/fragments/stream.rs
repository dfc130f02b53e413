//! Which values of a program are made slice by slice. A wide value that is only a step between two products, such as the hidden
//! layer of a perceptron, never needs to be there whole: a slice of it is made, multiplied on, and forgotten.

use super::{Form, Fragments, Sum};
use crate::compile::{Program, Source, Step, ValueId};
use std::collections::BTreeSet;

/// Elements of a slice: as many as a lane's runs take of four lanes, so that a slice lies as a value of its own would.
pub(super) const SLICE: usize = 32;

/// Where a warpgroup multiplies, if there are registers.
pub(super) const WIDE_SLICE: usize = 64;

/// Elements of what slices are multiplied to, up to which there are.
const FEW_ENDS: usize = 128;

/// The values of one size that are made slice by slice.
#[derive(Clone, Debug)]
pub(in crate::compile::codegen::cuda) struct Stream {
    /// Elements of each.
    pub elements: usize,
    /// Elements of a slice, while it is multiplied on and when sums want it again.
    pub slice: usize,
    pub slice_of_sums: usize,
    /// The values.
    pub values: BTreeSet<ValueId>,
    /// What their products add up to.
    pub ends: BTreeSet<ValueId>,
    /// What is computed from the ends.
    pub after: BTreeSet<ValueId>,
}

impl Stream {
    /// The widest values of a program, if they can be made so.
    pub fn find(program: &Program, fragments: &Fragments) -> Option<Stream> {
        let per_row = program.values.iter().filter(|value| value.per_row && value.source == Source::Step);
        let elements = per_row.map(|value| value.elements).max()?;
        let is_wide = |value: ValueId| {
            let value = &program.values[value.index()];
            value.per_row && value.elements == elements
        };
        let leaves = program.guards.iter().copied().chain(program.outputs.iter().map(|output| output.value));
        let is_input =
            program.values.iter().any(|value| value.elements == elements && matches!(value.source, Source::Row(_)));
        if !elements.is_multiple_of(SLICE) || elements == SLICE || is_input || leaves.into_iter().any(is_wide) {
            return None;
        }
        let (values, ends, after) = Default::default();
        let mut stream = Stream { elements, slice: SLICE, slice_of_sums: SLICE, values, ends, after };
        for (step, form) in program.body.iter().zip(&fragments.body) {
            let reads_wide = step.reads().any(is_wide);
            let is_later = step.reads().any(|value| stream.ends.contains(&value) || stream.after.contains(&value));
            let (result, made_wide) = (step.result, is_wide(step.result));
            match form {
                Form::Map if made_wide && !is_later => stream.values.insert(result),
                Form::Contraction { .. } if made_wide != reads_wide && !is_later => {
                    if made_wide {
                        stream.values.insert(result)
                    } else {
                        stream.ends.insert(result)
                    }
                }
                _ if made_wide || reads_wide => return None,
                _ if is_later => stream.after.insert(result),
                _ => continue,
            };
        }
        let sums = program.accumulate.iter().zip(&fragments.sums);
        let mut of_slices = sums.filter(|(step, _)| step.reads().any(is_wide));
        let fits = of_slices.all(|(step, sum)| match sum {
            Sum::Single(_) => false,
            // Slices of both would meet only their own kind.
            Sum::Products { .. } if step.reads().all(is_wide) => false,
            _ => Fragments::can_add_at_once(program, step, sum),
        });
        (fits && !stream.ends.is_empty()).then_some(stream)
    }

    /// Takes wide slices, if they are whole.
    pub fn widen(&mut self, program: &Program) {
        if self.elements.is_multiple_of(WIDE_SLICE) {
            self.slice_of_sums = WIDE_SLICE;
            if self.ends.iter().map(|end| program.values[end.index()].elements).sum::<usize>() <= FEW_ENDS {
                self.slice = WIDE_SLICE;
            }
        }
    }

    /// Whether a step makes a slice, or multiplies one on.
    pub fn has(&self, step: &Step) -> bool {
        self.values.contains(&step.result) || self.ends.contains(&step.result)
    }

    /// Whether a step reads slices.
    pub fn is_read(&self, step: &Step) -> bool {
        step.reads().any(|value| self.values.contains(&value))
    }

    /// The values that these steps need slices of, themselves or by others.
    pub fn needed<'a>(&self, program: &Program, by: impl Iterator<Item = &'a Step>) -> BTreeSet<ValueId> {
        let mut needed: BTreeSet<ValueId> = by.flat_map(Step::reads).collect();
        for step in program.body.iter().rev() {
            if needed.contains(&step.result) {
                needed.extend(step.reads());
            }
        }
        needed.intersection(&self.values).copied().collect()
    }
}
