//! Sorts steps into the phases of a program: prologue, body, accumulate, epilogue; and drops what nothing needs.

use super::{Output, Program, Step, Value, ValueId};
use crate::graph::RowInput;
use crate::{Result, fail};
use std::collections::BTreeSet;

/// A program without its phases: steps in an order in which each finds its operands ready.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub chunk: usize,
    pub values: Vec<Value>,
    pub steps: Vec<Step>,
    /// Results of steps that run for each row and are added up.
    pub accumulated: BTreeSet<ValueId>,
    pub outputs: Vec<Output>,
    pub guards: Vec<ValueId>,
    pub fallback: RowInput,
}

impl Draft {
    pub fn new(chunk: usize, fallback: RowInput) -> Self {
        let (values, steps, outputs, guards) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { chunk, values, steps, accumulated: BTreeSet::new(), outputs, guards, fallback }
    }

    /// Adds a value.
    pub fn push(&mut self, value: Value) -> ValueId {
        let id = ValueId(self.values.len() as u32);
        self.values.push(value);
        id
    }

    /// Whether a uniform value is, or is computed from, a sum over rows.
    pub fn depends_on_rows(&self, value: ValueId) -> bool {
        self.summed()[value.index()]
    }

    /// For each value: whether it is, or is computed from, a sum over rows.
    fn summed(&self) -> Vec<bool> {
        let mut summed = vec![false; self.values.len()];
        for step in &self.steps {
            let through = step.operands.iter().any(|operand| summed[operand.value.index()]);
            summed[step.result.index()] |= through || self.accumulated.contains(&step.result);
        }
        summed
    }

    /// For each value: whether an output or a guard needs it.
    fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.values.len()];
        let leaving = self.outputs.iter().map(|output| output.value).chain(self.guards.iter().copied());
        leaving.for_each(|value| needed[value.index()] = true);
        for step in self.steps.iter().rev() {
            if needed[step.result.index()] {
                step.reads().for_each(|value| needed[value.index()] = true);
            }
        }
        needed
    }

    /// The program: needed steps in their phases, values numbered anew.
    ///
    /// # Errors
    ///
    /// `InvalidBlueprint` if a step that runs for each row needs a sum over rows, which is not there yet.
    pub fn schedule(mut self) -> Result<Program> {
        let (needed, summed) = (self.needed(), self.summed());
        self.steps.retain(|step| needed[step.result.index()]);

        let mut renumbered = vec![ValueId(0); self.values.len()];
        let mut values = Vec::new();
        for (position, value) in self.values.iter().enumerate().filter(|&(position, _)| needed[position]) {
            renumbered[position] = ValueId(values.len() as u32);
            values.push(value.clone());
        }

        let (mut prologue, mut body, mut accumulate, mut epilogue) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for mut step in self.steps {
            let result = step.result;
            let accumulates = self.accumulated.contains(&result);
            let runs_per_row = accumulates || self.values[result.index()].per_row;
            if runs_per_row && step.operands.iter().any(|operand| summed[operand.value.index()]) {
                fail!(InvalidBlueprint, "a value of each row depends on a sum over all rows");
            }
            for operand in &mut step.operands {
                operand.value = renumbered[operand.value.index()];
            }
            if let Some(condition) = &mut step.condition {
                condition.value = renumbered[condition.value.index()];
            }
            step.result = renumbered[result.index()];
            let phase = match (accumulates, runs_per_row, summed[result.index()]) {
                (true, ..) => &mut accumulate,
                (_, true, _) => &mut body,
                (_, _, true) => &mut epilogue,
                _ => &mut prologue,
            };
            phase.push(step);
        }

        let outputs = self.outputs.iter().map(|output| Output { value: renumbered[output.value.index()], ..*output });
        let guards: BTreeSet<_> = self.guards.iter().map(|guard| renumbered[guard.index()]).collect();
        Ok(Program {
            chunk: self.chunk,
            values,
            prologue,
            body,
            accumulate,
            epilogue,
            outputs: outputs.collect(),
            guards: guards.into_iter().collect(),
            fallback: self.fallback,
        })
    }
}

impl From<Program> for Draft {
    fn from(program: Program) -> Self {
        let accumulated = program.accumulate.iter().map(|step| step.result).collect();
        let phases = [program.prologue, program.body, program.accumulate, program.epilogue];
        Self {
            chunk: program.chunk,
            values: program.values,
            steps: phases.into_iter().flatten().collect(),
            accumulated,
            outputs: program.outputs,
            guards: program.guards,
            fallback: program.fallback,
        }
    }
}
