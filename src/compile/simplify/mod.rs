//! Makes programs fast without changing a bit of what they compute: constants are folded, equal steps become one, steps
//! are put into the steps that read them where that is not more work, and heavy ones that few need are skipped.
//!
//! "Not more work" means: a function is evaluated no more often than before, counted over all indices of all steps.

mod branch;
mod fold;
mod fuse;
mod tidy;

use super::schedule::Draft;
use super::{Program, Step, ValueId};
use crate::Result;
use std::collections::HashMap;

/// Rounds of simplification, at most; few programs need a third one.
const ROUNDS: usize = 16;

/// A program that computes the same with fewer steps.
///
/// # Errors
///
/// None for a program that came from [`super::lower()`]; otherwise as there.
pub fn simplify(mut program: Program) -> Result<Program> {
    for _ in 0..ROUNDS {
        let simpler = round(program.clone())?;
        if simpler == program {
            break;
        }
        program = simpler;
    }
    Ok(program)
}

/// One round: sharing leaves steps with one reader, which the next round can put into it.
fn round(program: Program) -> Result<Program> {
    let mut draft = Draft::from(program);
    draft.steps.iter_mut().for_each(|step| step.condition = None);
    draft.steps.iter_mut().for_each(tidy::tidy);
    share(&mut draft);
    fuse::fuse(&mut draft);
    share(&mut draft);
    branch::branch(&mut draft);
    draft.schedule()
}

/// Lets equal steps be computed once.
fn share(draft: &mut Draft) {
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
