//! Repeated to a larger shape, as NumPy broadcasts.

use super::{Attribute, Call, Lowered, Lowering, Operator, Value, View, attribute};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

/// `shape` is the shape that comes out.
#[derive(Debug)]
pub(super) struct Broadcast;

impl Operator for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn attributes(&self) -> &'static [(&'static str, Option<Attribute>)] {
        &[("shape", None)]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        let (from, to) = (inputs[0].shape, attribute::shape(attributes, "shape")?);
        if from.broadcast_with(&to).as_ref() != Some(&to) {
            return Err(format!("{from} does not broadcast to {to}"));
        }
        Ok((inputs[0].data_type, to))
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
