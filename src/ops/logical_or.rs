//! `a or b`

use super::elementwise::BinaryOperator;
use super::{Accepts, Group};
use crate::compile::{Binary, Expression};

pub(super) static LOGICAL_OR: BinaryOperator = BinaryOperator {
    name: "logical_or",
    group: Group::Choice,
    summary: "`a or b`",
    gradient: "none",
    accepts: Accepts::Truth,
    is_truth: true,
    formula: |a, b| Expression::binary(Binary::Or, a, b),
    derivative: |_, _, _| [None, None],
};
