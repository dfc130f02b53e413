//! The error function.

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};
use std::f64::consts::FRAC_2_SQRT_PI;

pub(super) static ERF: UnaryOperator = UnaryOperator {
    name: "erf",
    group: Group::Function,
    summary: "The error function.",
    gradient: "`g 2 / sqrt(pi) e^(-a^2)`",
    accepts: Accepts::Numbers,
    formula: |a| Expression::unary(Unary::Erf, a),
    derivative: |builder, a, _, gradient| {
        let scale = builder.constant(FRAC_2_SQRT_PI);
        let square = builder.mul(a, a);
        let exponent = builder.neg(square);
        let bell = builder.exp(exponent);
        let slope = builder.mul(bell, scale);
        Some(builder.mul(gradient, slope))
    },
};
