//! Explicit branches: steps that only one side of a choice needs are skipped where nobody takes that side.
//!
//! A choice ([`Expression::Select`]) computes both of its arms. That is right for cheap arms, which are part of one
//! expression. What is left as a step of its own is looked at here: if all that reads it, directly or by way of other
//! steps, is the same arm of choices by one truth value of one element, then it can be skipped, and is if the
//! estimate says that this pays.

use crate::compile::schedule::Draft;
use crate::compile::{Condition, Expression, Source, Step};
use crate::graph::DataType;

/// What a test costs, and how often it lets a step be skipped at a guess: a uniform condition never diverges, and its test
/// is a read; one of each row makes the rows of a tile wait for each other, and they all have to agree.
const UNIFORM: (usize, usize) = (4, 2);
const PER_ROW: (usize, usize) = (64, 32);

/// What is known of who needs a value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Demand {
    Nobody,
    Under(Condition),
    Always,
}

impl Demand {
    fn and(self, other: Demand) -> Demand {
        match (self, other) {
            (Demand::Nobody, demand) | (demand, Demand::Nobody) => demand,
            (one, other) if one == other => one,
            _ => Demand::Always,
        }
    }
}

/// Gives steps the condition under which they are needed, where skipping them pays. Conditions that were there are
/// found anew.
pub(super) fn branch(draft: &mut Draft) {
    draft.steps.iter_mut().for_each(|step| step.condition = None);
    let demands = demands(draft);
    // The conditions that are there by now, as steps are gone through in order.
    let mut written: Vec<bool> = draft.values.iter().map(|value| value.source != Source::Step).collect();
    let summed: Vec<bool> = draft.steps.iter().map(|step| draft.depends_on_rows(step.result)).collect();
    for (step, summed) in draft.steps.iter_mut().zip(summed) {
        let per_row = draft.values[step.result.index()].per_row;
        if let Demand::Under(condition) = demands[step.result.index()]
            && !summed
            && written[condition.value.index()]
            && (per_row || !draft.values[condition.value.index()].per_row)
            && pays(step, draft.values[condition.value.index()].per_row)
        {
            step.condition = Some(condition);
        }
        written[step.result.index()] = true;
    }
}

/// Whether skipping a step now and then saves more than testing for it costs.
fn pays(step: &Step, per_row: bool) -> bool {
    let (test, once_in) = if per_row { PER_ROW } else { UNIFORM };
    let work = step.shape.elements() * step.reduced.elements() * (step.expression.functions() + 1);
    work / once_in > test
}

/// For each value: who needs it.
fn demands(draft: &Draft) -> Vec<Demand> {
    let mut demands = vec![Demand::Nobody; draft.values.len()];
    let leaving = draft.outputs.iter().map(|output| output.value).chain(draft.guards.iter().copied());
    leaving.for_each(|value| demands[value.index()] = Demand::Always);
    for step in draft.steps.iter().rev() {
        let own = demands[step.result.index()];
        note(draft, step, &step.expression, own, &mut demands);
    }
    demands
}

/// Notes what an expression reads that is needed so.
fn note(draft: &Draft, step: &Step, expression: &Expression, needed: Demand, demands: &mut [Demand]) {
    match expression {
        Expression::Operand(position) => {
            let demand = &mut demands[step.operands[*position].value.index()];
            *demand = demand.and(needed);
        }
        Expression::Select(condition, a, b) => {
            note(draft, step, condition, needed, demands);
            for (arm, holds) in [(a, true), (b, false)] {
                let needed = match single(draft, step, condition) {
                    Some(value) if needed == Demand::Always => Demand::Under(Condition { value, holds }),
                    _ => needed,
                };
                note(draft, step, arm, needed, demands);
            }
        }
        _ => expression.parts().for_each(|part| note(draft, step, part, needed, demands)),
    }
}

/// The truth value of one element that a condition is, if it is one.
fn single(draft: &Draft, step: &Step, condition: &Expression) -> Option<crate::compile::ValueId> {
    let Expression::Operand(position) = condition else { return None };
    let value = step.operands[*position].value;
    let known = &draft.values[value.index()];
    (known.elements == 1 && known.data_type == DataType::Bool).then_some(value)
}
