//! `e^a`

use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};

/// `gradient * e^a`
pub(super) static EXP: UnaryOperator = UnaryOperator {
    name: "exp",
    formula: |a| Expression::unary(Unary::Exp, a),
    derivative: |builder, _, output, gradient| builder.mul(gradient, output),
};
