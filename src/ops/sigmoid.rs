//! `1 / (1 + e^-a)`

use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};

/// `gradient * (1 - output) * output`
pub(super) static SIGMOID: UnaryOperator = UnaryOperator {
    name: "sigmoid",
    formula: |a| Expression::unary(Unary::Sigmoid, a),
    derivative: |builder, _, output, gradient| {
        let one = builder.constant(1.0);
        let rest = builder.sub(one, output);
        let slope = builder.mul(rest, output);
        builder.mul(gradient, slope)
    },
};
