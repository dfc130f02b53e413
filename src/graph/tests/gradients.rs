//! Differentiation against finite differences in f64: operators alone that need no lowering to be evaluated, and random
//! compositions of them. All operators are compared with PyTorch in `tests/rust/operators`.

use super::evaluator::{Inputs, evaluate};
use super::random::{self, Random};
use crate::graph::{
    Attribute, Attributes, Builder, DataType, Graph, RowInput, Shape, Source, Target, ValueId, differentiate,
};

const ROWS: usize = 3;
const CHUNK: usize = 5;

/// An operator with the shapes of its inputs.
struct Case {
    operator: &'static str,
    shapes: &'static [&'static [usize]],
    attributes: Vec<(&'static str, Attribute)>,
    /// Whether its inputs must be above zero.
    positive: bool,
}

fn case(operator: &'static str, shapes: &'static [&'static [usize]]) -> Case {
    Case { operator, shapes, attributes: Vec::new(), positive: false }
}

impl Case {
    fn with(mut self, name: &'static str, value: Attribute) -> Self {
        self.attributes.push((name, value));
        self
    }

    fn positive(self) -> Self {
        Self { positive: true, ..self }
    }
}

fn integers(values: &[i64]) -> Attribute {
    Attribute::Integers(values.to_vec().into())
}

fn text(value: &'static str) -> Attribute {
    Attribute::Text(value.into())
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("add", &[&[2, 3], &[3]]),
        case("add", &[&[], &[4]]),
        case("sub", &[&[3, 1], &[1, 2]]),
        case("sub", &[&[4], &[]]),
        case("mul", &[&[2, 3], &[2, 1]]),
        case("mul", &[&[1], &[2, 2]]),
        case("div", &[&[2, 3], &[3]]).positive(),
        case("div", &[&[], &[2]]).positive(),
        case("where", &[&[3], &[2, 3], &[1]]),
        case("linear", &[&[3], &[2, 3]]),
        case("linear", &[&[3], &[2, 3], &[2]]),
        case("linear", &[&[2, 3], &[4, 3], &[4]]),
        case("gelu", &[&[4]]).with("approximate", text("tanh")),
        case("layer_norm", &[&[2, 4]]),
        case("layer_norm", &[&[4], &[4]]),
        case("layer_norm", &[&[2, 4], &[4], &[4]]).with("eps", Attribute::Float(0.1)),
        case("rms_norm", &[&[2, 4]]),
        case("rms_norm", &[&[2, 4], &[4]]).with("eps", Attribute::Float(0.1)),
        case("softmax", &[&[4]]),
        case("softmax", &[&[2, 3]]).with("axis", Attribute::Integer(0)),
        case("reshape", &[&[2, 3]]).with("shape", integers(&[3, 2])),
        case("permute", &[&[2, 3, 2]]).with("axes", integers(&[2, 0, 1])),
        case("broadcast", &[&[3, 1]]).with("shape", integers(&[2, 3, 2])),
        case("einsum", &[&[2, 3], &[3]]).with("equation", text("ab,b->a")),
        case("einsum", &[&[2, 3], &[3, 2]]).with("equation", text("ab,bc->ca")),
        case("einsum", &[&[2, 3], &[4]]).with("equation", text("ab,c->b")),
        case("einsum", &[&[2, 3], &[2, 3]]).with("equation", text("ab,ab->")),
    ];
    for operator in ["neg", "exp", "abs", "erf", "relu", "gelu", "silu", "tanh", "sigmoid"] {
        cases.push(case(operator, &[&[2, 3]]));
    }
    for operator in ["log", "sqrt", "rsqrt"] {
        cases.push(case(operator, &[&[2, 3]]).positive());
    }
    for operator in ["sum", "mean", "max"] {
        cases.push(case(operator, &[&[2, 3]]));
        cases.push(case(operator, &[&[2, 3]]).with("axes", integers(&[0])));
        cases.push(case(operator, &[&[2, 3, 2]]).with("axes", integers(&[0, -1])).with("keep", Attribute::Bool(true)));
    }
    cases
}

#[test]
fn every_operator_is_differentiated_as_finite_differences_say() {
    for case in cases() {
        for per_row in 0..1 << case.shapes.len() {
            let mut random = Random::new(7 + per_row);
            check_case(&case, |input| per_row >> input & 1 == 1, &mut random);
        }
    }
}

/// loss = sum over rows and elements of weight * operator(inputs), where each input depends on x or only on parameters.
fn check_case(case: &Case, per_row: impl Fn(usize) -> bool, random: &mut Random) {
    let mut builder = Builder::new();
    let x = builder.row(RowInput::X, CHUNK);
    let mut given = Inputs { x: (0..ROWS).map(|_| random.numbers(CHUNK)).collect(), ..Inputs::default() };
    let mut parameter = |builder: &mut Builder, shape: Shape| {
        given.parameters.push(random.numbers(shape.elements()));
        builder.parameter(given.parameters.len() - 1, "parameter", shape)
    };
    let mut with_respect_to = vec![x];
    let mut inputs = Vec::new();
    for (position, &shape) in case.shapes.iter().enumerate() {
        let shape = Shape::new(shape);
        let mut input = if per_row(position) {
            let spread = parameter(&mut builder, Shape::new([shape.elements(), CHUNK]));
            with_respect_to.push(spread);
            let flat = builder.einsum("oi,i->o", spread, x);
            builder.reshape(flat, &shape)
        } else {
            let input = parameter(&mut builder, shape.clone());
            with_respect_to.push(input);
            input
        };
        if case.positive {
            let half = builder.constant(0.5);
            let square = builder.mul(input, input);
            input = builder.add(square, half);
        }
        if case.operator == "where" && position == 0 {
            let zero = builder.constant(0.0);
            input = builder.greater(input, zero);
        }
        inputs.push(input);
    }
    let output = builder.apply(case.operator, &inputs, &case.attributes);
    let shape = builder.shape(output);
    let weight = parameter(&mut builder, shape);
    let weighted = builder.mul(output, weight);
    let total = builder.sum(weighted, &[], false);
    let loss = builder.row_sum(total);
    let one = builder.constant(1.0);
    let gradients = differentiate(&mut builder, loss, one, &with_respect_to);
    let graph = builder.finish().unwrap();
    let message = format!("{} {:?}", case.operator, case.shapes);
    check(&graph, &given, &with_respect_to, &gradients, &message, |given| evaluate(&graph, given).number(loss));
}

#[test]
fn random_compositions_are_differentiated_as_finite_differences_say() {
    for seed in 0..150 {
        let random = &mut Random::new(seed);
        let blueprint = random::blueprint(random).verify().unwrap();
        let mut builder = Builder::continuing(&blueprint.graph);
        let output_gradient = builder.row(RowInput::OutputGradient, blueprint.chunk);
        let with_respect_to: Vec<_> = (0..=blueprint.parameters.len()).map(|at| ValueId(at as u32)).collect();
        let gradients = differentiate(&mut builder, blueprint.output(), output_gradient, &with_respect_to);
        let graph = builder.finish().unwrap();
        let mut rows = || (0..ROWS).map(|_| random.numbers(blueprint.chunk)).collect();
        let (x, output_gradient): (_, Vec<Vec<f64>>) = (rows(), rows());
        let weights = output_gradient.concat();
        let parameters = blueprint.parameters.iter().map(|own| random.numbers(own.shape.elements())).collect();
        let given = Inputs { x, output_gradient, parameters, alpha: 0.0 };
        check(&graph, &given, &with_respect_to, &gradients, &format!("seed {seed}"), |given| {
            let output = evaluate(&graph, given).of(blueprint.output());
            output.iter().zip(&weights).map(|(output, weight)| output * weight).sum()
        });
    }
}

/// Compares each gradient with central differences of the loss. `with_respect_to` is x and then the first parameters.
fn check(
    graph: &Graph,
    given: &Inputs,
    with_respect_to: &[ValueId],
    gradients: &[Option<ValueId>],
    message: &str,
    loss: impl Fn(&Inputs) -> f64,
) {
    let step = 1e-5;
    let values = evaluate(graph, given);
    for (which, (value, gradient)) in with_respect_to.iter().zip(gradients).enumerate() {
        if let Some(gradient) = gradient {
            let (own, of) = (graph.node(*gradient), graph.node(*value));
            assert_eq!((&own.shape, own.data_type), (&of.shape, DataType::F32), "{message}");
            assert!(of.per_row || !own.per_row, "{message}: the gradient of a uniform value must be uniform");
        }
        let elements = if which == 0 { ROWS * given.x[0].len() } else { given.parameters[which - 1].len() };
        // A gradient of a per-row value that is the same for all rows may be uniform.
        let found = gradient.map_or(vec![0.0; elements], |gradient| values.of(gradient));
        for at in 0..elements {
            let moved = |by: f64| {
                let mut moved = given.clone();
                match which {
                    0 => moved.x[at / given.x[0].len()][at % given.x[0].len()] += by,
                    _ => moved.parameters[which - 1][at] += by,
                }
                loss(&moved)
            };
            let expected = (moved(step) - moved(-step)) / (2.0 * step);
            let found = found[at % found.len()];
            assert!(
                (found - expected).abs() <= 1e-5 * (1.0 + expected.abs()),
                "{message}, input {which}, element {at}: the gradient is {found}, finite differences say {expected}"
            );
        }
    }
}

#[test]
fn a_value_used_twice_gets_the_sum_of_both_gradients() {
    let mut builder = Builder::new();
    let x = builder.row(RowInput::X, 1);
    let square = builder.mul(x, x);
    let output = builder.add(square, x);
    let output_gradient = builder.row(RowInput::OutputGradient, 1);
    let gradient = differentiate(&mut builder, output, output_gradient, &[x])[0].unwrap();
    let graph = builder.finish().unwrap();
    let given = Inputs { x: vec![vec![3.0]], output_gradient: vec![vec![10.0]], ..Inputs::default() };
    assert_eq!(evaluate(&graph, &given).of(gradient), [70.0]);
    assert_eq!(graph.node(gradient).name, "gradient_of_x");
}

#[test]
fn one_sum_over_rows_serves_a_uniform_value_however_often_it_is_used() {
    let mut builder = Builder::new();
    let x = builder.row(RowInput::X, 2);
    let w = builder.parameter(0, "w", Shape::new([2]));
    let p = builder.apply("softmax", &[w], &[]);
    let scaled = builder.mul(x, p);
    let output = builder.add(scaled, p);
    let output_gradient = builder.row(RowInput::OutputGradient, 2);
    let gradient = differentiate(&mut builder, output, output_gradient, &[w])[0].unwrap();
    builder.output(gradient, Target::ParameterGradient(0));
    let graph = builder.finish().unwrap();
    let is_sum = |source: &Source| matches!(source, Source::Operator { operator, .. } if operator.name() == "row_sum");
    assert_eq!(graph.nodes.iter().filter(|node| is_sum(&node.source)).count(), 1);
    assert_eq!(graph.node(output_gradient).name, "output_gradient");
    assert!(!graph.node(gradient).per_row);
}

#[test]
fn what_the_output_does_not_depend_on_has_no_gradient() {
    let mut builder = Builder::new();
    let x = builder.row(RowInput::X, 2);
    let w = builder.parameter(0, "w", Shape::new([2]));
    let unused = builder.parameter(1, "unused", Shape::new([2]));
    let compared = builder.greater(w, x);
    let output = builder.select(compared, x, x);
    let output_gradient = builder.row(RowInput::OutputGradient, 2);
    let later = builder.neg(output);
    let gradients = differentiate(&mut builder, output, output_gradient, &[x, w, unused, output, later]);
    assert!(gradients[0].is_some());
    assert_eq!(gradients[1..], [None, None, Some(output_gradient), None]);
    builder.finish().unwrap();
}

#[test]
fn the_gradient_of_a_comparison_is_nothing() {
    let mut builder = Builder::new();
    let x = builder.row(RowInput::X, 2);
    let truth = builder.call("greater", &[x, x], Attributes::new()).unwrap();
    let output_gradient = builder.row(RowInput::OutputGradient, 2);
    assert_eq!(differentiate(&mut builder, truth, output_gradient, &[x]), [None]);
    builder.finish().unwrap();
}
