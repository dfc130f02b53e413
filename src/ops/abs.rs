//! `|a|`

use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};

/// The gradient times the sign of a; the sign of 0 is 0, and so is the sign of NaN, as in PyTorch.
pub(super) static ABS: UnaryOperator = UnaryOperator {
    name: "abs",
    formula: |a| Expression::unary(Unary::Abs, a),
    derivative: |builder, a, _, gradient| {
        let (zero, one, minus_one) = (builder.constant(0.0), builder.constant(1.0), builder.constant(-1.0));
        let (positive, negative) = (builder.greater(a, zero), builder.greater(zero, a));
        let not_positive = builder.select(negative, minus_one, zero);
        let sign = builder.select(positive, one, not_positive);
        builder.mul(gradient, sign)
    },
};
