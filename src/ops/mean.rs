//! The mean over axes.

use super::{Accepts, Composite, Documentation, Group, attribute, reduction};

pub(super) static MEAN: Composite = Composite {
    name: "mean",
    documentation: Documentation {
        group: Group::Reduction,
        summary: "The mean over axes.",
        inputs: &[("a", "numbers")],
        result: "numbers, without the axes or with them of size 1",
        gradient: "`g / n`, repeated; n elements went into one",
        cost: "|a| + |y|",
    },
    arity: 1..=1,
    attributes: reduction::ATTRIBUTES,
    infer: |inputs, attributes| reduction::infer(Accepts::Numbers, inputs, attributes),
    normalise: reduction::normalise,
    build: |builder, inputs, attributes| {
        let shape = builder.shape(inputs[0]);
        let axes = reduction::axes(attributes, shape.rank());
        let count: usize = axes.iter().map(|&axis| shape.0[axis]).product();
        let sum = builder.sum(inputs[0], &axes, attribute::known(attribute::truth(attributes, "keep")));
        let count = builder.constant(count as f64);
        builder.div(sum, count)
    },
};
