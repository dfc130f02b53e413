//! Repeated to a larger shape, as NumPy broadcasts.

use super::{Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Broadcast;

impl Operator for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Movement,
            summary: "Repeated to a larger shape, as NumPy broadcasts.",
            inputs: &[("a", "a value whose shape broadcasts to `shape`")],
            result: "`shape`, the type of a",
            gradient: "`g` summed over what was repeated",
            cost: "0",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute { name: "shape", default: None, meaning: "the shape that comes out" }]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        let (from, to) = (inputs[0].shape, attribute::shape(attributes, "shape")?);
        if from.broadcast_with(&to).as_ref() != Some(&to) {
            return Err(format!("{from} does not broadcast to {to}"));
        }
        Ok((inputs[0].data_type, to))
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    /// The gradient summed over what was repeated.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let shape = builder.shape(call.inputs[0]);
        vec![Some(builder.sum_to(output_gradient, &shape))]
    }

    fn lower(&self, _: &mut Lowering, call: &Lowered<'_>) -> View {
        call.inputs[0].broadcast(call.shape)
    }
}
