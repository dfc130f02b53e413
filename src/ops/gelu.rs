//! The Gaussian error linear unit: a times the probability that a standard normal number is below a.

use super::{
    Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute, expect_numbers,
};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::borrow::Cow;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Gelu;

/// How strongly the cube counts in the tanh approximation.
const CUBE: f64 = 0.044715;
/// sqrt(2 / pi)
const SCALE: f64 = SQRT_2 * FRAC_2_SQRT_PI * 0.5;

impl Operator for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Function,
            summary: "The Gaussian error linear unit: a times the probability that a standard normal number is below a.",
            inputs: &[("a", "numbers of any shape")],
            result: "numbers of the shape of a",
            gradient: "`g (p + a p')`, where `y = a p`",
            cost: "5 |a|, 7 |a| by `tanh`",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute {
            name: "approximate",
            default: Some(Attribute::Text(Cow::Borrowed("none"))),
            meaning: "`none`: by the error function; `tanh`: by an approximation, as in PyTorch",
        }]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        expect_numbers(inputs)?;
        match attribute::text(attributes, "approximate")? {
            "none" | "tanh" => Ok((DataType::F32, inputs[0].shape.clone())),
            other => Err(format!("`approximate` is {other:?}; it must be \"none\" or \"tanh\"")),
        }
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    /// gelu is `a p(a)`, so its derivative is `p + a p'`.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let a = call.inputs[0];
        let below = below(builder, a, approximate(call.attributes));
        let density = match approximate(call.attributes) {
            // p (1 - p) * 2 u'
            true => {
                let (linear, cubic, one) =
                    (builder.constant(2.0 * SCALE), builder.constant(6.0 * SCALE * CUBE), builder.constant(1.0));
                let square = builder.mul(a, a);
                let square = builder.mul(square, cubic);
                let inner = builder.add(square, linear);
                let above = builder.sub(one, below);
                let outer = builder.mul(below, above);
                builder.mul(outer, inner)
            }
            // e^(-a^2 / 2) / sqrt(2 pi)
            false => {
                let (scale, minus_half) = (builder.constant(0.5 * SCALE), builder.constant(-0.5));
                let square = builder.mul(a, a);
                let exponent = builder.mul(square, minus_half);
                let bell = builder.exp(exponent);
                builder.mul(bell, scale)
            }
        };
        let moving = builder.mul(a, density);
        let slope = builder.add(below, moving);
        vec![Some(builder.mul(output_gradient, slope))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        lowering.expand(call.inputs, |builder, inputs| {
            let below = below(builder, inputs[0], approximate(call.attributes));
            builder.mul(inputs[0], below)
        })
    }
}

/// The probability p that a standard normal number is below a: (1 + erf(a / sqrt(2))) / 2. The approximation is
/// (1 + tanh(u)) / 2 with u = sqrt(2 / pi) * (a + CUBE * a^3), which is the sigmoid of 2 u and loses nothing far below 0.
fn below(builder: &mut Builder, a: ValueId, approximate: bool) -> ValueId {
    if approximate {
        let (linear, cubic) = (builder.constant(2.0 * SCALE), builder.constant(2.0 * SCALE * CUBE));
        let square = builder.mul(a, a);
        let square = builder.mul(square, cubic);
        let factor = builder.add(square, linear);
        let doubled = builder.mul(a, factor);
        builder.sigmoid(doubled)
    } else {
        let (scale, half, one) = (builder.constant(FRAC_1_SQRT_2), builder.constant(0.5), builder.constant(1.0));
        let scaled = builder.mul(a, scale);
        let step = builder.erf(scaled);
        let sum = builder.add(step, one);
        builder.mul(sum, half)
    }
}

fn approximate(attributes: &Attributes) -> bool {
    attribute::known(attribute::text(attributes, "approximate")) == "tanh"
}
