//! `a >= b`, a truth value; false if either is NaN.

use super::elementwise::BinaryOperator;
use super::{Accepts, Group};
use crate::compile::{Binary, Expression};

pub(super) static GREATER_EQUAL: BinaryOperator = BinaryOperator {
    name: "greater_equal",
    group: Group::Choice,
    summary: "`a >= b`; false if either is NaN.",
    gradient: "none",
    accepts: Accepts::Arithmetic,
    is_truth: true,
    formula: |a, b| Expression::binary(Binary::GreaterEqual, a, b),
    derivative: |_, _, _| [None, None],
};
