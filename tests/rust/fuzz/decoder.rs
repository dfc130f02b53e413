//! Any bytes as a blueprint: refused, or read, written, compiled and run without a contradiction.
//!
//! Bytes are JSON, but for three leading ones that no JSON begins with. After [`VALID`] the rest are choices of the
//! generator, so that deep valid graphs are reached; after [`EDITED`] and [`LARGELY_EDITED`] words of such a graph are
//! exchanged first, so that deep graphs that are nearly valid are.

use crate::document;
use crate::generator::{Choices, blueprint};
use kasmina::compile::reference::{Inputs, Outputs, run};
use kasmina::compile::{Pass, Program, codegen, kernel_class, lower, passes, simplify};
use kasmina::graph::{Blueprint, DataType, Graph, RowInput};
use kasmina::{Error, Result, Status};

/// The first byte of a valid blueprint's choices.
pub const VALID: u8 = 1;
/// The first byte of the choices of one with up to four words exchanged.
pub const EDITED: u8 = 2;
/// The first byte of the choices of one with up to sixteen words exchanged.
pub const LARGELY_EDITED: u8 = 3;

/// Nodes of a graph that is compiled, and how many elements its steps may compute in one that is run.
const NODES: usize = 256;
const ELEMENTS: usize = 1 << 16;

/// Rows of a run.
const ROWS: usize = 2;

/// Panics if the library contradicts itself.
pub fn decode(bytes: &[u8]) {
    match bytes.split_first() {
        Some((&VALID, choices)) => {
            let json = blueprint(choices);
            let blueprint = Blueprint::from_json(json.as_bytes());
            check(&blueprint.unwrap_or_else(|error| panic!("the generator's blueprint is refused: {error}\n{json}")));
        }
        Some((&kind @ (EDITED | LARGELY_EDITED), choices)) => {
            // The edits take their bytes from the end, so that the graph stays what it was while they change.
            let exchanged = if kind == EDITED { 4 } else { 16 };
            let (choices, edits) = choices.split_at(choices.len().saturating_sub(document::BYTES * exchanged));
            read(document::edit(&blueprint(choices), &mut Choices::new(edits), exchanged).as_bytes());
        }
        _ => read(bytes),
    }
}

fn read(bytes: &[u8]) {
    match Blueprint::from_json(bytes) {
        Ok(blueprint) => check(&blueprint),
        Err(error) => refused(&error),
    }
}

/// A refusal says what is wrong, in so many words and no more.
fn refused(error: &Error) {
    use Status::{BlueprintTooLarge, InvalidBlueprint, MalformedBlueprint, Unsupported};
    let statuses = [MalformedBlueprint, InvalidBlueprint, BlueprintTooLarge, Unsupported];
    assert!(statuses.contains(&error.status()), "{:?}: {error}", error.status());
    let letters = error.to_string().len();
    assert!((1..4000).contains(&letters), "the message has {letters} letters: {error}");
}

fn check(blueprint: &Blueprint) {
    let json = blueprint.to_json().unwrap();
    let again = Blueprint::from_json(json.as_bytes());
    let again = again.unwrap_or_else(|error| panic!("what was written cannot be read: {error}\n{json}"));
    assert_eq!(blueprint.hash(), again.hash(), "another hash after writing and reading\n{json}");
    assert_eq!(json, again.to_json().unwrap(), "written differently the second time");
    if blueprint.graph.nodes.len() > NODES {
        return;
    }
    for (pass, alpha_gradient) in [(Pass::Forward, false), (Pass::Backward, true), (Pass::Train, false)] {
        let outcome = compiled(blueprint, pass, alpha_gradient);
        outcome.unwrap_or_else(|error| panic!("{pass:?}: {error}\n{json}"));
    }
    let outcome = simplified(blueprint);
    outcome.unwrap_or_else(|error| panic!("simplification: {error}\n{json}"));
}

/// Compiles the kernel of a pass and runs its programs, if they are small. Too large is no contradiction.
fn compiled(blueprint: &Blueprint, pass: Pass, alpha_gradient: bool) -> Result<()> {
    let class = match kernel_class(pass, DataType::F32, alpha_gradient, &[blueprint]) {
        Err(error) if error.status() == Status::KernelTooLarge => return Ok(()),
        other => other?,
    };
    match codegen::cpu::compile(&class) {
        Err(error) if error.status() != Status::KernelTooLarge => return Err(error),
        _ => {}
    }
    for program in class.programs.iter().chain(&class.frozen).filter(|program| work(program) <= ELEMENTS) {
        outputs(program, blueprint)?;
    }
    Ok(())
}

/// Runs both passes that write rows as lowered and as simplified, which must not change a bit.
fn simplified(blueprint: &Blueprint) -> Result<()> {
    let offsets: Vec<_> = blueprint.parameters.iter().map(|parameter| parameter.offset).collect();
    let graphs: [(Graph, RowInput); 2] = [
        (passes::forward(blueprint)?, RowInput::X),
        (passes::backward(blueprint, true, true)?, RowInput::OutputGradient),
    ];
    for (graph, fallback) in graphs {
        let program = lower(&graph, blueprint.chunk, &offsets, fallback)?;
        if work(&program) > ELEMENTS {
            continue;
        }
        let (plain, simple) = (outputs(&program, blueprint)?, outputs(&simplify(program.clone())?, blueprint)?);
        for (name, plain, simple) in [
            ("rows", &plain.rows, &simple.rows),
            ("parameter gradients", &plain.parameter_gradient, &simple.parameter_gradient),
        ] {
            let same = plain.iter().zip(simple).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
            assert!(same, "simplification changed {name}: {plain:?} and {simple:?}\n{}", blueprint.to_json()?);
        }
    }
    Ok(())
}

/// How many elements the steps of a program compute and hold.
fn work(program: &Program) -> usize {
    let steps = [&program.prologue, &program.body, &program.accumulate, &program.epilogue].into_iter().flatten();
    let elements = steps.map(|step| step.shape.elements().saturating_mul(step.reduced.elements()));
    let values = program.values.iter().map(|value| value.elements);
    elements.chain(values).fold(0, usize::saturating_add)
}

fn outputs(program: &Program, blueprint: &Blueprint) -> Result<Outputs> {
    let row = |scale: f64| -> Vec<f64> {
        (0..ROWS * blueprint.chunk).map(|at| 2.0 * (at as f64 * scale + 0.1).sin()).collect()
    };
    let (x, output_gradient, target) = (row(0.7), row(0.9), row(1.1));
    let parameters = blueprint.initialize(1);
    let inputs = Inputs {
        rows: ROWS,
        x: &x,
        output_gradient: &output_gradient,
        target: &target,
        parameters: &parameters,
        alpha: 0.75,
        loss_scale: 0.5,
        random: Some(3),
        ..Inputs::default()
    };
    run(program, &inputs)
}
