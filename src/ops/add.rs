//! `a + b`

use super::elementwise::BinaryOperator;
use super::{Accepts, Group};

pub(super) static ADD: BinaryOperator = BinaryOperator {
    name: "add",
    group: Group::Arithmetic,
    summary: "`a + b`",
    gradient: "`g` to both",
    accepts: Accepts::Arithmetic,
    is_truth: false,
    formula: |a, b| a + b,
    derivative: |_, _, gradient| [Some(gradient), Some(gradient)],
};
