//! The graphs of the three passes over a blueprint f, and the kernel class they make up.
//!
//! Forward is the blend `y = (1 - a) x + a f(x)`, exactly x at a = 0 and exactly f(x) at a = 1. Backward is its
//! gradient, with f recomputed. Training brings f(x) near a target and leaves the
//! layer's rows alone.

use super::{KernelClass, Pass, Program, Schedule, lower, simplify};
use crate::graph::{Blueprint, Builder, DataType, Graph, RowInput, Scalar, Target, ValueId, differentiate};
use crate::{Result, fail};

/// The blended output of each row. Rows with a non-finite f(x) fall back to x.
pub fn forward(blueprint: &Blueprint) -> Result<Graph> {
    let mut builder = Builder::continuing(&blueprint.graph);
    let (alpha, rest) = weights(&mut builder);
    let kept = builder.mul(rest, blueprint.x());
    let applied = builder.mul(alpha, blueprint.output());
    let y = builder.add(kept, applied);
    builder.output(y, Target::Row);
    builder.guard(blueprint.output());
    builder.finish()
}

/// The gradient of each row of the input; of the parameters if they are `trained`; of alpha if asked for.
///
/// Rows with a non-finite f(x) were identity in the forward pass, so their gradient is that of the output, and so is that
/// of rows with a non-finite gradient. Finding the former is why all of f is recomputed even where no gradient needs it.
pub fn backward(blueprint: &Blueprint, trained: bool, alpha_gradient: bool) -> Result<Graph> {
    let (x, f) = (blueprint.x(), blueprint.output());
    let mut builder = Builder::continuing(&blueprint.graph);
    let output_gradient = builder.row(RowInput::OutputGradient, blueprint.chunk);
    let (alpha, rest) = weights(&mut builder);
    let applied = builder.mul(alpha, output_gradient);
    let mut wanted = vec![x];
    if trained {
        wanted.extend(parameters(blueprint));
    }
    let gradients = differentiate(&mut builder, f, applied, &wanted);

    let mut x_gradient = builder.mul(rest, output_gradient);
    if let Some(through) = gradients[0] {
        x_gradient = builder.add(x_gradient, through);
    }
    builder.output(x_gradient, Target::Row);
    builder.guard(f);
    builder.guard(x_gradient);
    parameter_gradients(&mut builder, &gradients[1..]);
    if alpha_gradient {
        let change = builder.sub(f, x);
        let product = builder.mul(output_gradient, change);
        let of_row = builder.sum(product, &[0], false);
        let total = builder.row_sum(of_row);
        builder.output(total, Target::AlphaGradient);
    }
    builder.finish()
}

/// The reconstruction loss `sum((f(x) - target)^2) * LossScale` and its gradient for the parameters. Rows with a
/// non-finite f(x) add nothing.
pub fn train(blueprint: &Blueprint) -> Result<Graph> {
    let f = blueprint.output();
    let mut builder = Builder::continuing(&blueprint.graph);
    let target = builder.row(RowInput::Target, blueprint.chunk);
    let scale = builder.scalar(Scalar::LossScale);
    let error = builder.sub(f, target);
    let square = builder.mul(error, error);
    let of_row = builder.sum(square, &[0], false);
    let of_row = builder.mul(of_row, scale);
    let loss = builder.row_sum(of_row);
    builder.output(loss, Target::Loss);

    let two = builder.constant(2.0);
    let factor = builder.mul(two, scale);
    let f_gradient = builder.mul(error, factor);
    let wanted: Vec<_> = parameters(blueprint).collect();
    let gradients = differentiate(&mut builder, f, f_gradient, &wanted);
    parameter_gradients(&mut builder, &gradients);
    builder.guard(f);
    builder.finish()
}

/// The class of the best kernel that serves these blueprints, in this order of branches.
///
/// # Errors
///
/// `InvalidArgument` if there are no blueprints (then no kernel is needed but identity, which the caller describes
/// by a class without programs), if their chunks differ, or if a layer cannot run on the type.
pub fn kernel_class(
    pass: Pass,
    data_type: DataType,
    alpha_gradient: bool,
    blueprints: &[&Blueprint],
) -> Result<KernelClass> {
    let Some(first) = blueprints.first() else {
        fail!(InvalidArgument, "a kernel class needs at least one blueprint to know the width of a chunk");
    };
    if !data_type.is_float() {
        fail!(InvalidArgument, "a layer cannot run on {}; use f32, f16, bf16 or f64", data_type.name());
    }
    let chunk = first.chunk;
    if let Some(other) = blueprints.iter().find(|blueprint| blueprint.chunk != chunk) {
        fail!(
            InvalidArgument,
            "`{}` is for chunks of {}, but `{}` is for {chunk}; one layer has one width",
            other.name,
            other.chunk,
            first.name,
        );
    }
    let programs = |graph: &dyn Fn(&Blueprint) -> Result<Graph>, fallback| -> Result<Vec<Program>> {
        blueprints
            .iter()
            .map(|blueprint| {
                let program = graph(blueprint).and_then(|graph| program(&graph, blueprint, fallback));
                program.map_err(|error| error.context(format!("blueprint `{}`", blueprint.name)))
            })
            .collect()
    };
    let (programs, frozen) = match pass {
        Pass::Forward => (programs(&forward, RowInput::X)?, Vec::new()),
        Pass::Train => (programs(&train, RowInput::X)?, Vec::new()),
        Pass::Backward => {
            let of = |trained| {
                let graph = move |blueprint: &Blueprint| backward(blueprint, trained, alpha_gradient);
                programs(&graph, RowInput::OutputGradient)
            };
            (of(true)?, of(false)?)
        }
    };
    Ok(KernelClass { pass, schedule: Schedule::Best, data_type, tf32: false, chunk, programs, frozen })
}

fn program(graph: &Graph, blueprint: &Blueprint, fallback: RowInput) -> Result<Program> {
    let offsets: Vec<_> = blueprint.parameters.iter().map(|parameter| parameter.offset).collect();
    simplify(lower(graph, blueprint.chunk, &offsets, fallback)?)
}

/// Alpha and 1 - alpha.
fn weights(builder: &mut Builder) -> (ValueId, ValueId) {
    let alpha = builder.scalar(Scalar::Alpha);
    let one = builder.constant(1.0);
    let rest = builder.sub(one, alpha);
    (alpha, rest)
}

fn parameters(blueprint: &Blueprint) -> impl Iterator<Item = ValueId> {
    (0..blueprint.parameters.len()).map(|position| blueprint.parameter(position))
}

/// Parameters without a gradient do not reach f and are left out.
fn parameter_gradients(builder: &mut Builder, gradients: &[Option<ValueId>]) {
    for (position, gradient) in gradients.iter().enumerate() {
        if let Some(gradient) = gradient {
            builder.output(*gradient, Target::ParameterGradient(position));
        }
    }
}
