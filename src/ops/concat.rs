//! Values one after the other along an axis.

use super::{Accepts, Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Concat;

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=16
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Movement,
            summary: "Values one after the other along an axis.",
            inputs: &[("a", "values of one type, and of one shape but for the axis")],
            result: "the type of the inputs, with all their elements along the axis",
            gradient: "to each input its part of `g`",
            cost: "0, but |y| moves",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute { name: "axis", default: Some(Attribute::Integer(-1)), meaning: attribute::AXIS }]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        let data_type = Accepts::Any.common(inputs)?;
        let mut shape = inputs[0].shape.clone();
        let axis = attribute::axis(attributes, "axis", shape.rank())?;
        for (position, input) in inputs.iter().enumerate().skip(1) {
            let own = input.shape;
            let fits = own.rank() == shape.rank() && (0..own.rank()).all(|at| at == axis || own.0[at] == shape.0[at]);
            if !fits {
                let first = inputs[0].shape;
                return Err(format!("input {position} has shape {own}; next to {first} only axis {axis} may differ"));
            }
            shape.0[axis] = shape.0[axis].saturating_add(own.0[axis]);
        }
        Ok((data_type, shape))
    }

    fn normalise(&self, inputs: &[Value<'_>], attributes: &mut Attributes) {
        attribute::settle_axis(attributes, "axis", inputs[0].shape.rank());
    }

    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let axis = axis(call.attributes, builder.shape(call.output).rank());
        let mut start = 0;
        let part = |&input: &ValueId| {
            let stop = start + builder.shape(input).0[axis];
            let part = builder.slice(output_gradient, axis, start, stop);
            start = stop;
            Some(part)
        };
        call.inputs.iter().map(part).collect()
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        let parts: Vec<_> = call.inputs.iter().collect();
        lowering.concatenate(&parts, axis(call.attributes, call.shape.rank()))
    }
}

fn axis(attributes: &Attributes, rank: usize) -> usize {
    attribute::known(attribute::axis(attributes, "axis", rank))
}
