//! `e^a`

use super::Group;
use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};

pub(super) static EXP: UnaryOperator = UnaryOperator {
    name: "exp",
    group: Group::Function,
    summary: "`e^a`",
    gradient: "`g y`",
    formula: |a| Expression::unary(Unary::Exp, a),
    derivative: |builder, _, output, gradient| builder.mul(gradient, output),
};
