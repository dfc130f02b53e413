//! `1 / (1 + e^-a)`

use super::Group;
use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};

pub(super) static SIGMOID: UnaryOperator = UnaryOperator {
    name: "sigmoid",
    group: Group::Function,
    summary: "`1 / (1 + e^-a)`",
    gradient: "`g y (1 - y)`",
    formula: |a| Expression::unary(Unary::Sigmoid, a),
    derivative: |builder, _, output, gradient| {
        let one = builder.constant(1.0);
        let rest = builder.sub(one, output);
        let slope = builder.mul(rest, output);
        builder.mul(gradient, slope)
    },
};
