//! `1 / (1 + e^-a)`

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};

pub(super) static SIGMOID: UnaryOperator = UnaryOperator {
    name: "sigmoid",
    group: Group::Function,
    summary: "`1 / (1 + e^-a)`",
    gradient: "`g y (1 - y)`",
    accepts: Accepts::Numbers,
    formula: |a| Expression::unary(Unary::Sigmoid, a),
    derivative: |builder, _, output, gradient| {
        let one = builder.constant(1.0);
        let rest = builder.sub(one, output);
        let slope = builder.mul(rest, output);
        Some(builder.mul(gradient, slope))
    },
};
