//! The natural logarithm; NaN below zero, -inf at zero.

use super::Group;
use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};

pub(super) static LOG: UnaryOperator = UnaryOperator {
    name: "log",
    group: Group::Function,
    summary: "The natural logarithm; NaN below zero, -inf at zero.",
    gradient: "`g / a`",
    formula: |a| Expression::unary(Unary::Log, a),
    derivative: |builder, a, _, gradient| builder.div(gradient, a),
};
