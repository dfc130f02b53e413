//! `1 / sqrt(a)`; NaN below zero, inf at zero.

use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};

/// `-gradient / 2 * output^3`
pub(super) static RSQRT: UnaryOperator = UnaryOperator {
    name: "rsqrt",
    formula: |a| Expression::unary(Unary::Rsqrt, a),
    derivative: |builder, _, output, gradient| {
        let minus_half = builder.constant(-0.5);
        let square = builder.mul(output, output);
        let cube = builder.mul(square, output);
        let scaled = builder.mul(gradient, minus_half);
        builder.mul(scaled, cube)
    },
};
