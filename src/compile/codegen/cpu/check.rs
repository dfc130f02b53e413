//! What running code relies on: every index in range, nothing read while it is written, everything of sane size.
//!
//! Code comes from a disk cache. Whatever its bytes say, code that passes here cannot reach foreign memory.

use super::*;
use crate::compile::{Destination, Expression, KernelClass, Pass};
use crate::graph::RowInput;

/// Elements of any one space, elements that each row has, and iterations of any one instruction: above what the limits
/// of blueprints allow, and little enough to be allocated without a second thought.
const MOST_ELEMENTS: usize = 1 << 26;
const MOST_ROW_ELEMENTS: usize = 1 << 20;
const MOST_ITERATIONS: usize = 1 << 40;
const MOST_REGISTERS: usize = 256;

/// Whether code may be run for a class, or what is wrong with it.
pub fn check(code: &Code, class: &KernelClass) -> Result<(), String> {
    if code.programs.len() != class.programs.len() || code.frozen.len() != class.frozen.len() {
        return Err(format!("it has {} and {} programs", code.programs.len(), code.frozen.len()));
    }
    if !code.frozen.is_empty() && code.frozen.len() != code.programs.len() {
        return Err(format!("it has {} programs, but {} frozen ones", code.programs.len(), code.frozen.len()));
    }
    code.programs.iter().chain(&code.frozen).try_for_each(|procedure| check_procedure(procedure, class))
}

fn check_procedure(procedure: &Procedure, class: &KernelClass) -> Result<(), String> {
    let sizes = [procedure.row_elements, procedure.uniform_elements, procedure.parameter_elements];
    if sizes.iter().any(|size| *size > MOST_ELEMENTS) || procedure.row_elements > MOST_ROW_ELEMENTS {
        return Err(format!("it needs {sizes:?} elements"));
    }
    let within = |span: Span, space: Space| -> Result<(), String> {
        let size = sizes[space as usize];
        match span.offset.checked_add(span.elements) {
            Some(end) if end <= size => Ok(()),
            _ => Err(format!("{span:?} lies outside {space:?}")),
        }
    };
    within(procedure.accumulators, Space::Uniform)?;
    for (input, offset) in &procedure.rows {
        within(Span { offset: *offset, elements: class.chunk }, Space::Row)?;
        check_input(*input, class.pass)?;
    }
    for (_, offset) in &procedure.scalars {
        within(Span { offset: *offset, elements: 1 }, Space::Uniform)?;
    }
    for span in &procedure.indices {
        within(*span, Space::Uniform)?;
    }
    for (_, span) in &procedure.random {
        within(*span, Space::Row)?;
    }
    for span in procedure.guards.iter().chain(&procedure.kept) {
        within(*span, Space::Row)?;
    }
    for output in &procedure.outputs {
        if output.space == Space::Row {
            return Err("a per-row value leaves as a uniform one".into());
        }
        within(output.span, output.space)?;
        check_output(output, class.pass)?;
    }
    if procedure.row_output.is_some() == (class.pass == Pass::Train) {
        return Err(format!("its output rows do not fit {:?}", class.pass));
    }
    if let Some(offset) = procedure.row_output {
        within(Span { offset, elements: class.chunk }, Space::Row)?;
    }
    check_input(procedure.fallback, class.pass)?;
    for (instructions, written, per_row) in [
        (&procedure.prologue, Space::Uniform, false),
        (&procedure.body, Space::Row, true),
        (&procedure.accumulate, Space::Uniform, true),
        (&procedure.epilogue, Space::Uniform, false),
    ] {
        for instruction in instructions {
            check_instruction(instruction, written, per_row, &within)?;
        }
    }
    for instruction in &procedure.accumulate {
        let accumulators = procedure.accumulators;
        let last = span_of(instruction.result, instruction, |axis| axis.result)?;
        if last.offset < accumulators.offset
            || last.offset + last.elements > accumulators.offset + accumulators.elements
        {
            return Err("it accumulates into what is no accumulator".into());
        }
    }
    Ok(())
}

/// A pass has only some of the inputs.
fn check_input(input: RowInput, pass: Pass) -> Result<(), String> {
    let given = match input {
        RowInput::X => true,
        RowInput::OutputGradient => pass == Pass::Backward,
        RowInput::Target => pass == Pass::Train,
    };
    if given { Ok(()) } else { Err(format!("it reads {input:?} in {pass:?}")) }
}

fn check_output(output: &UniformOutput, pass: Pass) -> Result<(), String> {
    let fits = match output.destination {
        Destination::Row => false,
        Destination::ParameterGradient(first) => pass != Pass::Forward && first <= MOST_ELEMENTS,
        Destination::AlphaGradient => pass == Pass::Backward && output.span.elements == 1,
        Destination::Loss => pass == Pass::Train && output.span.elements == 1,
    };
    if fits { Ok(()) } else { Err(format!("{output:?} does not fit {pass:?}")) }
}

/// The elements from the first to the last one that the loops reach.
fn span_of(offset: usize, instruction: &Instruction, stride: impl Fn(&Axis) -> usize) -> Result<Span, String> {
    let reach = instruction
        .axes()
        .try_fold(0usize, |reach, axis| reach.checked_add(axis.extent.checked_sub(1)?.checked_mul(stride(axis))?));
    let elements = reach.and_then(|reach| reach.checked_add(1)).ok_or("a loop is empty or overflows")?;
    Ok(Span { offset, elements })
}

fn check_instruction(
    instruction: &Instruction,
    written: Space,
    per_row: bool,
    within: &impl Fn(Span, Space) -> Result<(), String>,
) -> Result<(), String> {
    let operands = &instruction.operands;
    if instruction.axes().any(|axis| axis.operands.len() != operands.len()) {
        return Err("a loop does not know its operands".into());
    }
    if operands.len() > MOST_OPERANDS || instruction.outer.len() > MOST_AXES {
        return Err(format!("a step has {} operands and {} loops", operands.len(), instruction.outer.len()));
    }
    let count = instruction.axes().try_fold(1usize, |count, axis| count.checked_mul(axis.extent));
    if count.is_none_or(|count| count > MOST_ITERATIONS) {
        return Err("a step is too long".into());
    }
    let exact = if let Action::Exact(exact) = &instruction.action { Some(exact) } else { None };
    if exact.is_some_and(|exact| exact.operands.len() != operands.len()) {
        return Err("an exact step does not know its operands".into());
    }
    let mut result = span_of(instruction.result, instruction, |axis| axis.result)?;
    result.elements += exact.map_or(1, |exact| width(exact.result)) - 1;
    within(result, written)?;
    if let Some((access, _)) = instruction.condition {
        if access.space == Space::Row && !per_row {
            return Err("a uniform step depends on a row".into());
        }
        within(Span { offset: access.offset, elements: 1 }, access.space)?;
    }
    for (position, access) in operands.iter().enumerate() {
        if access.space == Space::Row && !per_row {
            return Err("a uniform step reads a row".into());
        }
        let mut read = span_of(access.offset, instruction, |axis| axis.operands[position])?;
        read.elements += exact.map_or(1, |exact| width(exact.operands[position])) - 1;
        within(read, access.space)?;
        let apart = read.offset + read.elements <= result.offset || result.offset + result.elements <= read.offset;
        if access.space == written && !apart {
            return Err("a step reads what it writes".into());
        }
    }
    let reduced =
        instruction.outer.len().checked_sub(instruction.reduced).ok_or("more loops are reduced than there are")?;
    if instruction.outer[reduced..].iter().any(|axis| axis.result != 0) {
        return Err("a reduced loop moves the result".into());
    }
    match &instruction.action {
        Action::Evaluate { inner, reducer, expression } => {
            let accumulates = per_row && written == Space::Uniform;
            let combines = instruction.reduced > 0 || inner.result == 0;
            if !accumulates && (inner.result > 1 || combines != reducer.is_some()) {
                return Err("a step does not say how it reduces".into());
            }
            check_formula(expression, operands.len())
        }
        Action::Exact(exact) => {
            let accumulates = per_row && written == Space::Uniform;
            if accumulates || (instruction.reduced > 0) != exact.reducer.is_some() {
                return Err("an exact step does not say how it reduces".into());
            }
            check_expression(&exact.expression, operands.len())
        }
        Action::Contract { outputs, depth } => {
            let spaces = operands.iter().map(|access| access.space == Space::Row).eq([false, true]);
            let still = spaces && outputs.operands[1] == 0 && depth.result == 0;
            let fits = still && per_row && written == Space::Row;
            if fits { Ok(()) } else { Err("a contraction is not one".into()) }
        }
        Action::OuterProduct { outputs, lanes } => {
            let spaces = operands.iter().all(|access| access.space == Space::Row) && operands.len() == 2;
            let still = spaces && outputs.operands[1] == 0 && lanes.operands[0] == 0 && lanes.result == 1;
            let fits = still && per_row && written == Space::Uniform;
            if fits { Ok(()) } else { Err("an outer product is not one".into()) }
        }
    }
}

fn check_expression(expression: &Expression, operands: usize) -> Result<(), String> {
    match expression {
        Expression::Operand(position) if *position >= operands => Err("an expression reads what there is not".into()),
        _ => expression.parts().try_for_each(|part| check_expression(part, operands)),
    }
}

fn check_formula(formula: &Formula, operands: usize) -> Result<(), String> {
    let known = |input: &Input| match input {
        Input::Operand(position) => *position < operands,
        Input::Register(register) => *register < formula.registers,
        Input::Constant(_) => true,
    };
    if formula.registers > MOST_REGISTERS || !known(&formula.result) {
        return Err("an expression has no sound result".into());
    }
    for operation in &formula.operations {
        let inputs = &operation.inputs[..operation.function.arity()];
        let apart = inputs.iter().all(|input| known(input) && *input != Input::Register(operation.register));
        if operation.register >= formula.registers || !apart {
            return Err("an operation reads what it writes or what there is not".into());
        }
    }
    Ok(())
}
