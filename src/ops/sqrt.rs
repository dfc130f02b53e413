//! The square root; NaN below zero.

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};

pub(super) static SQRT: UnaryOperator = UnaryOperator {
    name: "sqrt",
    group: Group::Function,
    summary: "The square root; NaN below zero.",
    gradient: "`g / (2 y)`",
    accepts: Accepts::Numbers,
    formula: |a| Expression::unary(Unary::Sqrt, a),
    derivative: |builder, _, output, gradient| {
        let two = builder.constant(2.0);
        let divisor = builder.mul(output, two);
        Some(builder.div(gradient, divisor))
    },
};
