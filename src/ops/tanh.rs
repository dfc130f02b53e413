//! The hyperbolic tangent.

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};

pub(super) static TANH: UnaryOperator = UnaryOperator {
    name: "tanh",
    group: Group::Function,
    summary: "The hyperbolic tangent.",
    gradient: "`g (1 - y^2)`",
    accepts: Accepts::Numbers,
    formula: |a| Expression::unary(Unary::Tanh, a),
    derivative: |builder, _, output, gradient| {
        let one = builder.constant(1.0);
        let square = builder.mul(output, output);
        let slope = builder.sub(one, square);
        Some(builder.mul(gradient, slope))
    },
};
