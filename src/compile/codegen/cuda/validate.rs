//! What a printed program relies on, checked before anything is printed: a program may come from a cache or a test, and an
//! index out of range would be a write out of bounds on the device.

use super::MAXIMUM_PROGRAMS;
use crate::compile::{Destination, KernelClass, Pass, Program, Source};
use crate::graph::RowInput;
use crate::{Result, fail};

pub(super) fn class(class: &KernelClass) -> Result<()> {
    if !class.data_type.is_float() {
        fail!(InvalidArgument, "a layer cannot run on {} tensors", class.data_type.name());
    }
    if class.chunk == 0 {
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
    program.check().map_err(|error| error.to_string())?;
    for value in &program.values {
        if let Source::Row(input) = value.source {
            let allowed = match class.pass {
                Pass::Forward => input == RowInput::X,
                Pass::Backward => input != RowInput::Target,
                Pass::Train => input != RowInput::OutputGradient,
            };
            require(allowed, "it reads a row that its pass does not have")?;
        }
    }
    let fits = |target: Destination| match target {
        Destination::Row => class.pass != Pass::Train,
        Destination::Loss => class.pass == Pass::Train,
        Destination::ParameterGradient(_) | Destination::AlphaGradient => true,
    };
    require(program.outputs.iter().all(|output| fits(output.target)), "an output does not fit where it goes")?;
    let writes_rows = program.outputs.iter().any(|output| output.target == Destination::Row);
    require(writes_rows || class.pass == Pass::Train, "no output is the row")?;
    let identity = class.pass.watched();
    require(!writes_rows || Some(program.fallback) == identity, "the fallback is not the row that identity copies")
}
