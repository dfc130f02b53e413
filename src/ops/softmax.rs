//! `e^(a - max) / sum(e^(a - max))` along one axis.

use super::{
    Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute, expect_numbers,
};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Softmax;

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Normalisation,
            summary: "`e^(a - max) / sum(e^(a - max))` along one axis.",
            inputs: &[("a", "numbers of at least one axis")],
            result: "numbers of the shape of a",
            gradient: "`y (g - sum(g y))`",
            cost: "5 |a|",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute { name: "axis", default: Some(Attribute::Integer(-1)), meaning: attribute::AXIS }]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        expect_numbers(inputs)?;
        attribute::axis(attributes, "axis", inputs[0].shape.rank())?;
        Ok((DataType::F32, inputs[0].shape.clone()))
    }

    fn normalise(&self, inputs: &[Value<'_>], attributes: &mut Attributes) {
        attribute::settle_axis(attributes, "axis", inputs[0].shape.rank());
    }

    /// `output * (gradient - sum(gradient * output))`
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let axis = axis(call.attributes, builder.shape(call.output).rank());
        let weighted = builder.mul(output_gradient, call.output);
        let total = builder.sum(weighted, &[axis], true);
        let centred = builder.sub(output_gradient, total);
        vec![Some(builder.mul(centred, call.output))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        let axis = axis(call.attributes, call.shape.rank());
        lowering.expand(call.inputs, |builder, inputs| {
            let axes = Attribute::Integers(vec![axis as i64].into());
            let largest = builder.apply("max", inputs, &[("axes", axes), ("keep", Attribute::Bool(true))]);
            let shifted = builder.sub(inputs[0], largest);
            let power = builder.exp(shifted);
            let total = builder.sum(power, &[axis], true);
            builder.div(power, total)
        })
    }
}

fn axis(attributes: &Attributes, rank: usize) -> usize {
    attribute::known(attribute::axis(attributes, "axis", rank))
}
