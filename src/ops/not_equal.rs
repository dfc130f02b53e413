//! `a != b`, a truth value; true if either is NaN.

use super::elementwise::BinaryOperator;
use super::{Accepts, Group};
use crate::compile::{Binary, Expression, Unary};

pub(super) static NOT_EQUAL: BinaryOperator = BinaryOperator {
    name: "not_equal",
    group: Group::Choice,
    summary: "`a != b`; true if either is NaN.",
    gradient: "none",
    accepts: Accepts::Any,
    is_truth: true,
    formula: |a, b| Expression::unary(Unary::Not, Expression::binary(Binary::Equal, a, b)),
    derivative: |_, _, _| [None, None],
};
