//! `a - b`

use super::elementwise::BinaryOperator;
use super::{Accepts, Group};

pub(super) static SUB: BinaryOperator = BinaryOperator {
    name: "sub",
    group: Group::Arithmetic,
    summary: "`a - b`",
    gradient: "`g` to a, `-g` to b",
    accepts: Accepts::Arithmetic,
    is_truth: false,
    formula: |a, b| a - b,
    derivative: |builder, _, gradient| [Some(gradient), Some(builder.neg(gradient))],
};
