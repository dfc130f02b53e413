//! Layer normalisation over the last axis: mean 0 and variance 1, then an optional weight and bias.

use super::{Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, normalisation};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct LayerNorm;

impl Operator for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=3
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Normalisation,
            summary: "Mean 0 and variance 1 along the last axis, then an optional weight and bias. The variance is that of the axis, not of a sample.",
            inputs: &[("a", "numbers [.., n]"), ("weight", "numbers [n]"), ("bias", "numbers [n]")],
            result: "numbers of the shape of a",
            gradient: "`(w - mean(w) - z mean(w z)) / deviation` to a, where z is `y` before the weight and `w = g weight`; the sum of `g z` to the weight, of `g` to the bias",
            cost: "7 |a| + 4 |a| / n",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute { name: "eps", default: Some(Attribute::Float(1e-5)), meaning: "added to the variance" }]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        normalisation::infer(inputs, &["weight", "bias"], attributes)
    }

    /// `(w - mean(w) - normal * mean(w * normal)) / deviation` for a, with w the gradient times the weight;
    /// `sum(gradient * normal)` for the weight and `sum(gradient)` for the bias.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let (normal, scale) = normal(builder, call.inputs[0], normalisation::eps(call.attributes));
        let weighted = match call.inputs.get(1) {
            Some(&weight) => builder.mul(output_gradient, weight),
            None => output_gradient,
        };
        let mean = normalisation::mean(builder, weighted);
        let along = builder.mul(weighted, normal);
        let along = normalisation::mean(builder, along);
        let along = builder.mul(normal, along);
        let centred = builder.sub(weighted, mean);
        let centred = builder.sub(centred, along);
        let mut gradients = vec![Some(builder.mul(centred, scale))];
        if let Some(&weight) = call.inputs.get(1) {
            let shape = builder.shape(weight);
            let of_weight = builder.mul(output_gradient, normal);
            gradients.push(Some(builder.sum_to(of_weight, &shape)));
        }
        if let Some(&bias) = call.inputs.get(2) {
            let shape = builder.shape(bias);
            gradients.push(Some(builder.sum_to(output_gradient, &shape)));
        }
        gradients
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        lowering.expand(call.inputs, |builder, inputs| {
            let (mut result, _) = normal(builder, inputs[0], normalisation::eps(call.attributes));
            if let Some(&weight) = inputs.get(1) {
                result = builder.mul(result, weight);
            }
            if let Some(&bias) = inputs.get(2) {
                result = builder.add(result, bias);
            }
            result
        })
    }
}

/// The value with mean 0 and variance 1, and 1 / its deviation. The variance is taken after centring, so that a large
/// mean does not swallow it.
fn normal(builder: &mut Builder, a: ValueId, eps: f64) -> (ValueId, ValueId) {
    let mean = normalisation::mean(builder, a);
    let centred = builder.sub(a, mean);
    let square = builder.mul(centred, centred);
    let variance = normalisation::mean(builder, square);
    normalisation::scaled(builder, centred, variance, eps)
}
