//! A value as one branch of a conditional sees it. What the other rows and elements do in that branch never reaches its
//! gradient, not even as NaN.

use super::elementwise::broadcast;
use super::{Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Taken;

impl Operator for Taken {
    fn name(&self) -> &'static str {
        "taken"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Choice,
            summary: "a, as the branch of a conditional sees it that is taken where the condition is `when`. A `conditional` \
                      puts it in.",
            inputs: &[("condition", "truth values"), ("a", "any value")],
            result: "the type of a, the shape that both broadcast to",
            gradient: "`g` where the condition is `when`, 0 elsewhere even if `g` is NaN",
            cost: "0",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute {
            name: "when",
            default: Some(Attribute::Bool(true)),
            meaning: "for which of the two the branch is taken",
        }]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        attribute::truth(attributes, "when")?;
        let condition = inputs[0].data_type;
        if condition != DataType::Bool {
            return Err(format!("the condition is {}, not bool", condition.name()));
        }
        Ok((inputs[1].data_type, broadcast(inputs)?))
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let shape = builder.shape(call.inputs[1]);
        let zero = builder.constant(0.0);
        let of_a = match attribute::known(attribute::truth(call.attributes, "when")) {
            true => builder.select(call.inputs[0], output_gradient, zero),
            false => builder.select(call.inputs[0], zero, output_gradient),
        };
        vec![None, Some(builder.sum_to(of_a, &shape))]
    }

    fn lower(&self, _: &mut Lowering, call: &Lowered<'_>) -> View {
        call.inputs[1].broadcast(call.shape)
    }
}
