//! `a weight^T + bias` along the last axis, as `torch.nn.functional.linear`.

use super::{Call, Documentation, Group, Lowered, Lowering, Operator, Value, View, expect_numbers};
use crate::compile::{Expression, Reducer};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Linear;

impl Operator for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Contraction,
            summary: "`a weight^T + bias` along the last axis, as `torch.nn.functional.linear`.",
            inputs: &[("a", "numbers [.., in]"), ("weight", "numbers [out, in]"), ("bias", "numbers [out]")],
            result: "numbers [.., out]",
            gradient: "`g weight` to a, `g^T a` to the weight, the sum of `g` to the bias",
            cost: "(2 in + 1) |y|",
        }
    }

    fn infer(&self, inputs: &[Value<'_>], _: &Attributes) -> Result<(DataType, Shape), String> {
        expect_numbers(inputs)?;
        let (a, weight) = (inputs[0].shape, inputs[1].shape);
        let (Some(&last), &[outputs, ins]) = (a.0.last(), weight.0.as_slice()) else {
            return Err(format!(
                "the input has shape {a} and the weight {weight}; they must be [.., in] and [out, in]"
            ));
        };
        if last != ins {
            return Err(format!("the last axis of {a} has {last} elements; the weight {weight} takes {ins}"));
        }
        if let Some(bias) = inputs.get(2).filter(|bias| bias.shape.0 != [outputs]) {
            return Err(format!("the bias has shape {}; the weight {weight} asks for [{outputs}]", bias.shape));
        }
        let mut shape = a.clone();
        shape.0[a.rank() - 1] = outputs;
        Ok((DataType::F32, shape))
    }

    /// `gradient weight` for a, `gradient^T a` for the weight, `sum(gradient)` for the bias.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let (a, weight) = (call.inputs[0], call.inputs[1]);
        let outer: String = ('a'..'i').take(builder.shape(a).rank() - 1).collect();
        let of_a = builder.einsum(format!("{outer}o,oi->{outer}i"), output_gradient, weight);
        let of_weight = builder.einsum(format!("{outer}o,{outer}i->oi"), output_gradient, a);
        let mut gradients = vec![Some(of_a), Some(of_weight)];
        if let Some(&bias) = call.inputs.get(2) {
            let shape = builder.shape(bias);
            gradients.push(Some(builder.sum_to(output_gradient, &shape)));
        }
        gradients
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        let (a, weight) = (&call.inputs[0], &call.inputs[1]);
        let last = a.shape.rank() - 1;
        // Axes: those of the result, then `in`, over which the sum runs.
        let mut of_a = a.operand();
        of_a.strides.insert(last, 0);
        let mut of_weight = weight.operand();
        of_weight.strides.splice(0..0, vec![0; last]);
        let product = lowering.step(
            call.shape.clone(),
            Shape::new([a.shape.0[last]]),
            Reducer::Sum,
            vec![of_a, of_weight],
            Expression::Operand(0) * Expression::Operand(1),
        );
        match call.inputs.get(2) {
            Some(bias) => lowering.map(call.shape, &[&product, bias], Expression::Operand(0) + Expression::Operand(1)),
            None => product,
        }
    }
}
