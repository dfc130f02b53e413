//! What a call costs, read off the steps that compute it: whatever an operator lowers to, the number is right.

use super::lower;
use crate::Result;
use crate::graph::{Builder, Graph, RowInput, Source, Target, ValueId};

/// How many operations the node takes each time it is evaluated: for every row if it is per row, once if it is uniform.
///
/// An operation is a function of one or two numbers, a choice, or one more element combined in a reduction. Inputs,
/// constants and moved elements are free. Passes fuse and share steps, so a whole graph may take less than its nodes
/// together.
///
/// # Errors
///
/// None for a node of a verified graph.
pub fn operations(graph: &Graph, value: ValueId) -> Result<u64> {
    let Source::Operator { operator, inputs, attributes } = &graph.node(value).source else { return Ok(0) };
    let mut builder = Builder::new();
    let mut stand_ins = Vec::with_capacity(inputs.len());
    for (position, input) in inputs.iter().enumerate() {
        let input = graph.node(*input);
        stand_ins.push(builder.stand_in(position, input.shape.clone(), input.data_type));
    }
    let result = builder.call(operator.name(), &stand_ins, attributes.clone())?;
    if builder.per_row(result) {
        builder.guard(result);
    } else {
        builder.output(result, Target::ParameterGradient(0));
    }
    let offsets = vec![0; inputs.len().max(1)];
    let program = lower(&builder.finish()?, 1, &offsets, RowInput::X)?;
    let phases = [&program.prologue, &program.body, &program.accumulate, &program.epilogue];
    let steps = phases.into_iter().flatten().map(|step| {
        let combined = usize::from(step.reduced.rank() > 0);
        (step.shape.elements() * step.reduced.elements()) as u64 * (step.expression.functions() + combined) as u64
    });
    Ok(steps.sum())
}
