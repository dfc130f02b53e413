//! What normalisations over the last axis share.

use super::{Value, attribute, expect_numbers};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};

/// The shape of the first input, if the others are as long as its last axis and `eps` is not negative.
pub(super) fn infer(
    inputs: &[Value<'_>],
    names: &[&str],
    attributes: &Attributes,
) -> Result<(DataType, Shape), String> {
    expect_numbers(inputs)?;
    let shape = inputs[0].shape;
    let Some(&last) = shape.0.last() else {
        return Err("a single number has no last axis to normalise over".into());
    };
    for (input, name) in inputs[1..].iter().zip(names) {
        if input.shape.0 != [last] {
            return Err(format!("the {name} has shape {}; the last axis of {shape} asks for [{last}]", input.shape));
        }
    }
    let eps = attribute::float(attributes, "eps")?;
    if eps < 0.0 {
        return Err(format!("`eps` is {eps}; it must not be negative"));
    }
    Ok((DataType::F32, shape.clone()))
}

/// The attribute `eps`.
pub(super) fn eps(attributes: &Attributes) -> f64 {
    attribute::known(attribute::float(attributes, "eps"))
}

/// The mean over the last axis, which stays with size 1.
pub(super) fn mean(builder: &mut Builder, value: ValueId) -> ValueId {
    let last = Attribute::Integers(vec![-1].into());
    builder.apply("mean", &[value], &[("axes", last), ("keep", Attribute::Bool(true))])
}

/// `value / sqrt(square + eps)`, and the factor.
pub(super) fn scaled(builder: &mut Builder, value: ValueId, square: ValueId, eps: f64) -> (ValueId, ValueId) {
    let eps = builder.constant(eps);
    let square = builder.add(square, eps);
    let factor = builder.rsqrt(square);
    (builder.mul(value, factor), factor)
}
