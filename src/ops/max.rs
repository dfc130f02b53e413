//! The largest element over axes; NaN if any is NaN.

use super::{Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, reduction};
use crate::compile::Reducer;
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Max;

impl Operator for Max {
    fn name(&self) -> &'static str {
        "max"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Reduction,
            summary: "The largest element over axes; NaN if any is NaN.",
            inputs: &[("a", "numbers of any shape")],
            result: "numbers without the axes, or with them of size 1",
            gradient: "`g`, shared evenly by the elements that equal `y`",
            cost: "|a|",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        reduction::ATTRIBUTES
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        reduction::infer(inputs, attributes)
    }

    fn normalise(&self, inputs: &[Value<'_>], attributes: &mut Attributes) {
        reduction::normalise(inputs, attributes);
    }

    /// The elements that equal the maximum share the gradient evenly, as in `torch.amax`.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let input = call.inputs[0];
        let axes = reduction::axes(call.attributes, builder.shape(input).rank());
        let (zero, one) = (builder.constant(0.0), builder.constant(1.0));
        let largest = reduction::spread(builder, call, call.output);
        let is_largest = builder.equal(input, largest);
        let mask = builder.select(is_largest, one, zero);
        let ties = builder.sum(mask, &axes, true);
        let gradient = reduction::spread(builder, call, output_gradient);
        let chosen = builder.mul(gradient, mask);
        vec![Some(builder.div(chosen, ties))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        reduction::lower(lowering, call, Reducer::Max)
    }
}
