//! The error function.

use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};
use std::f64::consts::FRAC_2_SQRT_PI;

/// `gradient * 2 / sqrt(pi) * e^(-a^2)`
pub(super) static ERF: UnaryOperator = UnaryOperator {
    name: "erf",
    formula: |a| Expression::unary(Unary::Erf, a),
    derivative: |builder, a, _, gradient| {
        let scale = builder.constant(FRAC_2_SQRT_PI);
        let square = builder.mul(a, a);
        let exponent = builder.neg(square);
        let bell = builder.exp(exponent);
        let slope = builder.mul(bell, scale);
        builder.mul(gradient, slope)
    },
};
