//! One program as a procedure.

use super::schedule::{Section, exact, is_exact, schedule};
use super::storage::place;
use super::{Action, Procedure, Span, UniformOutput, width};
use crate::compile::{
    Condition, Destination, Expression, Operand, Program, Reducer, Schedule, Source, Step, Value, ValueId,
};
use crate::graph::{DataType, Shape};
use crate::{Result, fail};

/// Compiles a program for chunks of this width.
pub fn compile(program: &Program, how: Schedule, chunk: usize) -> Result<Procedure> {
    verify(program, chunk)?;
    let program = &reduce_before_accumulating(program);
    let storage = place(program);
    let place = |value: ValueId| {
        let Some(place) = storage.places[value.index()] else { fail!(CompileFailed, "value {value:?} is never made") };
        Ok(place)
    };
    let data_type = |value: ValueId| program.values[value.index()].data_type;
    let section = |steps: &[Step], section: Section| {
        let instruction = |step: &Step| {
            let operands = step.operands.iter().map(|operand| {
                let mut access = place(operand.value)?;
                access.offset += operand.offset * width(data_type(operand.value));
                Ok(access)
            });
            let operands = operands.collect::<Result<_>>()?;
            let mut result = place(step.result)?;
            result.offset += step.offset * width(data_type(step.result));
            let mut instruction = if is_exact(step, &data_type) {
                exact(step, section, result, operands, &data_type)?
            } else {
                schedule(step, how, section, result, operands)
            };
            if let Some(Condition { value, holds }) = step.condition {
                instruction.condition = Some((place(value)?, holds));
            }
            Ok(instruction)
        };
        steps.iter().map(instruction).collect::<Result<Vec<_>>>()
    };
    let span = |value: ValueId| -> Result<Span> {
        Ok(Span { offset: place(value)?.offset, elements: program.values[value.index()].elements })
    };

    let mut row_output = None;
    let mut outputs = Vec::new();
    for output in &program.outputs {
        match output.target {
            Destination::Row => row_output = Some(place(output.value)?.offset),
            destination => {
                let space = place(output.value)?.space;
                outputs.push(UniformOutput { space, span: span(output.value)?, destination });
            }
        }
    }
    let mut kept: Vec<ValueId> = program.accumulate.iter().flat_map(|step| &step.operands).map(|o| o.value).collect();
    kept.retain(|value| program.values[value.index()].per_row);
    kept.sort();
    kept.dedup();

    let mut procedure = Procedure {
        prologue: section(&program.prologue, Section::Uniform)?,
        body: section(&program.body, Section::Body)?,
        accumulate: section(&program.accumulate, Section::Accumulate)?,
        epilogue: section(&program.epilogue, Section::Uniform)?,
        row_output,
        outputs,
        guards: program.guards.iter().map(|value| span(*value)).collect::<Result<_>>()?,
        kept: kept.into_iter().map(span).collect::<Result<_>>()?,
        fallback: program.fallback,
        work: 0,
        row_elements: storage.row_elements,
        uniform_elements: storage.uniform_elements,
        parameter_elements: storage.parameter_elements,
        accumulators: storage.accumulators,
        rows: storage.rows.clone(),
        scalars: storage.scalars.clone(),
        indices: storage.indices.clone(),
        random: storage.random.clone(),
    };
    procedure.work = work(&procedure);
    Ok(procedure)
}

/// Refuses a program that contradicts itself or its class.
fn verify(program: &Program, chunk: usize) -> Result<()> {
    if program.chunk != chunk {
        fail!(CompileFailed, "a program for chunks of {} stands in a class for chunks of {chunk}", program.chunk);
    }
    program.check()
}

/// Accumulate steps sum over the rows. Where one reduces otherwise within the row, that becomes a step of the body.
fn reduce_before_accumulating(program: &Program) -> Program {
    let mut program = program.clone();
    for step in &mut program.accumulate {
        if step.reduced.rank() == 0 || step.reducer == Reducer::Sum {
            continue;
        }
        let reduced = ValueId(program.values.len() as u32);
        let elements = step.shape.elements();
        program.values.push(Value { elements, data_type: DataType::F32, per_row: true, source: Source::Step });
        let strides = step.shape.strides();
        let sum = Step {
            result: step.result,
            offset: step.offset,
            shape: step.shape.clone(),
            reduced: Shape::default(),
            reducer: Reducer::Sum,
            operands: vec![Operand { value: reduced, offset: 0, strides }],
            expression: Expression::Operand(0),
            condition: None,
        };
        let mut inside = std::mem::replace(step, sum);
        (inside.result, inside.offset) = (reduced, 0);
        program.body.push(inside);
    }
    program
}

/// Roughly the vector operations of one row.
fn work(procedure: &Procedure) -> usize {
    let cost = |instruction: &super::Instruction| {
        let count = instruction.axes().fold(1usize, |count, axis| count.saturating_mul(axis.extent));
        match &instruction.action {
            Action::Evaluate { expression, .. } => count.saturating_mul(expression.operations.len() + 1),
            Action::Contract { .. } | Action::OuterProduct { .. } => count / 4 + 1,
            // One number at a time, where the others take a vector.
            Action::Exact(exact) => count.saturating_mul(16 * (exact.expression.functions() + 1)),
        }
    };
    let rows = procedure.body.iter().chain(&procedure.accumulate);
    rows.map(cost).fold(procedure.rows.len(), usize::saturating_add)
}
