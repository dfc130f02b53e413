//! The natural logarithm; NaN below zero, -inf at zero.

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};

pub(super) static LOG: UnaryOperator = UnaryOperator {
    name: "log",
    group: Group::Function,
    summary: "The natural logarithm; NaN below zero, -inf at zero.",
    gradient: "`g / a`",
    accepts: Accepts::Numbers,
    formula: |a| Expression::unary(Unary::Log, a),
    derivative: |builder, a, _, gradient| Some(builder.div(gradient, a)),
};
