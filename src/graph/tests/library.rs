//! The library blueprints compute their formulas, and their gradients are those of the formulas.

use super::evaluator::{Inputs, Values, evaluate};
use super::random::{Random, none};
use crate::Status;
use crate::graph::{
    Attribute, Attributes, Blueprint, Builder, LIBRARY, RowInput, Scalar, ValueId, differentiate, library,
};

const ROWS: usize = 4;
const CHUNK: usize = 5;

/// A blended layer, `y = (1 - a) x + a f(x)`, with all its gradients, evaluated on random numbers.
struct Blended {
    given: Inputs,
    values: Values,
    y: ValueId,
    of_x: ValueId,
    of_alpha: ValueId,
    of_parameters: Vec<ValueId>,
}

impl Blended {
    fn new(name: &str) -> Self {
        let blueprint = library(name, CHUNK, &none()).unwrap();
        let mut builder = Builder::continuing(&blueprint.graph);
        let alpha = builder.scalar(Scalar::Alpha);
        let step = builder.sub(blueprint.output(), blueprint.x());
        let step = builder.mul(step, alpha);
        let y = builder.add(blueprint.x(), step);
        let output_gradient = builder.row(RowInput::OutputGradient, CHUNK);
        let mut with_respect_to = vec![blueprint.x(), alpha];
        with_respect_to.extend((0..blueprint.parameters.len()).map(|position| blueprint.parameter(position)));
        let gradients = differentiate(&mut builder, y, output_gradient, &with_respect_to);
        let gradients: Vec<_> = gradients.into_iter().map(Option::unwrap).collect();
        let graph = builder.finish().unwrap();

        let random = &mut Random::new(3);
        let mut rows = || (0..ROWS).map(|_| random.numbers(CHUNK)).collect();
        let (x, output_gradient) = (rows(), rows());
        let parameters = blueprint.parameters.iter().map(|own| random.numbers(own.shape.elements())).collect();
        let given = Inputs { x, output_gradient, parameters, alpha: 0.3 };
        let values = evaluate(&graph, &given);
        let [of_x, of_alpha, ..] = gradients[..] else { unreachable!() };
        Self { given, values, y, of_x, of_alpha, of_parameters: gradients[2..].to_vec() }
    }

    /// Checks f, the blend, dx and dalpha, given f and `dx / g` for row and channel.
    fn check(&self, f: impl Fn(f64, usize) -> f64, slope: impl Fn(f64, usize) -> f64) {
        let a = self.given.alpha;
        let (mut y, mut of_x, mut of_alpha) = (Vec::new(), Vec::new(), 0.0);
        self.each(|x, g, channel| {
            y.push(a * f(x, channel) + (1.0 - a) * x);
            of_x.push(slope(x, channel) * g);
            of_alpha += g * (f(x, channel) - x);
        });
        close(&self.values.of(self.y), &y);
        close(&self.values.of(self.of_x), &of_x);
        close(&self.values.of(self.of_alpha), &[of_alpha]);
    }

    /// Checks the gradient of a parameter of one element per channel: the sum over rows of a term.
    fn check_channels(&self, parameter: usize, term: impl Fn(f64, f64, usize) -> f64) {
        let mut expected = vec![0.0; CHUNK];
        self.each(|x, g, channel| expected[channel] += term(x, g, channel));
        close(&self.values.of(self.of_parameters[parameter]), &expected);
    }

    /// Checks the gradient of a parameter of one element: the sum over rows and channels of a term.
    fn check_scalar(&self, parameter: usize, term: impl Fn(f64, f64, usize) -> f64) {
        let mut expected = 0.0;
        self.each(|x, g, channel| expected += term(x, g, channel));
        close(&self.values.of(self.of_parameters[parameter]), &[expected]);
    }

    fn each(&self, mut visit: impl FnMut(f64, f64, usize)) {
        for (x, g) in self.given.x.iter().zip(&self.given.output_gradient) {
            (0..CHUNK).for_each(|channel| visit(x[channel], g[channel], channel));
        }
    }
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }
}

#[test]
fn residual_has_the_written_derivatives() {
    let layer = Blended::new("residual");
    let (w, s, a) = (&layer.given.parameters[0], layer.given.parameters[1][0], layer.given.alpha);
    layer.check(|x, channel| x + w[channel] * s, |_, _| 1.0);
    layer.check_channels(0, |_, g, _| a * s * g);
    layer.check_scalar(1, |_, g, channel| a * g * w[channel]);
}

#[test]
fn attention_has_the_written_derivatives() {
    let layer = Blended::new("attention");
    let (w, a) = (&layer.given.parameters[0], layer.given.alpha);
    let total: f64 = w.iter().map(|w| w.exp()).sum();
    let p: Vec<f64> = w.iter().map(|w| w.exp() / total).collect();
    layer.check(|x, channel| x * p[channel], |_, channel| (1.0 - a) + a * p[channel]);
    // dw = p (q - sum(p q)), q = a x g, for each row
    let mut expected = vec![0.0; CHUNK];
    for (x, g) in layer.given.x.iter().zip(&layer.given.output_gradient) {
        let q: Vec<f64> = (0..CHUNK).map(|channel| a * x[channel] * g[channel]).collect();
        let mean: f64 = p.iter().zip(&q).map(|(p, q)| p * q).sum();
        (0..CHUNK).for_each(|channel| expected[channel] += p[channel] * (q[channel] - mean));
    }
    close(&layer.values.of(layer.of_parameters[0]), &expected);
}

#[test]
fn mlp_has_the_written_derivatives() {
    let layer = Blended::new("mlp");
    let (w, s, a) = (&layer.given.parameters[0], layer.given.parameters[1][0], layer.given.alpha);
    let m = |x: f64, channel: usize| if x * w[channel] > 0.0 { 1.0 } else { 0.0 };
    layer
        .check(|x, channel| (x * w[channel]).max(0.0) * s, |x, channel| (1.0 - a) + a * s * w[channel] * m(x, channel));
    layer.check_channels(0, |x, g, channel| a * s * x * m(x, channel) * g);
    layer.check_scalar(1, |x, g, channel| a * g * x * w[channel] * m(x, channel));
}

#[test]
fn conv_has_the_written_derivatives() {
    let layer = Blended::new("conv");
    let (w, s, a) = (&layer.given.parameters[0], layer.given.parameters[1][0], layer.given.alpha);
    let before = |row: &[f64], channel: usize, back: usize| channel.checked_sub(back).map_or(0.0, |at| row[at]);
    let behind = |row: &[f64], channel: usize, ahead: usize| row.get(channel + ahead).copied().unwrap_or(0.0);
    let (mut y, mut of_x, mut of_w, mut of_s) = (Vec::new(), Vec::new(), vec![0.0; 3], 0.0);
    for (x, g) in layer.given.x.iter().zip(&layer.given.output_gradient) {
        for channel in 0..CHUNK {
            let f = |w: &[f64]| (0..3).map(|back| w[back] * before(x, channel, back)).sum::<f64>();
            y.push(a * f(w) * s + (1.0 - a) * x[channel]);
            // Transposed taps.
            let through: f64 = (0..3).map(|ahead| w[ahead] * behind(g, channel, ahead)).sum();
            of_x.push(a * s * through + (1.0 - a) * g[channel]);
            (0..3).for_each(|back| of_w[back] += a * s * g[channel] * before(x, channel, back));
            of_s += a * g[channel] * f(w);
        }
    }
    close(&layer.values.of(layer.y), &y);
    close(&layer.values.of(layer.of_x), &of_x);
    close(&layer.values.of(layer.of_parameters[0]), &of_w);
    close(&layer.values.of(layer.of_parameters[1]), &[of_s]);
}

/// f(x) on random rows, with the parameters of a fresh slot or random ones.
fn output(blueprint: &Blueprint, parameters: Vec<f64>) -> (Vec<Vec<f64>>, Vec<f64>) {
    let random = &mut Random::new(5);
    let own = |parameter: &crate::graph::Parameter| {
        parameters[parameter.offset..parameter.offset + parameter.shape.elements()].to_vec()
    };
    let x: Vec<_> = (0..ROWS).map(|_| random.numbers(blueprint.chunk)).collect();
    let parameters = blueprint.parameters.iter().map(own).collect();
    let given = Inputs { x: x.clone(), parameters, ..Inputs::default() };
    (x, evaluate(&blueprint.graph, &given).of(blueprint.output()))
}

#[test]
fn fresh_blueprints_are_as_near_to_identity_as_the_table_says() {
    let factor = |name: &str| match name {
        "attention" => 1.0 / CHUNK as f64,
        "squeeze_excite" => 1.0 / (1.0 + (-3f64).exp()),
        _ => 1.0,
    };
    for name in LIBRARY {
        let blueprint = library(name, CHUNK, &none()).unwrap();
        let (x, y) = output(&blueprint, blueprint.initialize(11));
        let fresh = |x: f64| if *name == "mlp" { x.max(0.0) } else { x * factor(name) };
        close(&y, &x.concat().into_iter().map(fresh).collect::<Vec<_>>());
    }
}

#[test]
fn a_fresh_blueprint_can_learn() {
    for name in LIBRARY {
        let blueprint = library(name, CHUNK, &none()).unwrap();
        let mut builder = Builder::continuing(&blueprint.graph);
        let output_gradient = builder.row(RowInput::OutputGradient, CHUNK);
        let parameters: Vec<_> = (0..blueprint.parameters.len()).map(|at| blueprint.parameter(at)).collect();
        let gradients = differentiate(&mut builder, blueprint.output(), output_gradient, &parameters);
        let graph = builder.finish().unwrap();
        let random = &mut Random::new(5);
        let mut rows = || (0..ROWS).map(|_| random.numbers(CHUNK)).collect();
        let (x, output_gradient) = (rows(), rows());
        let slot = blueprint.initialize(1);
        let own = |own: &crate::graph::Parameter| slot[own.offset..own.offset + own.shape.elements()].to_vec();
        let parameters = blueprint.parameters.iter().map(own).collect();
        let values = evaluate(&graph, &Inputs { x, output_gradient, parameters, alpha: 1.0 });
        let moves = gradients.into_iter().flatten().any(|gradient| values.of(gradient).iter().any(|g| g.abs() > 1e-3));
        assert!(moves, "every gradient of a fresh `{name}` is zero");
    }
}

#[test]
fn attributes_size_the_inner_layers() {
    let sized = |name, attribute: &str, size| {
        let attributes = Attributes::from([(attribute.into(), Attribute::Integer(size))]);
        library(name, 16, &attributes).unwrap().parameter_count()
    };
    assert_eq!(sized("bottleneck", "width", 3), 2 * 3 * 16 + 3 + 16);
    assert_eq!(sized("low_rank", "rank", 2), 2 * 2 * 16);
    assert_eq!(sized("squeeze_excite", "width", 3), 2 * 3 * 16 + 3 + 16);
    assert_eq!(sized("normalized_mlp", "width", 20), 2 * 20 * 16 + 20 + 3 * 16);
    assert_eq!(library("bottleneck", 16, &none()).unwrap().parameters[0].shape.0, [4, 16]);
    assert_eq!(library("low_rank", 3, &none()).unwrap().parameters[0].shape.0, [1, 3]);
}

#[test]
fn what_the_library_does_not_have_is_refused() {
    let width = |value: Attribute| Attributes::from([(String::from("width"), value)]);
    let cases = [
        ("perceptron", 8, none(), Status::InvalidArgument, "there are residual, attention"),
        ("conv", 8, width(Attribute::Integer(3)), Status::InvalidArgument, "`conv` has no attribute \"width\""),
        ("residual", 8, width(Attribute::Integer(3)), Status::InvalidArgument, "`residual` has no attribute \"width\""),
        ("low_rank", 8, width(Attribute::Integer(3)), Status::InvalidArgument, "it has rank"),
        ("bottleneck", 8, width(Attribute::Integer(0)), Status::InvalidArgument, "a whole number from 1"),
        ("bottleneck", 8, width(Attribute::Float(2.0)), Status::InvalidArgument, "a whole number from 1"),
        ("bottleneck", 8, width(Attribute::Integer(i64::MAX)), Status::BlueprintTooLarge, "parameter `w1`"),
        ("normalized_mlp", usize::MAX, none(), Status::BlueprintTooLarge, "the chunk"),
        ("mlp", 0, none(), Status::InvalidBlueprint, "the chunk"),
    ];
    for (name, chunk, attributes, status, reason) in cases {
        let error = library(name, chunk, &attributes).unwrap_err();
        assert_eq!(error.status(), status, "{name}: {error}");
        assert!(error.message().contains(reason), "`{error}` does not say `{reason}`");
    }
}
