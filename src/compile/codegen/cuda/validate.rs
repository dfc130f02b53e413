//! What a printed program relies on, checked before anything is printed: a program may come from a cache or a test, and an
//! index out of range would be a write out of bounds on the device.

use super::MAXIMUM_PROGRAMS;
use crate::compile::{Destination, Expression, KernelClass, Pass, Program, Source, Step};
use crate::graph::{RowInput, Scalar};
use crate::{Result, fail};

/// The most elements of a value, and the largest index a step may form: indices are 32-bit numbers in a kernel.
const MAXIMUM_ELEMENTS: usize = 1 << 28;

pub(super) fn class(class: &KernelClass) -> Result<()> {
    if !class.data_type.is_float() {
        fail!(InvalidArgument, "a layer cannot run on {} tensors", class.data_type.name());
    }
    if class.chunk == 0 || class.chunk > MAXIMUM_ELEMENTS {
        fail!(InvalidArgument, "a chunk of {} channels cannot be compiled", class.chunk);
    }
    let programs = class.programs.len();
    if programs > MAXIMUM_PROGRAMS {
        fail!(Unsupported, "{programs} blueprints are live; a CUDA kernel has room for {MAXIMUM_PROGRAMS}");
    }
    let expected = if class.pass == Pass::Backward { programs } else { 0 };
    if class.frozen.len() != expected {
        fail!(
            InvalidArgument,
            "a {:?} class of {programs} programs has {} frozen ones",
            class.pass,
            class.frozen.len()
        );
    }
    for (number, one) in class.programs.iter().chain(&class.frozen).enumerate() {
        if let Err(reason) = program(class, one) {
            fail!(CompileFailed, "program {number} of a {:?} kernel contradicts itself: {reason}", class.pass);
        }
    }
    Ok(())
}

fn program(class: &KernelClass, program: &Program) -> Result<(), String> {
    let require = |holds: bool, reason: &str| if holds { Ok(()) } else { Err(reason.to_string()) };
    require(program.chunk == class.chunk, "its chunk is not the class's")?;
    for value in &program.values {
        require((1..=MAXIMUM_ELEMENTS).contains(&value.elements), "a value has no elements or too many")?;
        match value.source {
            Source::Row(input) => {
                require(value.per_row && value.elements == class.chunk, "a row is not one chunk per row")?;
                let allowed = match class.pass {
                    Pass::Forward => input == RowInput::X,
                    Pass::Backward => input != RowInput::Target,
                    Pass::Train => input != RowInput::OutputGradient,
                };
                require(allowed, "it reads a row that its pass does not have")?;
            }
            Source::Parameter(offset) => require(
                !value.per_row && offset <= MAXIMUM_ELEMENTS,
                "a parameter is per row or too far into its slot",
            )?,
            Source::Scalar(Scalar::Alpha | Scalar::LossScale) => {
                require(!value.per_row && value.elements == 1, "a scalar is not one uniform number")?
            }
            Source::Step => {}
        }
    }
    let mut written: Vec<bool> = program.values.iter().map(|value| value.source != Source::Step).collect();
    let parts: [(&[Step], bool, bool); 4] = [
        (&program.prologue, false, false),
        (&program.body, true, true),
        (&program.accumulate, false, true),
        (&program.epilogue, false, false),
    ];
    for (steps, per_row_result, may_read_rows) in parts {
        for one in steps {
            for operand in &one.operands {
                let value =
                    program.values.get(operand.value.index()).ok_or("a step reads a value that does not exist")?;
                require(written[operand.value.index()], "a step reads a value before it is written")?;
                require(may_read_rows || !value.per_row, "a step outside the rows reads a row")?;
                let sizes = one.shape.0.iter().chain(&one.reduced.0);
                require(
                    operand.strides.len() == one.shape.rank() + one.reduced.rank(),
                    "an operand has too few strides",
                )?;
                let last = sizes.zip(&operand.strides).try_fold(operand.offset, |sum, (&size, &stride)| {
                    sum.checked_add(size.checked_sub(1)?.checked_mul(stride)?)
                });
                require(last.is_some_and(|last| last < value.elements), "an operand reads past the end of its value")?;
            }
            let value = program.values.get(one.result.index()).ok_or("a step writes a value that does not exist")?;
            require(!written[one.result.index()], "a value is written twice")?;
            require(
                value.source == Source::Step && value.per_row == per_row_result,
                "a step writes the wrong kind of value",
            )?;
            require(elements(&one.shape.0) == Some(value.elements), "a step does not fill its result")?;
            require(elements(&one.reduced.0).is_some_and(|count| count > 0), "a step reduces nothing or too much")?;
            expression(&one.expression, one.operands.len())?;
            written[one.result.index()] = true;
        }
    }
    for output in &program.outputs {
        let value = program.values.get(output.value.index()).ok_or("an output does not exist")?;
        require(written[output.value.index()], "an output is never written")?;
        let fits = match output.target {
            Destination::Row => value.per_row && value.elements == class.chunk && class.pass != Pass::Train,
            Destination::ParameterGradient(offset) => !value.per_row && offset <= MAXIMUM_ELEMENTS,
            Destination::AlphaGradient => !value.per_row && value.elements == 1,
            Destination::Loss => !value.per_row && value.elements == 1 && class.pass == Pass::Train,
        };
        require(fits, "an output does not fit where it goes")?;
    }
    for guard in &program.guards {
        let value = program.values.get(guard.index()).ok_or("a guard does not exist")?;
        require(written[guard.index()] && value.per_row, "a guard is not a written per-row value")?;
    }
    let writes_rows = program.outputs.iter().any(|output| output.target == Destination::Row);
    require(writes_rows || class.pass == Pass::Train, "no output is the row")?;
    let fallback = if class.pass == Pass::Backward { RowInput::OutputGradient } else { RowInput::X };
    require(!writes_rows || program.fallback == fallback, "the fallback is not the row that identity copies")
}

fn elements(sizes: &[usize]) -> Option<usize> {
    sizes
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .filter(|&product| product <= MAXIMUM_ELEMENTS)
}

fn expression(one: &Expression, operands: usize) -> Result<(), String> {
    match one {
        Expression::Operand(position) if *position >= operands => {
            Err("an expression reads an operand that does not exist".into())
        }
        Expression::Operand(_) | Expression::Constant(_) => Ok(()),
        Expression::Unary(_, a) => expression(a, operands),
        Expression::Binary(_, a, b) => expression(a, operands).and_then(|()| expression(b, operands)),
        Expression::Select(a, b, c) => [a, b, c].into_iter().try_for_each(|part| expression(part, operands)),
    }
}
