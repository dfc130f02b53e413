//! `-a`

use super::Group;
use super::elementwise::UnaryOperator;
use crate::compile::{Expression, Unary};

pub(super) static NEG: UnaryOperator = UnaryOperator {
    name: "neg",
    group: Group::Arithmetic,
    summary: "`-a`",
    gradient: "`-g`",
    formula: |a| Expression::unary(Unary::Neg, a),
    derivative: |builder, _, _, gradient| builder.neg(gradient),
};
