//! The hyperbolic tangent.

use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};

/// `gradient * (1 - output^2)`
pub(super) static TANH: UnaryOperator = UnaryOperator {
    name: "tanh",
    formula: |a| Expression::unary(Unary::Tanh, a),
    derivative: |builder, _, output, gradient| {
        let one = builder.constant(1.0);
        let square = builder.mul(output, output);
        let slope = builder.sub(one, square);
        builder.mul(gradient, slope)
    },
};
