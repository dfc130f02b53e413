//! Operators that combine elements over `axes` (none named means all of them), which `keep` leaves in the shape with
//! size 1: a file for each says how they are combined, and nothing else; all that they share stands here.

use super::{Accepts, Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute};
use crate::compile::Reducer;
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// An operator that is one reduction, of numbers or whole numbers.
#[derive(Debug)]
pub(super) struct ReductionOperator {
    pub name: &'static str,
    pub summary: &'static str,
    /// What `derivative` computes.
    pub gradient: &'static str,
    /// How elements are combined.
    pub reducer: Reducer,
    /// The gradient of the input, from that of the result.
    pub derivative: fn(&mut Builder, &Call<'_>, gradient: ValueId) -> ValueId,
}

impl Operator for ReductionOperator {
    fn name(&self) -> &'static str {
        self.name
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Reduction,
            summary: self.summary,
            inputs: &[("a", "numbers or whole numbers")],
            result: "the type of a, without the axes or with them of size 1",
            gradient: self.gradient,
            cost: "|a|",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        ATTRIBUTES
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        infer(Accepts::Arithmetic, inputs, attributes)
    }

    fn normalise(&self, inputs: &[Value<'_>], attributes: &mut Attributes) {
        normalise(inputs, attributes);
    }

    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        vec![Some((self.derivative)(builder, call, output_gradient))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        let input = &call.inputs[0];
        let reduced = lowering.reduce(self.reducer, input, &axes(call.attributes, input.shape.rank()));
        lowering.reshape(&reduced, call.shape)
    }
}

/// The attributes of a reduction.
pub(super) static ATTRIBUTES: &[KnownAttribute] = &[
    KnownAttribute {
        name: "axes",
        default: Some(Attribute::Integers(Cow::Borrowed(&[]))),
        meaning: "the axes that are combined, negative ones counting from the end; none named means all",
    },
    KnownAttribute {
        name: "keep",
        default: Some(Attribute::Bool(false)),
        meaning: "whether they stay in the shape, with size 1",
    },
];

/// The shape that is left.
pub(super) fn infer(
    accepts: Accepts,
    inputs: &[Value<'_>],
    attributes: &Attributes,
) -> Result<(DataType, Shape), String> {
    let data_type = accepts.common(inputs)?;
    let mut shape = inputs[0].shape.clone();
    let axes = named(attribute::axes(attributes, "axes", shape.rank())?, shape.rank());
    let keep = attribute::truth(attributes, "keep")?;
    axes.iter().for_each(|&axis| shape.0[axis] = 1);
    if !keep {
        let kept = shape.0.into_iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
        shape = Shape(kept.map(|(_, size)| size).collect());
    }
    Ok((data_type, shape))
}

/// All axes that are reduced, named in order.
pub(super) fn normalise(inputs: &[Value<'_>], attributes: &mut Attributes) {
    let mut axes = axes(attributes, inputs[0].shape.rank());
    axes.sort_unstable();
    attribute::settle_axes(attributes, "axes", &axes);
}

/// The axes that are reduced.
pub(super) fn axes(attributes: &Attributes, rank: usize) -> Vec<usize> {
    named(attribute::known(attribute::axes(attributes, "axes", rank)), rank)
}

/// A value of the result's shape, repeated over the reduced axes to the input's shape.
pub(super) fn spread(builder: &mut Builder, call: &Call<'_>, value: ValueId) -> ValueId {
    let shape = builder.shape(call.inputs[0]);
    let mut kept = shape.clone();
    axes(call.attributes, shape.rank()).iter().for_each(|&axis| kept.0[axis] = 1);
    let value = builder.reshape(value, &kept);
    builder.broadcast(value, &shape)
}

/// The gradient of a reduction that chooses: the elements that equal the result share it evenly, as in `torch.amax`.
pub(super) fn shared_by_the_chosen(builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> ValueId {
    let input = call.inputs[0];
    let axes = axes(call.attributes, builder.shape(input).rank());
    let (zero, one) = (builder.constant(0.0), builder.constant(1.0));
    let chosen = spread(builder, call, call.output);
    let is_chosen = builder.equal(input, chosen);
    let mask = builder.select(is_chosen, one, zero);
    let ties = builder.sum(mask, &axes, true);
    let gradient = spread(builder, call, output_gradient);
    let chosen = builder.mul(gradient, mask);
    builder.div(chosen, ties)
}

fn named(axes: Vec<usize>, rank: usize) -> Vec<usize> {
    if axes.is_empty() { (0..rank).collect() } else { axes }
}
