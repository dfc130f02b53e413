//! What the programs of the three passes compute and what they leave out.

use super::gradients::work;
use super::numbers::Numbers;
use kasmina::Status;
use kasmina::compile::reference::{self, Inputs, Outputs};
use kasmina::compile::{
    Destination, Expression, KernelClass, Pass, Program, Step, kernel_class, lower, passes, simplify,
};
use kasmina::graph::{
    Attributes, Blueprint, Builder, DataType, Graph, LIBRARY, RowInput, Scalar, Shape, Target, library,
};

const ROWS: usize = 3;
const CHUNK: usize = 8;

fn blueprints() -> Vec<Blueprint> {
    LIBRARY.iter().filter_map(|name| library(name, CHUNK, &Attributes::new()).ok()).collect()
}

fn blueprint(nodes: &str, output: &str) -> Blueprint {
    let json = format!(
        r#"{{"ir_version": 1, "name": "test", "chunk": 4, "parameters": [], "nodes": [{nodes}], "output": "{output}"}}"#
    );
    Blueprint::from_json(json.as_bytes()).unwrap()
}

fn class(pass: Pass, alpha_gradient: bool, blueprint: &Blueprint) -> KernelClass {
    kernel_class(pass, DataType::F32, alpha_gradient, &[blueprint]).unwrap()
}

fn run(program: &Program, inputs: &Inputs<'_>) -> Outputs {
    reference::run(program, inputs).unwrap()
}

/// Everything a program may read.
struct Data {
    x: Vec<f64>,
    output_gradient: Vec<f64>,
    target: Vec<f64>,
    parameters: Vec<f64>,
}

impl Data {
    fn new(blueprint: &Blueprint) -> Self {
        let mut numbers = Numbers::new(11);
        let elements = ROWS * blueprint.chunk;
        Self {
            x: numbers.take(elements),
            output_gradient: numbers.take(elements),
            target: numbers.take(elements),
            parameters: numbers.take(blueprint.parameter_count()),
        }
    }

    fn inputs(&self, alpha: f64) -> Inputs<'_> {
        Inputs {
            rows: ROWS,
            x: &self.x,
            output_gradient: &self.output_gradient,
            target: &self.target,
            parameters: &self.parameters,
            alpha,
            loss_scale: 0.25,
            ..Inputs::default()
        }
    }
}

fn difference(numbers: &[f64], position: usize, of: impl Fn(&[f64]) -> f64) -> f64 {
    let step = 1e-5;
    let mut moved = numbers.to_vec();
    moved[position] += step;
    let above = of(&moved);
    moved[position] -= 2.0 * step;
    (above - of(&moved)) / (2.0 * step)
}

#[track_caller]
fn near(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() < 1e-7 * (1.0 + expected.abs()), "{what} is {found}, not {expected}");
}

#[test]
fn the_blend_is_exact_at_both_ends() {
    for blueprint in blueprints() {
        let data = Data::new(&blueprint);
        let forward = &class(Pass::Forward, false, &blueprint).programs[0];
        assert_eq!(run(forward, &data.inputs(0.0)).rows, data.x, "{}", blueprint.name);

        let mut graph = blueprint.graph.clone();
        graph.outputs = vec![kasmina::graph::Output { value: blueprint.output(), target: Target::Row }];
        let offsets: Vec<_> = blueprint.parameters.iter().map(|parameter| parameter.offset).collect();
        let f = lower(&graph, CHUNK, &offsets, RowInput::X).unwrap();
        assert_eq!(run(forward, &data.inputs(1.0)).rows, run(&f, &data.inputs(1.0)).rows, "{}", blueprint.name);
    }
}

#[test]
fn backward_is_the_gradient_of_forward() {
    for blueprint in blueprints() {
        let data = Data::new(&blueprint);
        let forward = &class(Pass::Forward, false, &blueprint).programs[0];
        let loss = |inputs: &Inputs<'_>| -> f64 {
            run(forward, inputs).rows.iter().zip(&data.output_gradient).map(|(y, gradient)| y * gradient).sum()
        };
        let inputs = data.inputs(0.3);
        let backward = class(Pass::Backward, true, &blueprint);
        let (trained, frozen) = (run(&backward.programs[0], &inputs), run(&backward.frozen[0], &inputs));
        for position in 0..data.x.len() {
            let expected = difference(&data.x, position, |x| loss(&Inputs { x, ..inputs }));
            near(trained.rows[position], expected, &format!("{}: dx[{position}]", blueprint.name));
            near(frozen.rows[position], expected, &format!("{}: frozen dx[{position}]", blueprint.name));
        }
        for position in 0..data.parameters.len() {
            let expected = difference(&data.parameters, position, |parameters| loss(&Inputs { parameters, ..inputs }));
            near(trained.parameter_gradient[position], expected, &format!("{}: dp[{position}]", blueprint.name));
        }
        let expected = difference(&[0.3], 0, |alpha| loss(&Inputs { alpha: alpha[0], ..inputs }));
        near(trained.alpha_gradient, expected, &format!("{}: the gradient of alpha", blueprint.name));
        near(frozen.alpha_gradient, expected, &format!("{}: the frozen gradient of alpha", blueprint.name));
    }
}

#[test]
fn training_descends_the_reconstruction_loss() {
    for blueprint in blueprints() {
        let data = Data::new(&blueprint);
        let inputs = data.inputs(0.0);
        let f = run(&class(Pass::Forward, false, &blueprint).programs[0], &data.inputs(1.0)).rows;
        let program = &class(Pass::Train, false, &blueprint).programs[0];
        let outputs = run(program, &inputs);
        let expected: f64 = f.iter().zip(&data.target).map(|(f, target)| (f - target) * (f - target) * 0.25).sum();
        near(outputs.loss, expected, &format!("{}: the loss", blueprint.name));
        for position in 0..data.parameters.len() {
            let loss = |parameters: &[f64]| run(program, &Inputs { parameters, ..inputs }).loss;
            let expected = difference(&data.parameters, position, loss);
            near(outputs.parameter_gradient[position], expected, &format!("{}: dp[{position}]", blueprint.name));
        }
        assert!(program.outputs.iter().all(|output| output.target != Destination::Row), "training writes rows");
    }
}

#[test]
fn a_row_that_is_not_finite_falls_back_and_adds_nothing() {
    for blueprint in blueprints() {
        let mut data = Data::new(&blueprint);
        let without = Data {
            x: data.x[CHUNK..].to_vec(),
            output_gradient: data.output_gradient[CHUNK..].to_vec(),
            ..Data::new(&blueprint)
        };
        data.x[2] = f64::NAN;
        let forward = run(&class(Pass::Forward, false, &blueprint).programs[0], &data.inputs(0.5));
        assert_eq!(forward.fallback_rows, 1, "{}", blueprint.name);
        assert_eq!(forward.rows[..2], data.x[..2], "{}", blueprint.name);
        assert!(forward.rows[2].is_nan() && forward.rows[3..].iter().all(|y| y.is_finite()), "{}", blueprint.name);

        let backward = &class(Pass::Backward, true, &blueprint).programs[0];
        let with = run(backward, &data.inputs(0.5));
        let without = run(backward, &Inputs { rows: ROWS - 1, ..without.inputs(0.5) });
        assert_eq!(with.fallback_rows, 1, "{}", blueprint.name);
        assert_eq!(with.rows[..CHUNK], data.output_gradient[..CHUNK], "{}", blueprint.name);
        assert_eq!(with.parameter_gradient, without.parameter_gradient, "{}", blueprint.name);
        assert_eq!(with.alpha_gradient, without.alpha_gradient, "{}", blueprint.name);

        let train = run(&class(Pass::Train, false, &blueprint).programs[0], &data.inputs(0.5));
        assert_eq!(train.fallback_rows, 1, "{}", blueprint.name);
        assert!(train.loss.is_finite() && train.parameter_gradient.iter().all(|gradient| gradient.is_finite()));
    }
}

/// An infinite bias makes f(x) infinite and leaves its gradient finite: what was identity forward is identity backward.
#[test]
fn a_row_that_fell_back_forward_has_the_gradient_of_identity_even_if_its_own_is_finite() {
    let bottleneck = library("bottleneck", CHUNK, &Attributes::new()).unwrap();
    let mut data = Data::new(&bottleneck);
    *data.parameters.last_mut().unwrap() = f64::INFINITY;
    let forward = run(&class(Pass::Forward, false, &bottleneck).programs[0], &data.inputs(0.5));
    assert_eq!((forward.fallback_rows as usize, forward.rows), (ROWS, data.x.clone()));
    let backward = class(Pass::Backward, false, &bottleneck);
    for program in [&backward.programs[0], &backward.frozen[0]] {
        let outputs = run(program, &data.inputs(0.5));
        assert_eq!((outputs.fallback_rows as usize, outputs.rows), (ROWS, data.output_gradient.clone()));
        assert!(outputs.parameter_gradient.iter().all(|gradient| *gradient == 0.0));
    }
}

#[test]
fn frozen_programs_compute_nothing_for_parameters() {
    for blueprint in blueprints() {
        let class = class(Pass::Backward, false, &blueprint);
        let (trained, frozen) = (&class.programs[0], &class.frozen[0]);
        assert!(frozen.accumulate.is_empty() && frozen.epilogue.is_empty(), "{}: {frozen}", blueprint.name);
        assert_eq!(frozen.outputs.len(), 1, "{}: {frozen}", blueprint.name);
        assert!(work(frozen) < work(trained), "{}: {frozen}", blueprint.name);
    }
    // Four contractions: two layers forward, because f(x) tells which rows fell back, and two backward.
    let bottleneck = library("bottleneck", CHUNK, &Attributes::new()).unwrap();
    let contractions = |program: &Program| program.body.iter().filter(|step| step.reduced.rank() > 0).count();
    assert_eq!(contractions(&class(Pass::Backward, false, &bottleneck).frozen[0]), 4);
}

#[test]
fn gradients_of_weights_are_added_up_as_they_are_contracted() {
    for name in ["bottleneck", "low_rank", "normalized_mlp", "squeeze_excite"] {
        let blueprint = library(name, CHUNK, &Attributes::new()).unwrap();
        let program = &class(Pass::Backward, false, &blueprint).programs[0];
        let widest = program.body.iter().map(|step| step.shape.elements()).max().unwrap();
        assert!(widest <= 2 * CHUNK, "an outer product stands in the body: {program}");
        assert!(program.epilogue.is_empty(), "{program}");
    }
}

#[test]
fn uniform_values_are_computed_once() {
    let attention = library("attention", CHUNK, &Attributes::new()).unwrap();
    let forward = &class(Pass::Forward, false, &attention).programs[0];
    let applies = |step: &Step, name: &str| step.to_string().contains(name);
    assert!(forward.prologue.iter().any(|step| applies(step, "exp")), "{forward}");
    assert!(!forward.body.iter().any(|step| applies(step, "exp")), "{forward}");
}

#[test]
fn the_identity_is_a_program() {
    let identity = blueprint("", "x");
    let mut data = Data::new(&identity);
    data.x[5] = f64::INFINITY;
    let mut graph: Graph = identity.graph.clone();
    graph.guards = vec![identity.x()];
    let program = simplify(lower(&graph, 4, &[], RowInput::X).unwrap()).unwrap();
    let outputs = run(&program, &data.inputs(0.5));
    assert_eq!((&outputs.rows, outputs.fallback_rows), (&data.x, 1));

    let backward = &class(Pass::Backward, true, &identity).programs[0];
    let outputs = run(backward, &Inputs { x: &[1.0; 12], ..data.inputs(0.25) });
    assert_eq!(outputs.alpha_gradient, 0.0);
    for (dx, dy) in outputs.rows.iter().zip(&data.output_gradient) {
        near(*dx, *dy, "the gradient through the identity");
    }
}

#[test]
fn an_output_that_is_a_view_is_put_in_order() {
    let turned = blueprint(
        r#"{"name": "matrix", "op": "reshape", "inputs": ["x"], "attributes": {"shape": [2, 2]}},
           {"name": "turned", "op": "permute", "inputs": ["matrix"], "attributes": {"axes": [1, 0]}},
           {"name": "y", "op": "reshape", "inputs": ["turned"], "attributes": {"shape": [4]}}"#,
        "y",
    );
    let data = Data::new(&turned);
    let program = simplify(lower(&turned.graph, 4, &[], RowInput::X).unwrap()).unwrap();
    let expected: Vec<_> = data.x.chunks(4).flat_map(|row| [row[0], row[2], row[1], row[3]]).collect();
    assert_eq!(run(&program, &data.inputs(1.0)).rows, expected);
    assert_eq!(program.body.len(), 1, "{program}");
    assert_eq!(run(&class(Pass::Forward, false, &turned).programs[0], &data.inputs(1.0)).rows, expected);
}

#[test]
fn simplified_passes_compute_the_same_with_no_more_work() {
    for blueprint in blueprints() {
        let data = Data::new(&blueprint);
        let offsets: Vec<_> = blueprint.parameters.iter().map(|parameter| parameter.offset).collect();
        for graph in [
            passes::forward(&blueprint).unwrap(),
            passes::backward(&blueprint, true, true).unwrap(),
            passes::backward(&blueprint, false, false).unwrap(),
            passes::train(&blueprint).unwrap(),
        ] {
            let plain = lower(&graph, CHUNK, &offsets, RowInput::X).unwrap();
            let simple = simplify(plain.clone()).unwrap();
            assert_eq!(run(&plain, &data.inputs(0.7)), run(&simple, &data.inputs(0.7)), "{simple}");
            assert!(work(&simple) <= work(&plain), "{plain}{simple}");
            assert_eq!(simplify(simple.clone()).unwrap(), simple, "simplifying twice changes something");
        }
    }
}

/// The simplified program of one function of x.
fn program(function: impl Fn(&mut Builder, kasmina::graph::ValueId) -> kasmina::graph::ValueId) -> Program {
    let mut builder = Builder::new();
    let x = builder.row(RowInput::X, 4);
    let y = function(&mut builder, x);
    builder.output(y, Target::Row);
    simplify(lower(&builder.finish().unwrap(), 4, &[], RowInput::X).unwrap()).unwrap()
}

#[test]
fn a_chain_of_maps_is_one_step() {
    let program = program(|builder, x| {
        let y = builder.exp(x);
        let y = builder.neg(y);
        let y = builder.tanh(y);
        builder.add(y, x)
    });
    assert_eq!(program.body.len(), 1, "{program}");
}

#[test]
fn equal_steps_are_computed_once() {
    let program = program(|builder, x| {
        let (a, b) = (builder.exp(x), builder.exp(x));
        let (a, b) = (builder.sum(a, &[0], true), builder.sum(b, &[0], true));
        let product = builder.mul(a, b);
        builder.add(x, product)
    });
    assert_eq!(program.to_string().matches("exp").count(), 1, "{program}");
}

#[test]
fn a_map_is_not_put_into_a_reader_that_would_repeat_it() {
    let program = program(|builder, x| {
        let slow = builder.exp(x);
        let column = builder.reshape(slow, &Shape::new([4, 1]));
        let row = builder.reshape(x, &Shape::new([1, 4]));
        let table = builder.mul(column, row);
        builder.sum(table, &[1], false)
    });
    let steps = program.body.iter().filter(|step| step.to_string().contains("exp")).map(|step| step.shape.elements());
    assert_eq!(steps.collect::<Vec<_>>(), [4], "{program}");
}

#[test]
fn folding_keeps_every_bit() {
    // What each of them is for x = -0, computed in the program's own arithmetic.
    let fold = |function: fn(&mut Builder, kasmina::graph::ValueId) -> kasmina::graph::ValueId| {
        let program = program(function);
        let x = [-0.0; 4];
        let y = run(&program, &Inputs { rows: 1, x: &x, ..Inputs::default() }).rows[0];
        (program.body[0].expression.functions(), y.to_bits())
    };
    let negative = (-0.0f64).to_bits();
    let is = |functions: usize, bits: u64| (functions, bits);
    assert_eq!(
        fold(|b, x| {
            let one = b.constant(1.0);
            b.mul(x, one)
        }),
        is(0, negative)
    );
    assert_eq!(
        fold(|b, x| {
            let one = b.constant(1.0);
            b.div(x, one)
        }),
        is(0, negative)
    );
    assert_eq!(
        fold(|b, x| {
            let zero = b.constant(0.0);
            b.sub(x, zero)
        }),
        is(0, negative)
    );
    assert_eq!(
        fold(|b, x| {
            let zero = b.constant(0.0);
            b.add(x, zero)
        }),
        is(1, 0)
    );
    assert_eq!(
        fold(|b, x| {
            let zero = b.constant(-0.0);
            b.add(x, zero)
        }),
        is(0, negative)
    );
    assert_eq!(
        fold(|b, x| {
            let zero = b.constant(0.0);
            b.mul(x, zero)
        }),
        is(1, negative)
    );
    // 1/3 + 1/3 in f32 is not what it is in f64, so it is left to the arithmetic of the launch.
    let thirds = program(|builder, x| {
        let (one, three) = (builder.constant(1.0), builder.constant(3.0));
        let third = builder.div(one, three);
        let sum = builder.add(third, third);
        builder.mul(x, sum)
    });
    let uniform = |step: &Step| matches!(step.expression, Expression::Binary(..));
    assert!(thirds.prologue.iter().chain(&thirds.body).any(uniform), "{thirds}");
}

#[test]
fn not_a_number_propagates_as_in_pytorch() {
    let of = |operator: &'static str| {
        let program = program(|builder, x| {
            let y = builder.apply(operator, &[x], &[]);
            builder.broadcast(y, &Shape::new([4]))
        });
        run(&program, &Inputs { rows: 1, x: &[1.0, f64::NAN, -2.0, 5.0], ..Inputs::default() }).rows
    };
    let relu = of("relu");
    assert!(relu[1].is_nan() && relu[0] == 1.0 && relu[2] == 0.0, "{relu:?}");
    assert!(of("max").iter().all(|largest| largest.is_nan()));
}

#[test]
fn large_numbers_do_not_overflow_inside_stable_operators() {
    for operator in ["softmax", "sigmoid", "silu", "gelu", "tanh", "layer_norm"] {
        let program = program(|builder, x| builder.apply(operator, &[x], &[]));
        let x = [1000.0, -1000.0, 900.0, 0.0];
        let y = run(&program, &Inputs { rows: 1, x: &x, ..Inputs::default() }).rows;
        assert!(y.iter().all(|y| y.is_finite()), "{operator}: {y:?}");
    }
}

#[test]
fn the_variance_survives_a_large_mean() {
    let program = program(|builder, x| builder.apply("layer_norm", &[x], &[]));
    let x = [1e9 + 1.0, 1e9 - 1.0, 1e9 + 1.0, 1e9 - 1.0];
    let y = run(&program, &Inputs { rows: 1, x: &x, ..Inputs::default() }).rows;
    near(y[0], 1.0 / (1.0f64 + 1e-5).sqrt(), "the first element");
}

#[test]
fn a_kernel_class_keeps_the_order_and_refuses_what_does_not_fit() {
    let (residual, mlp) = (blueprints().remove(0), library("mlp", CHUNK, &Attributes::new()).unwrap());
    let of = |list: &[&Blueprint]| kernel_class(Pass::Forward, DataType::BF16, false, list);
    let (there, back) = (of(&[&residual, &mlp]).unwrap(), of(&[&mlp, &residual]).unwrap());
    assert_eq!((there.chunk, there.frozen.len()), (CHUNK, 0));
    assert_eq!([&there.programs[0], &there.programs[1]], [&back.programs[1], &back.programs[0]]);
    assert_ne!(there.programs[0], there.programs[1]);

    let wider = library("mlp", CHUNK + 1, &Attributes::new()).unwrap();
    let error = of(&[&mlp, &wider]).unwrap_err();
    assert_eq!(error.status(), Status::InvalidArgument);
    assert!(error.message().contains("chunks of 9"), "{error}");
    assert_eq!(of(&[]).unwrap_err().status(), Status::InvalidArgument);
    let error = kernel_class(Pass::Forward, DataType::I32, false, &[&mlp]).unwrap_err();
    assert!(error.message().contains("i32"), "{error}");
}

#[test]
fn a_row_cannot_depend_on_a_sum_over_rows() {
    let mut builder = Builder::new();
    let x = builder.row(RowInput::X, 4);
    let total = builder.row_sum(x);
    let y = builder.mul(x, total);
    builder.output(y, Target::Row);
    let error = lower(&builder.finish().unwrap(), 4, &[], RowInput::X).unwrap_err();
    assert_eq!(error.status(), Status::InvalidBlueprint);
}

#[test]
fn a_uniform_value_is_summed_over_rows_as_well() {
    let mut builder = Builder::new();
    builder.row(RowInput::X, 4);
    let alpha = builder.scalar(Scalar::Alpha);
    builder.output(alpha, Target::Loss);
    let program = simplify(lower(&builder.finish().unwrap(), 4, &[], RowInput::X).unwrap()).unwrap();
    assert_eq!(run(&program, &Inputs { rows: 5, alpha: 0.5, ..Inputs::default() }).loss, 2.5);
}

#[test]
fn programs_can_be_read() {
    let program = program(|builder, x| {
        let total = builder.sum(x, &[0], true);
        let share = builder.div(x, total);
        builder.exp(share)
    });
    let expected = "program for chunks of 4, falling back to X\n  v0[4] is Row(X)\nbody\n  v1[] = sum[4] v0[1]\n  \
                    v2[4] = exp((v0[1] / v1[0]))\noutputs v2 to Row\nguards \n";
    assert_eq!(program.to_string(), expected);
}
