//! One of the equal parts of an axis.

use super::{Composite, Documentation, Group, KnownAttribute, attribute};
use crate::graph::{Attribute, Attributes, Shape};

pub(super) static SPLIT: Composite = Composite {
    name: "split",
    documentation: Documentation {
        group: Group::Movement,
        summary: "One of the equal parts that an axis is cut into.",
        inputs: &[("a", "any value")],
        result: "the type of a, with the elements of the part along the axis",
        gradient: "`g` where it came from, 0 elsewhere",
        cost: "0",
    },
    arity: 1..=1,
    attributes: &[
        KnownAttribute { name: "axis", default: Some(Attribute::Integer(-1)), meaning: attribute::AXIS },
        KnownAttribute {
            name: "parts",
            default: None,
            meaning: "into how many parts; the axis must be a multiple of it",
        },
        KnownAttribute { name: "index", default: None, meaning: "which part, from 0" },
    ],
    infer: |inputs, attributes| {
        let Part { axis, size, .. } = Part::read(attributes, inputs[0].shape)?;
        let mut shape = inputs[0].shape.clone();
        shape.0[axis] = size;
        Ok((inputs[0].data_type, shape))
    },
    normalise: |inputs, attributes| attribute::settle_axis(attributes, "axis", inputs[0].shape.rank()),
    build: |builder, inputs, attributes| {
        let shape = builder.shape(inputs[0]);
        let Part { axis, index, size } = attribute::known(Part::read(attributes, &shape));
        builder.slice(inputs[0], axis, index * size, (index + 1) * size)
    },
};

/// Which part of which axis, and how long the parts are.
#[derive(Default)]
struct Part {
    axis: usize,
    index: usize,
    size: usize,
}

impl Part {
    fn read(attributes: &Attributes, shape: &Shape) -> Result<Self, String> {
        let axis = attribute::axis(attributes, "axis", shape.rank())?;
        let all = shape.0[axis];
        let parts = attribute::count(attributes, "parts", 1, all)?;
        let index = attribute::count(attributes, "index", 0, parts - 1)?;
        if !all.is_multiple_of(parts) {
            return Err(format!("{all} elements along axis {axis} of {shape} cannot be cut into {parts} equal parts"));
        }
        Ok(Self { axis, index, size: all / parts })
    }
}
