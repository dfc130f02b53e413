//! `-a`

use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};

/// The gradient, negated.
pub(super) static NEG: UnaryOperator = UnaryOperator {
    name: "neg",
    formula: |a| Expression::unary(Unary::Neg, a),
    derivative: |builder, _, _, gradient| builder.neg(gradient),
};
