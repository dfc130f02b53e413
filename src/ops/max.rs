//! The largest element over axes; NaN if any is NaN. The function of two numbers is `maximum`.

use super::{Accepts, Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, reduction};
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
            inputs: &[("a", "numbers or whole numbers")],
            result: "the type of a, without the axes or with them of size 1",
            gradient: "`g`, shared evenly by the elements that equal `y`",
            cost: "|a|",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        reduction::ATTRIBUTES
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        reduction::infer(Accepts::Arithmetic, inputs, attributes)
    }

    fn normalise(&self, inputs: &[Value<'_>], attributes: &mut Attributes) {
        reduction::normalise(inputs, attributes);
    }

    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        vec![Some(reduction::shared_by_the_chosen(builder, call, output_gradient))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        reduction::lower(lowering, call, Reducer::Max)
    }
}
