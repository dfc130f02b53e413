//! The same elements, in order, in another shape.

use super::{Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Reshape;

impl Operator for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Movement,
            summary: "The same elements, in order, in another shape.",
            inputs: &[("a", "any value")],
            result: "`shape`, the type of a",
            gradient: "`g` in the shape of a",
            cost: "0, or |a| moves if no view can show it so",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute { name: "shape", default: None, meaning: "the shape that comes out, every size spelled out" }]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        let shape = attribute::shape(attributes, "shape")?;
        let (from, to) = (inputs[0].shape.elements(), shape.elements());
        if from != to {
            return Err(format!("{} has {from} elements, {shape} has {to}", inputs[0].shape));
        }
        Ok((inputs[0].data_type, shape))
    }

    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let shape = builder.shape(call.inputs[0]);
        vec![Some(builder.reshape(output_gradient, &shape))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        lowering.reshape(&call.inputs[0], call.shape)
    }
}
