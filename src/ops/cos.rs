//! The cosine.

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};

pub(super) static COS: UnaryOperator = UnaryOperator {
    name: "cos",
    group: Group::Function,
    summary: "The cosine of an angle in radians.",
    gradient: "`-g sin(a)`",
    accepts: Accepts::Numbers,
    formula: |a| Expression::unary(Unary::Cos, a),
    derivative: |builder, a, _, gradient| {
        let slope = builder.apply("sin", &[a], &[]);
        let along = builder.mul(gradient, slope);
        Some(builder.neg(along))
    },
};
