//! The sum over axes.

use super::{Accepts, Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, reduction};
use crate::compile::Reducer;
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Sum;

impl Operator for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Reduction,
            summary: "The sum over axes. Whole numbers keep their type and wrap.",
            inputs: &[("a", "numbers or whole numbers")],
            result: "the type of a, without the axes or with them of size 1",
            gradient: "`g`, repeated",
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

    /// Every summand gets the gradient of the sum.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        vec![Some(reduction::spread(builder, call, output_gradient))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        reduction::lower(lowering, call, Reducer::Sum)
    }
}
