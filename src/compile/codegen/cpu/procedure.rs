//! One program as a procedure.

use super::schedule::{Section, schedule};
use super::storage::place;
use super::{Action, Procedure, Span, UniformOutput};
use crate::compile::{Destination, Expression, Operand, Program, Reducer, Source, Step, Value, ValueId};
use crate::graph::Shape;
use crate::{Result, fail};

/// Compiles a program for chunks of this width.
pub fn compile(program: &Program, chunk: usize) -> Result<Procedure> {
    verify(program, chunk)?;
    let program = &reduce_before_accumulating(program);
    let storage = place(program);
    let place = |value: ValueId| {
        let Some(place) = storage.places[value.index()] else { fail!(CompileFailed, "value {value:?} is never made") };
        Ok(place)
    };
    let section = |steps: &[Step], section: Section| {
        let instruction = |step: &Step| {
            let operands = step.operands.iter().map(|operand| {
                let mut access = place(operand.value)?;
                access.offset += operand.offset;
                Ok(access)
            });
            Ok(schedule(step, section, place(step.result)?, operands.collect::<Result<_>>()?))
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
    };
    procedure.work = work(&procedure);
    Ok(procedure)
}

/// Refuses a program that contradicts itself.
fn verify(program: &Program, chunk: usize) -> Result<()> {
    if program.chunk != chunk {
        fail!(CompileFailed, "a program for chunks of {} stands in a class for chunks of {chunk}", program.chunk);
    }
    let value = |value: ValueId| -> Result<&Value> {
        let Some(value) = program.values.get(value.index()) else {
            fail!(CompileFailed, "there is no value {value:?}")
        };
        Ok(value)
    };
    let sections = [(&program.prologue, false), (&program.body, true), (&program.accumulate, false)];
    for (steps, per_row) in sections.into_iter().chain([(&program.epilogue, false)]) {
        for step in steps {
            let result = value(step.result)?;
            let fits = result.elements == step.shape.elements() && result.per_row == per_row;
            if !fits || result.source != Source::Step {
                fail!(CompileFailed, "step of shape {} cannot write value {:?}, {result:?}", step.shape, step.result);
            }
            verify_operands(step, &value)?;
            verify_expression(&step.expression, step)?;
        }
    }
    for output in &program.outputs {
        let wanted = output.target == Destination::Row;
        let value = value(output.value)?;
        if value.per_row != wanted || (wanted && value.elements != chunk) {
            fail!(CompileFailed, "value {:?}, {value:?}, cannot leave to {:?}", output.value, output.target);
        }
    }
    for guard in &program.guards {
        if !value(*guard)?.per_row {
            fail!(CompileFailed, "guard {guard:?} is not a per-row value");
        }
    }
    for source in &program.values {
        if matches!(source.source, Source::Row(_)) && (source.elements != chunk || !source.per_row) {
            fail!(CompileFailed, "a row input has {} elements instead of the chunk's {chunk}", source.elements);
        }
    }
    Ok(())
}

fn verify_operands<'a>(step: &Step, value: &impl Fn(ValueId) -> Result<&'a Value>) -> Result<()> {
    for operand in &step.operands {
        if operand.strides.len() != step.shape.rank() + step.reduced.rank() {
            fail!(CompileFailed, "an operand has {} strides for step {step:?}", operand.strides.len());
        }
        let extents = step.shape.0.iter().chain(&step.reduced.0);
        let last = extents.zip(&operand.strides).try_fold(operand.offset, |last, (extent, stride)| {
            last.checked_add(extent.checked_sub(1)?.checked_mul(*stride)?)
        });
        if last.is_none_or(|last| last >= value(operand.value).map_or(0, |value| value.elements)) {
            fail!(CompileFailed, "operand {operand:?} reads outside its value in a step of shape {}", step.shape);
        }
    }
    Ok(())
}

fn verify_expression(expression: &Expression, step: &Step) -> Result<()> {
    match expression {
        Expression::Operand(position) if *position >= step.operands.len() => {
            fail!(CompileFailed, "an expression reads operand {position} of {}", step.operands.len())
        }
        Expression::Operand(_) | Expression::Constant(_) => Ok(()),
        Expression::Unary(_, a) => verify_expression(a, step),
        Expression::Binary(_, a, b) => verify_expression(a, step).and_then(|()| verify_expression(b, step)),
        Expression::Select(a, b, c) => [a, b, c].into_iter().try_for_each(|part| verify_expression(part, step)),
    }
}

/// Accumulate steps sum over the rows. Where one reduces otherwise within the row, that becomes a step of the body.
fn reduce_before_accumulating(program: &Program) -> Program {
    let mut program = program.clone();
    for step in &mut program.accumulate {
        if step.reduced.rank() == 0 || step.reducer == Reducer::Sum {
            continue;
        }
        let reduced = ValueId(program.values.len() as u32);
        let result = &program.values[step.result.index()];
        program.values.push(Value { per_row: true, source: Source::Step, ..result.clone() });
        let strides = step.shape.strides();
        let sum = Step {
            result: step.result,
            shape: step.shape.clone(),
            reduced: Shape::default(),
            reducer: Reducer::Sum,
            operands: vec![Operand { value: reduced, offset: 0, strides }],
            expression: Expression::Operand(0),
        };
        let mut inside = std::mem::replace(step, sum);
        inside.result = reduced;
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
        }
    };
    let rows = procedure.body.iter().chain(&procedure.accumulate);
    rows.map(cost).fold(procedure.rows.len(), usize::saturating_add)
}
