//! Rotary position embedding: pairs of elements of the last axis turned by an angle that grows with the position.

use super::{Composite, Documentation, Group, KnownAttribute, attribute, expect_numbers};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};

pub(super) static ROPE: Composite = Composite {
    name: "rope",
    documentation: Documentation {
        group: Group::Function,
        summary: "Rotary position embedding: pair i of the last axis of n is turned by the angle \
                  `(position + offset) base^(-2 i / n)`, where the position is that along the axis before.",
        inputs: &[("a", "numbers [.., positions, n], n even")],
        result: "numbers of the shape of a",
        gradient: "`g`, turned back",
        cost: "3 |a|, and once 5 positions n",
    },
    arity: 1..=1,
    attributes: &[
        KnownAttribute { name: "base", default: Some(Attribute::Float(10000.0)), meaning: "more than 0" },
        KnownAttribute { name: "offset", default: Some(Attribute::Float(0.0)), meaning: "the first position" },
        KnownAttribute {
            name: "interleaved",
            default: Some(Attribute::Bool(false)),
            meaning: "whether pair i is elements 2 i and 2 i + 1; else it is i and i + n / 2",
        },
    ],
    infer: |inputs, attributes| {
        expect_numbers(inputs)?;
        let shape = inputs[0].shape;
        attribute::float(attributes, "offset")?;
        attribute::truth(attributes, "interleaved")?;
        let base = attribute::float(attributes, "base")?;
        if base <= 0.0 {
            return Err(format!("`base` is {base}; it must be more than 0"));
        }
        match shape.0.as_slice() {
            [.., _, last] if last.is_multiple_of(2) => Ok((DataType::F32, shape.clone())),
            _ => Err(format!("the input has shape {shape}; it must be [.., positions, n] with an even n")),
        }
    },
    normalise: |_, _| {},
    build,
};

fn build(builder: &mut Builder, inputs: &[ValueId], attributes: &Attributes) -> ValueId {
    let shape = builder.shape(inputs[0]);
    let rank = shape.rank();
    let (positions, pairs) = (shape.0[rank - 2], shape.0[rank - 1] / 2);
    let angles = angles(builder, attributes, positions, pairs);
    let cosine = builder.apply("cos", &[angles], &[]);
    let sine = builder.apply("sin", &[angles], &[]);
    // The two of each pair along an axis of their own.
    let interleaved = attribute::known(attribute::truth(attributes, "interleaved"));
    let mut paired = shape.clone();
    let axis = if interleaved { rank } else { rank - 1 };
    paired.0[rank - 1] = pairs;
    paired.0.insert(axis, 2);
    let turned = builder.reshape(inputs[0], &paired);
    let mut single = shape.clone();
    single.0[rank - 1] = pairs;
    let mut half = |index| {
        let half = builder.slice(turned, axis, index, index + 1);
        builder.reshape(half, &single)
    };
    let (first, second) = (half(0), half(1));
    let (a, b) = (builder.mul(first, cosine), builder.mul(second, sine));
    let new_first = builder.sub(a, b);
    let (a, b) = (builder.mul(second, cosine), builder.mul(first, sine));
    let new_second = builder.add(a, b);
    paired.0[axis] = 1;
    let halves = [builder.reshape(new_first, &paired), builder.reshape(new_second, &paired)];
    let both = builder.concat(&halves, axis);
    builder.reshape(both, &shape)
}

/// `[positions, pairs]`: (position + offset) base^(-i / pairs).
fn angles(builder: &mut Builder, attributes: &Attributes, positions: usize, pairs: usize) -> ValueId {
    let base = attribute::known(attribute::float(attributes, "base"));
    let offset = attribute::known(attribute::float(attributes, "offset"));
    let index = |builder: &mut Builder, count: usize| {
        builder.apply("index", &[], &[("count", Attribute::Integer(count as i64))])
    };
    let pair = index(builder, pairs);
    let slope = builder.constant(-base.ln() / pairs as f64);
    let exponent = builder.mul(pair, slope);
    let frequency = builder.exp(exponent);
    let position = index(builder, positions);
    let offset = builder.constant(offset);
    let position = builder.add(position, offset);
    let position = builder.reshape(position, &Shape::new([positions, 1]));
    builder.mul(position, frequency)
}
