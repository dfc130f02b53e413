//! Common subexpressions: steps that compute the same, in the form that [`super::tidy`] gives them.

use crate::compile::schedule::Draft;
use crate::compile::{Step, ValueId};
use std::collections::HashMap;

/// Lets equal steps be computed once.
pub(super) fn share(draft: &mut Draft) {
    let mut instead: Vec<_> = (0..draft.values.len() as u32).map(ValueId).collect();
    let mut first = HashMap::new();
    for step in &mut draft.steps {
        for operand in &mut step.operands {
            operand.value = instead[operand.value.index()];
        }
        if let Some(condition) = &mut step.condition {
            condition.value = instead[condition.value.index()];
        }
        let result = step.result;
        if !step.writes_all(draft.values[result.index()].elements) {
            continue;
        }
        let phase = (draft.accumulated.contains(&result), draft.values[result.index()].per_row);
        instead[result.index()] = *first.entry((phase, identity(step))).or_insert(result);
    }
    draft.outputs.iter_mut().for_each(|output| output.value = instead[output.value.index()]);
    draft.guards.iter_mut().for_each(|guard| *guard = instead[guard.index()]);
    draft.steps.retain(|step| instead[step.result.index()] == step.result);
}

/// What a step computes, whatever its result is called: two steps with the same text are the same.
fn identity(step: &Step) -> String {
    let Step { result: _, offset, shape, reduced, reducer, operands, expression, condition } = step;
    format!("{offset} {shape:?} {reduced:?} {reducer:?} {operands:?} {expression:?} {condition:?}")
}
