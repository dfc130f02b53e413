//! What everything that runs or prints a program relies on. A program may come from a cache or a test; one that contradicts
//! itself must end in an error, and never in an index out of range.

use super::{Binary, Condition, Destination, Expression, Program, Source, Step, Unary};
use crate::graph::DataType;

/// The most elements of a value: indices are 32-bit numbers in a kernel.
const MOST_ELEMENTS: usize = 1 << 28;

/// Whether a program is one, or what contradicts itself.
pub(super) fn check(program: &Program) -> Result<(), String> {
    for value in &program.values {
        require((1..=MOST_ELEMENTS).contains(&value.elements), "a value has no elements or too many")?;
        let fits = match value.source {
            Source::Row(_) => value.per_row && value.elements == program.chunk,
            Source::Parameter(offset) => !value.per_row && offset <= MOST_ELEMENTS,
            Source::Scalar(_) => !value.per_row && value.elements == 1,
            Source::Index => !value.per_row,
            Source::Random(_) => value.per_row,
            Source::Step => true,
        };
        require(fits, "a value is not what its source gives")?;
        let types = [DataType::F32, DataType::Bool, DataType::I32, DataType::I64];
        let known = if value.source == Source::Step { &types[..] } else { &types[..1] };
        require(known.contains(&value.data_type), "a value has a type that its source does not give")?;
    }
    let mut written = Written::new(program);
    let phases = [
        (&program.prologue, Phase::Prologue),
        (&program.body, Phase::Body),
        (&program.accumulate, Phase::Accumulate),
        (&program.epilogue, Phase::Epilogue),
    ];
    for (steps, phase) in phases {
        steps.iter().try_for_each(|step| check_step(program, step, phase, &mut written))?;
    }
    for output in &program.outputs {
        let value = program.values.get(output.value.index()).ok_or("an output does not exist")?;
        require(written.is_complete(output.value.index()), "an output is never written")?;
        let fits = match output.target {
            Destination::Row => value.per_row && value.elements == program.chunk,
            Destination::ParameterGradient(offset) => !value.per_row && offset <= MOST_ELEMENTS,
            Destination::AlphaGradient | Destination::Loss => !value.per_row && value.elements == 1,
        };
        require(fits && !value.data_type.is_integer(), "an output does not fit where it goes")?;
    }
    for guard in &program.guards {
        let value = program.values.get(guard.index()).ok_or("a guard does not exist")?;
        let fits = written.is_complete(guard.index()) && value.per_row && !value.data_type.is_integer();
        require(fits, "a guard is not a written per-row value")?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Prologue,
    Body,
    Accumulate,
    Epilogue,
}

/// Which elements of each value were written.
struct Written {
    /// By value: the parts, each from its first to behind its last element.
    parts: Vec<Vec<(usize, usize)>>,
    complete: Vec<bool>,
}

impl Written {
    fn new(program: &Program) -> Written {
        let complete = program.values.iter().map(|value| value.source != Source::Step).collect();
        Written { parts: vec![Vec::new(); program.values.len()], complete }
    }

    fn is_complete(&self, value: usize) -> bool {
        self.complete[value]
    }

    /// Notes a part; false if some of it was written before.
    fn add(&mut self, value: usize, first: usize, end: usize, elements: usize) -> bool {
        let parts = &mut self.parts[value];
        let apart = !self.complete[value] && parts.iter().all(|part| end <= part.0 || part.1 <= first);
        parts.push((first, end));
        self.complete[value] = parts.iter().map(|part| part.1 - part.0).sum::<usize>() >= elements;
        apart
    }
}

fn check_step(program: &Program, step: &Step, phase: Phase, written: &mut Written) -> Result<(), String> {
    let runs_per_row = matches!(phase, Phase::Body | Phase::Accumulate);
    for operand in &step.operands {
        let value = program.values.get(operand.value.index()).ok_or("a step reads a value that does not exist")?;
        require(written.is_complete(operand.value.index()), "a step reads a value before it is written")?;
        require(runs_per_row || !value.per_row, "a step outside the rows reads a row")?;
        require(phase != Phase::Accumulate || !value.data_type.is_integer(), "integers are summed over rows")?;
        let rank = step.shape.rank() + step.reduced.rank();
        require(operand.strides.len() == rank, "an operand has too few strides or too many")?;
        let sizes = step.shape.0.iter().chain(&step.reduced.0);
        let last = sizes.zip(&operand.strides).try_fold(operand.offset, |last, (&size, &stride)| {
            last.checked_add(size.checked_sub(1)?.checked_mul(stride)?)
        });
        require(last.is_some_and(|last| last < value.elements), "an operand reads past the end of its value")?;
    }
    if let Some(Condition { value, .. }) = step.condition {
        let condition = program.values.get(value.index()).ok_or("a condition does not exist")?;
        let sound = written.is_complete(value.index()) && condition.elements == 1 && !condition.data_type.is_integer();
        let in_reach = matches!(phase, Phase::Body) || (phase == Phase::Prologue && !condition.per_row);
        require(sound && in_reach, "a condition is not one truth value that is there")?;
    }
    let value = program.values.get(step.result.index()).ok_or("a step writes a value that does not exist")?;
    let kind = value.source == Source::Step && value.per_row == (phase == Phase::Body);
    require(kind, "a step writes the wrong kind of value")?;
    let count = elements(&step.shape.0).filter(|&count| count > 0).ok_or("a step writes nothing or too much")?;
    let end = step.offset.checked_add(count).filter(|&end| end <= value.elements);
    let end = end.ok_or("a step writes past the end of its result")?;
    require(written.add(step.result.index(), step.offset, end, value.elements), "an element is written twice")?;
    require(elements(&step.reduced.0).is_some_and(|count| count > 0), "a step reduces nothing or too much")?;
    let found = check_expression(&step.expression, program, step)?;
    let same = if value.data_type.is_integer() { found == value.data_type } else { !found.is_integer() };
    require(same, "an expression is not of the type of its result")
}

/// The type of an expression, truth values being numbers as good as any.
fn check_expression(expression: &Expression, program: &Program, step: &Step) -> Result<DataType, String> {
    let of = |part: &Expression| check_expression(part, program, step);
    match expression {
        Expression::Operand(position) => {
            let operand = step.operands.get(*position).ok_or("an expression reads an operand that does not exist")?;
            Ok(program.values[operand.value.index()].data_type)
        }
        Expression::Constant(_) => Ok(DataType::F32),
        Expression::Unary(function, a) => {
            let a = of(a)?;
            let exact = matches!(function, Unary::Neg | Unary::Abs);
            require(exact || !a.is_integer(), "an integer is given to a function of numbers")?;
            Ok(a)
        }
        Expression::Binary(function, a, b) => {
            let (a, b) = (of(a)?, of(b)?);
            require(alike(a, b), "a function is given two types")?;
            let real = matches!(function, Binary::Div | Binary::Pow | Binary::And | Binary::Or);
            require(!(real && a.is_integer()), "integers are given to a function of numbers")?;
            Ok(if function.is_truth() { DataType::Bool } else { a })
        }
        Expression::Select(condition, a, b) => {
            require(!of(condition)?.is_integer(), "an integer is no truth value")?;
            let (a, b) = (of(a)?, of(b)?);
            require(alike(a, b), "a choice is between two types")?;
            Ok(a)
        }
        Expression::Cast(to, a) => {
            of(a)?;
            let known = matches!(to, DataType::F32 | DataType::Bool | DataType::I32 | DataType::I64);
            require(known, "a program has no values of the type that is asked for")?;
            Ok(*to)
        }
    }
}

fn alike(a: DataType, b: DataType) -> bool {
    a == b || !(a.is_integer() || b.is_integer())
}

fn elements(sizes: &[usize]) -> Option<usize> {
    let count = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    count.filter(|&count| count <= MOST_ELEMENTS)
}

fn require(holds: bool, reason: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason.into()) }
}
