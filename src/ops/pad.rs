//! A number put before and behind the elements of an axis.

use super::{Accepts, Composite, Documentation, Group, KnownAttribute, attribute};
use crate::graph::{Attribute, Attributes, DataType, Limits, Shape};

pub(super) static PAD: Composite = Composite {
    name: "pad",
    documentation: Documentation {
        group: Group::Movement,
        summary: "A number put before and behind the elements of an axis.",
        inputs: &[("a", "numbers or whole numbers")],
        result: "the type of a, with more elements along the axis",
        gradient: "the part of `g` that a lies in",
        cost: "0, but |y| moves",
    },
    arity: 1..=1,
    attributes: &[
        KnownAttribute { name: "axis", default: Some(Attribute::Integer(-1)), meaning: attribute::AXIS },
        KnownAttribute { name: "before", default: Some(Attribute::Integer(0)), meaning: "how many before" },
        KnownAttribute { name: "behind", default: Some(Attribute::Integer(0)), meaning: "how many behind" },
        KnownAttribute { name: "value", default: Some(Attribute::Float(0.0)), meaning: "the number" },
    ],
    infer: |inputs, attributes| {
        let data_type = Accepts::Arithmetic.common(inputs)?;
        let (axis, [before, behind]) = read(attributes, inputs[0].shape)?;
        let value = attribute::float(attributes, "value")?;
        if data_type.is_integer() && value.fract() != 0.0 {
            return Err(format!("`value` is {value}, and the input is {}", data_type.name()));
        }
        let mut shape = inputs[0].shape.clone();
        shape.0[axis] += before + behind;
        Ok((data_type, shape))
    },
    normalise: |inputs, attributes| attribute::settle_axis(attributes, "axis", inputs[0].shape.rank()),
    build: |builder, inputs, attributes| {
        let (shape, data_type) = (builder.shape(inputs[0]), builder.data_type(inputs[0]));
        let (axis, sides) = attribute::known(read(attributes, &shape));
        let number = builder.constant(attribute::known(attribute::float(attributes, "value")));
        let number = if data_type == DataType::F32 { number } else { builder.cast(number, data_type) };
        let mut side = |count| {
            let mut side = shape.clone();
            side.0[axis] = count;
            (count > 0).then(|| builder.broadcast(number, &side))
        };
        let parts: Vec<_> = [side(sides[0]), Some(inputs[0]), side(sides[1])].into_iter().flatten().collect();
        if parts.len() == 1 { inputs[0] } else { builder.concat(&parts, axis) }
    },
};

fn read(attributes: &Attributes, shape: &Shape) -> Result<(usize, [usize; 2]), String> {
    let most = Limits::DEFAULT.elements;
    let side = |name| attribute::count(attributes, name, 0, most);
    Ok((attribute::axis(attributes, "axis", shape.rank())?, [side("before")?, side("behind")?]))
}
