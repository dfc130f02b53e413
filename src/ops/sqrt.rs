//! The square root; NaN below zero.

use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};

/// `gradient / (2 sqrt(a))`
pub(super) static SQRT: UnaryOperator = UnaryOperator {
    name: "sqrt",
    formula: |a| Expression::unary(Unary::Sqrt, a),
    derivative: |builder, _, output, gradient| {
        let two = builder.constant(2.0);
        let divisor = builder.mul(output, two);
        builder.div(gradient, divisor)
    },
};
