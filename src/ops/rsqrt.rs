//! `1 / sqrt(a)`; NaN below zero, inf at zero.

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};

pub(super) static RSQRT: UnaryOperator = UnaryOperator {
    name: "rsqrt",
    group: Group::Function,
    summary: "`1 / sqrt(a)`; NaN below zero, inf at zero.",
    gradient: "`-g y^3 / 2`",
    accepts: Accepts::Numbers,
    formula: |a| Expression::unary(Unary::Rsqrt, a),
    derivative: |builder, _, output, gradient| {
        let minus_half = builder.constant(-0.5);
        let square = builder.mul(output, output);
        let cube = builder.mul(square, output);
        let scaled = builder.mul(gradient, minus_half);
        Some(builder.mul(scaled, cube))
    },
};
