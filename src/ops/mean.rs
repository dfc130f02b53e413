//! The mean over axes.

use super::{Accepts, Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, reduction};
use crate::compile::{Expression, Reducer};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Mean;

impl Operator for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Reduction,
            summary: "The mean over axes.",
            inputs: &[("a", "numbers")],
            result: "numbers, without the axes or with them of size 1",
            gradient: "`g / n`, repeated; n elements went into one",
            cost: "|a| + |y|",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        reduction::ATTRIBUTES
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        reduction::infer(Accepts::Numbers, inputs, attributes)
    }

    fn normalise(&self, inputs: &[Value<'_>], attributes: &mut Attributes) {
        reduction::normalise(inputs, attributes);
    }

    /// Every element gets its share of the gradient.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let count = reduction::count(call.attributes, &builder.shape(call.inputs[0]));
        let count = builder.constant(count as f64);
        let share = builder.div(output_gradient, count);
        vec![Some(reduction::spread(builder, call, share))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        let count = reduction::count(call.attributes, &call.inputs[0].shape);
        let sum = reduction::lower(lowering, call, Reducer::Sum);
        let count = lowering.constant(count as f64);
        lowering.map(call.shape, &[&sum, &count], Expression::Operand(0) / Expression::Operand(1))
    }
}
