//! Gated linear units: one half of an axis gates the other.

use super::{Composite, Documentation, Group, KnownAttribute, attribute, expect_numbers};
use crate::graph::{Attribute, Attributes, DataType, Shape};
use std::borrow::Cow;

/// What a gate may be passed through.
const ACTIVATIONS: [&str; 5] = ["sigmoid", "gelu", "silu", "relu", "identity"];

pub(super) static GLU: Composite = Composite {
    name: "glu",
    documentation: Documentation {
        group: Group::Function,
        summary: "The first half of an axis times the activation of the second; with `sigmoid` `torch.nn.functional.glu`, \
                  with the others GEGLU, SwiGLU, ReGLU and the bilinear unit.",
        inputs: &[("a", "numbers")],
        result: "numbers, half as many along the axis",
        gradient: "`g f(b)` to the first half, `g a f'(b)` to the second",
        cost: "the activation of half of a, and |y|",
    },
    arity: 1..=1,
    attributes: &[
        KnownAttribute { name: "axis", default: Some(Attribute::Integer(-1)), meaning: attribute::AXIS },
        KnownAttribute {
            name: "activation",
            default: Some(Attribute::Text(Cow::Borrowed("sigmoid"))),
            meaning: "`sigmoid`, `gelu`, `silu`, `relu` or `identity`",
        },
    ],
    infer: |inputs, attributes| {
        expect_numbers(inputs)?;
        let (axis, _) = read(attributes, inputs[0].shape)?;
        let mut shape = inputs[0].shape.clone();
        shape.0[axis] /= 2;
        Ok((DataType::F32, shape))
    },
    normalise: |inputs, attributes| attribute::settle_axis(attributes, "axis", inputs[0].shape.rank()),
    build: |builder, inputs, attributes| {
        let shape = builder.shape(inputs[0]);
        let (axis, activation) = attribute::known(read(attributes, &shape));
        let half = shape.0[axis] / 2;
        let value = builder.slice(inputs[0], axis, 0, half);
        let gate = builder.slice(inputs[0], axis, half, 2 * half);
        let gate = if activation == "identity" { gate } else { builder.apply(activation, &[gate], &[]) };
        builder.mul(value, gate)
    },
};

fn read<'a>(attributes: &'a Attributes, shape: &Shape) -> Result<(usize, &'a str), String> {
    let axis = attribute::axis(attributes, "axis", shape.rank())?;
    if !shape.0[axis].is_multiple_of(2) {
        return Err(format!("axis {axis} of {shape} has no halves"));
    }
    let activation = attribute::text(attributes, "activation")?;
    if !ACTIVATIONS.contains(&activation) {
        return Err(format!("`activation` is {activation:?}; it must be one of {}", ACTIVATIONS.join(", ")));
    }
    Ok((axis, activation))
}
