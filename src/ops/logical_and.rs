//! `a and b`

use super::elementwise::BinaryOperator;
use super::{Accepts, Group};
use crate::compile::{Binary, Expression};

pub(super) static LOGICAL_AND: BinaryOperator = BinaryOperator {
    name: "logical_and",
    group: Group::Choice,
    summary: "`a and b`",
    gradient: "none",
    accepts: Accepts::Truth,
    is_truth: true,
    formula: |a, b| Expression::binary(Binary::And, a, b),
    derivative: |_, _, _| [None, None],
};
