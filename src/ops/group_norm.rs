//! Groups of channels brought to mean 0 and variance 1, as `torch.nn.functional.group_norm`.

use super::{Composite, Documentation, Group, KnownAttribute, attribute, expect_numbers};
use crate::graph::{Attribute, DataType, Shape};

pub(super) static GROUP_NORM: Composite = Composite {
    name: "group_norm",
    documentation: Documentation {
        group: Group::Normalisation,
        summary: "Mean 0 and variance 1 over each group of channels and all that belongs to them, then an optional weight and \
                  bias per channel.",
        inputs: &[("a", "numbers [channels, ..]"), ("weight", "numbers [channels]"), ("bias", "numbers [channels]")],
        result: "numbers of the shape of a",
        gradient: "as of `layer_norm`, group by group",
        cost: "7 |a| + 4 groups",
    },
    arity: 1..=3,
    attributes: &[
        KnownAttribute { name: "groups", default: None, meaning: "how many; the channels must be a multiple of it" },
        KnownAttribute { name: "eps", default: Some(Attribute::Float(1e-5)), meaning: "added to the variance" },
    ],
    infer: |inputs, attributes| {
        expect_numbers(inputs)?;
        let shape = inputs[0].shape;
        let Some(&channels) = shape.0.first() else {
            return Err("a single number has no channels".into());
        };
        let groups = attribute::count(attributes, "groups", 1, channels)?;
        if !channels.is_multiple_of(groups) {
            return Err(format!("{channels} channels cannot be cut into {groups} equal groups"));
        }
        for (input, name) in inputs[1..].iter().zip(["weight", "bias"]) {
            if input.shape.0 != [channels] {
                return Err(format!("the {name} has shape {}; {shape} asks for [{channels}]", input.shape));
            }
        }
        let eps = attribute::float(attributes, "eps")?;
        if eps < 0.0 {
            return Err(format!("`eps` is {eps}; it must not be negative"));
        }
        Ok((DataType::F32, shape.clone()))
    },
    normalise: |_, _| {},
    build: |builder, inputs, attributes| {
        let shape = builder.shape(inputs[0]);
        let groups = attribute::known(attribute::count(attributes, "groups", 1, shape.0[0]));
        let eps = attribute::known(attribute::float(attributes, "eps"));
        let grouped = builder.reshape(inputs[0], &Shape::new([groups, shape.elements() / groups]));
        let normal = builder.apply("layer_norm", &[grouped], &[("eps", Attribute::Float(eps))]);
        let mut result = builder.reshape(normal, &shape);
        let mut column = Shape(vec![1; shape.rank()]);
        column.0[0] = shape.0[0];
        if let Some(&weight) = inputs.get(1) {
            let weight = builder.reshape(weight, &column);
            result = builder.mul(result, weight);
        }
        if let Some(&bias) = inputs.get(2) {
            let bias = builder.reshape(bias, &column);
            result = builder.add(result, bias);
        }
        result
    },
};
