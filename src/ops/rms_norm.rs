//! Root-mean-square normalisation over the last axis, then an optional weight.

use super::{Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, normalisation};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct RmsNorm;

impl Operator for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=2
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Normalisation,
            summary: "Root mean square 1 along the last axis, then an optional weight.",
            inputs: &[("a", "numbers [.., n]"), ("weight", "numbers [n]")],
            result: "numbers of the shape of a",
            gradient: "`(w - z mean(w z)) / rms` to a, where z is `y` before the weight and `w = g weight`; the sum of `g z` to the weight",
            cost: "4 |a| + 3 |a| / n",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute {
            name: "eps",
            default: Some(Attribute::Float(f32::EPSILON as f64)),
            meaning: "added to the mean square; the default is PyTorch's for f32, on every type: a blueprint means the same on all of them",
        }]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        normalisation::infer(inputs, &["weight"], attributes)
    }

    /// `(w - normal * mean(w * normal)) / rms` for a, with w the gradient times the weight; `sum(gradient * normal)`
    /// for the weight.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let (normal, scale) = normal(builder, call.inputs[0], normalisation::eps(call.attributes));
        let weighted = match call.inputs.get(1) {
            Some(&weight) => builder.mul(output_gradient, weight),
            None => output_gradient,
        };
        let along = builder.mul(weighted, normal);
        let along = normalisation::mean(builder, along);
        let along = builder.mul(normal, along);
        let rest = builder.sub(weighted, along);
        let mut gradients = vec![Some(builder.mul(rest, scale))];
        if let Some(&weight) = call.inputs.get(1) {
            let shape = builder.shape(weight);
            let of_weight = builder.mul(output_gradient, normal);
            gradients.push(Some(builder.sum_to(of_weight, &shape)));
        }
        gradients
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        lowering.expand(call.inputs, |builder, inputs| {
            let (result, _) = normal(builder, inputs[0], normalisation::eps(call.attributes));
            match inputs.get(1) {
                Some(&weight) => builder.mul(result, weight),
                None => result,
            }
        })
    }
}

/// The value with mean square 1, and 1 / its root mean square.
fn normal(builder: &mut Builder, a: ValueId, eps: f64) -> (ValueId, ValueId) {
    let square = builder.mul(a, a);
    let mean_square = normalisation::mean(builder, square);
    normalisation::scaled(builder, a, mean_square, eps)
}
