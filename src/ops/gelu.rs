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
            gradient: "`g ((1 + s) / 2 + a s' / 2)`, where `y = a (1 + s) / 2`",
            cost: "5 |a|, 9 |a| by `tanh`",
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

    /// With s = erf(a / sqrt(2)) or tanh(u(a)), gelu is `a / 2 * (1 + s)` and its derivative `(1 + s) / 2 + a / 2 * s'`.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let a = call.inputs[0];
        let (half, one) = (builder.constant(0.5), builder.constant(1.0));
        let step = step(builder, a, approximate(call.attributes));
        let step_slope = match approximate(call.attributes) {
            // (1 - tanh(u)^2) * u'
            true => {
                let (scale, cube) = (builder.constant(SCALE), builder.constant(3.0 * CUBE));
                let square = builder.mul(a, a);
                let square = builder.mul(square, cube);
                let inner = builder.add(square, one);
                let inner = builder.mul(inner, scale);
                let step_square = builder.mul(step, step);
                let outer = builder.sub(one, step_square);
                builder.mul(outer, inner)
            }
            // sqrt(2 / pi) * e^(-a^2 / 2)
            false => {
                let (scale, minus_half) = (builder.constant(SCALE), builder.constant(-0.5));
                let square = builder.mul(a, a);
                let exponent = builder.mul(square, minus_half);
                let bell = builder.exp(exponent);
                builder.mul(bell, scale)
            }
        };
        let below = builder.add(step, one);
        let below = builder.mul(below, half);
        let moving = builder.mul(a, half);
        let moving = builder.mul(moving, step_slope);
        let slope = builder.add(below, moving);
        vec![Some(builder.mul(output_gradient, slope))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        lowering.expand(call.inputs, |builder, inputs| {
            let (half, one) = (builder.constant(0.5), builder.constant(1.0));
            let step = step(builder, inputs[0], approximate(call.attributes));
            let below = builder.add(step, one);
            let halved = builder.mul(inputs[0], half);
            builder.mul(halved, below)
        })
    }
}

/// What goes from -1 to 1: erf(a / sqrt(2)), or tanh(sqrt(2 / pi) * (a + CUBE * a^3)).
fn step(builder: &mut Builder, a: ValueId, approximate: bool) -> ValueId {
    if approximate {
        let (scale, factor) = (builder.constant(SCALE), builder.constant(CUBE));
        let square = builder.mul(a, a);
        let cube = builder.mul(square, a);
        let cube = builder.mul(cube, factor);
        let sum = builder.add(a, cube);
        let inner = builder.mul(sum, scale);
        builder.tanh(inner)
    } else {
        let scale = builder.constant(FRAC_1_SQRT_2);
        let scaled = builder.mul(a, scale);
        builder.erf(scaled)
    }
}

fn approximate(attributes: &Attributes) -> bool {
    attribute::known(attribute::text(attributes, "approximate")) == "tanh"
}
