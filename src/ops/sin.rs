//! The sine.

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};

pub(super) static SIN: UnaryOperator = UnaryOperator {
    name: "sin",
    group: Group::Function,
    summary: "The sine of an angle in radians.",
    gradient: "`g cos(a)`",
    accepts: Accepts::Numbers,
    formula: |a| Expression::unary(Unary::Sin, a),
    derivative: |builder, a, _, gradient| {
        let slope = builder.apply("cos", &[a], &[]);
        Some(builder.mul(gradient, slope))
    },
};
