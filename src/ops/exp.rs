//! `e^a`

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};

pub(super) static EXP: UnaryOperator = UnaryOperator {
    name: "exp",
    group: Group::Function,
    summary: "`e^a`",
    gradient: "`g y`",
    accepts: Accepts::Numbers,
    formula: |a| Expression::unary(Unary::Exp, a),
    derivative: |builder, _, output, gradient| Some(builder.mul(gradient, output)),
};
