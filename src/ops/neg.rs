//! `-a`

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};

pub(super) static NEG: UnaryOperator = UnaryOperator {
    name: "neg",
    group: Group::Arithmetic,
    summary: "`-a`",
    gradient: "`-g`",
    accepts: Accepts::Arithmetic,
    formula: |a| Expression::unary(Unary::Neg, a),
    derivative: |builder, _, _, gradient| Some(builder.neg(gradient)),
};
