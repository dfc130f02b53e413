//! `a * sigmoid(a)`

use super::{Call, Documentation, Group, Lowered, Lowering, Operator, Value, View, expect_numbers};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Silu;

impl Operator for Silu {
    fn name(&self) -> &'static str {
        "silu"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Function,
            summary: "`a * sigmoid(a)`",
            inputs: &[("a", "numbers of any shape")],
            result: "numbers of the shape of a",
            gradient: "`g s (1 + a (1 - s))` with `s = sigmoid(a)`",
            cost: "2 |y|",
        }
    }

    fn infer(&self, inputs: &[Value<'_>], _: &Attributes) -> Result<(DataType, Shape), String> {
        expect_numbers(inputs)?;
        Ok((DataType::F32, inputs[0].shape.clone()))
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    /// `gradient * s * (1 + a * (1 - s))` with s = sigmoid(a)
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let a = call.inputs[0];
        let one = builder.constant(1.0);
        let gate = builder.sigmoid(a);
        let rest = builder.sub(one, gate);
        let moving = builder.mul(a, rest);
        let inner = builder.add(moving, one);
        let slope = builder.mul(gate, inner);
        vec![Some(builder.mul(output_gradient, slope))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        lowering.expand(call.inputs, |builder, inputs| {
            let gate = builder.sigmoid(inputs[0]);
            builder.mul(inputs[0], gate)
        })
    }
}
