//! What the builder infers and refuses.

use super::random::none;
use crate::Status;
use crate::graph::{Attribute, Attributes, Builder, DataType, RowInput, Scalar, Shape, Target, ValueId};

fn attributes(given: &[(&str, Attribute)]) -> Attributes {
    given.iter().map(|(name, value)| (String::from(*name), value.clone())).collect()
}

#[test]
fn elementwise_operators_broadcast_and_depend_on_the_row_if_an_input_does() {
    let mut builder = Builder::new();
    let x = builder.row(RowInput::X, 4);
    let w = builder.parameter(0, "w", Shape::new([3, 1]));
    let alpha = builder.scalar(Scalar::Alpha);
    let scaled = builder.mul(w, alpha);
    let sum = builder.add(x, scaled);
    assert_eq!((builder.shape(scaled), builder.per_row(scaled)), (Shape::new([3, 1]), false));
    assert_eq!((builder.shape(sum), builder.per_row(sum)), (Shape::new([3, 4]), true));
    let larger = builder.greater(sum, x);
    assert_eq!(builder.data_type(larger), DataType::Bool);
    let total = builder.row_sum(sum);
    assert!(!builder.per_row(total));
    builder.finish().unwrap();
}

#[test]
fn shapes_broadcast_as_in_numpy() {
    let broadcast = |a: &[usize], b: &[usize]| Shape::new(a).broadcast_with(&Shape::new(b)).map(|shape| shape.0);
    assert_eq!(broadcast(&[], &[]), Some(vec![]));
    assert_eq!(broadcast(&[4], &[]), Some(vec![4]));
    assert_eq!(broadcast(&[3, 1], &[4]), Some(vec![3, 4]));
    assert_eq!(broadcast(&[1, 5], &[2, 1, 1]), Some(vec![2, 1, 5]));
    assert_eq!(broadcast(&[3], &[4]), None);
    assert_eq!(broadcast(&[2, 3], &[2]), None);
}

#[test]
fn defaults_are_filled_in_and_whole_numbers_become_numbers() {
    let mut builder = Builder::new();
    let x = builder.row(RowInput::X, 4);
    let normal = builder.call("layer_norm", &[x], attributes(&[("eps", Attribute::Integer(1))])).unwrap();
    let soft = builder.call("softmax", &[x], none()).unwrap();
    let found = |value: ValueId| match &builder.node(value).source {
        crate::graph::Source::Operator { attributes, .. } => attributes.clone(),
        _ => unreachable!(),
    };
    assert_eq!(found(normal), attributes(&[("eps", Attribute::Float(1.0))]));
    assert_eq!(found(soft), attributes(&[("axis", Attribute::Integer(0))]), "axes are counted from the front");
}

#[test]
fn bad_calls_are_refused_with_the_reason() {
    let mut builder = Builder::new();
    let x = builder.row(RowInput::X, 4);
    let w = builder.parameter(0, "w", Shape::new([3]));
    let integers = |values: &[i64]| Attribute::Integers(values.to_vec().into());
    let long = Attribute::Text("a".repeat(65).into());
    let cases: [(&str, &[ValueId], Attributes, Status, &str); 15] = [
        ("frobnicate", &[x], none(), Status::InvalidBlueprint, "no operator `frobnicate`; there are constant"),
        ("add", &[x], none(), Status::InvalidBlueprint, "`add` takes 2 inputs, not 1"),
        ("linear", &[x], none(), Status::InvalidBlueprint, "takes 2 to 3 inputs"),
        ("neg", &[ValueId(9)], none(), Status::InvalidBlueprint, "value 9, which does not stand before it"),
        ("add", &[x, w], none(), Status::InvalidBlueprint, "`add` cannot be applied: the shapes [4] and [3]"),
        ("reshape", &[x], none(), Status::InvalidBlueprint, "`reshape` needs the attribute `shape`"),
        (
            "neg",
            &[x],
            attributes(&[("axis", Attribute::Integer(0))]),
            Status::InvalidBlueprint,
            "has no attribute `axis`; it has none",
        ),
        (
            "softmax",
            &[x],
            attributes(&[("axis", Attribute::Float(0.5))]),
            Status::InvalidBlueprint,
            "attribute `axis` of `softmax`: it is a number, not a whole number",
        ),
        ("softmax", &[x], attributes(&[("axis", Attribute::Integer(1))]), Status::InvalidBlueprint, "axis 1"),
        (
            "constant",
            &[],
            attributes(&[("value", Attribute::Float(f64::NAN))]),
            Status::InvalidBlueprint,
            "NaN is not a finite number",
        ),
        (
            "constant",
            &[],
            attributes(&[("value", Attribute::Float(f64::INFINITY))]),
            Status::InvalidBlueprint,
            "inf is not a finite",
        ),
        ("softmax", &[x], attributes(&[("axis", Attribute::Integer(i64::MIN))]), Status::BlueprintTooLarge, "32 bits"),
        (
            "broadcast",
            &[x],
            attributes(&[("shape", integers(&[1 << 40, 1 << 40, 4]))]),
            Status::BlueprintTooLarge,
            "attribute `shape` of `broadcast`",
        ),
        (
            "broadcast",
            &[x],
            attributes(&[("shape", integers(&[1, 1, 1, 1, 1, 1, 4]))]),
            Status::BlueprintTooLarge,
            "at most 6",
        ),
        ("gelu", &[x], attributes(&[("approximate", long)]), Status::BlueprintTooLarge, "65 letters"),
    ];
    for (operator, inputs, attributes, status, reason) in cases {
        let error = builder.call(operator, inputs, attributes).unwrap_err();
        assert_eq!(error.status(), status, "{operator}: {error}");
        assert!(error.message().contains(reason), "{operator}: `{error}` does not say `{reason}`");
    }
    builder.finish().unwrap();
}

#[test]
fn results_over_the_limit_are_refused() {
    let mut builder = Builder::new();
    let a = builder.parameter(0, "a", Shape::new([1 << 20, 1]));
    let b = builder.parameter(1, "b", Shape::new([1 << 20]));
    let error = builder.call("mul", &[a, b], none()).unwrap_err();
    assert_eq!(error.status(), Status::BlueprintTooLarge);
    assert!(error.message().starts_with("the result of `mul`"), "{error}");
}

#[test]
fn finish_reports_the_first_failure_of_the_methods_that_return_a_value() {
    let mut builder = Builder::new();
    let x = builder.row(RowInput::X, 4);
    let w = builder.parameter(0, "w", Shape::new([3]));
    let sum = builder.add(x, w);
    builder.einsum("nonsense", sum, w);
    assert!(builder.finish().unwrap_err().message().contains("[4] and [3]"));
}

#[test]
fn an_output_must_depend_on_the_row_exactly_if_it_goes_to_a_row() {
    let mut builder = Builder::new();
    let w = builder.parameter(0, "w", Shape::new([3]));
    builder.output(w, Target::Row);
    assert!(builder.finish().unwrap_err().message().contains("`w` is uniform"));

    let mut builder = Builder::new();
    let x = builder.row(RowInput::X, 4);
    builder.output(x, Target::ParameterGradient(0));
    assert!(builder.finish().unwrap_err().message().contains("`x` is per row"));
}

#[test]
fn sum_to_undoes_broadcasting() {
    let mut builder = Builder::new();
    let wide = builder.parameter(0, "wide", Shape::new([2, 3, 4]));
    for shape in [&[2, 3, 4][..], &[3, 4], &[4], &[], &[1], &[3, 1], &[1, 3, 4], &[2, 1, 1]] {
        let narrow = builder.sum_to(wide, &Shape::new(shape));
        assert_eq!(builder.shape(narrow).0, shape);
    }
    builder.finish().unwrap();
}
