//! The natural logarithm; NaN below zero, -inf at zero.

use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};

/// `gradient / a`
pub(super) static LOG: UnaryOperator = UnaryOperator {
    name: "log",
    formula: |a| Expression::unary(Unary::Log, a),
    derivative: |builder, a, _, gradient| builder.div(gradient, a),
};
