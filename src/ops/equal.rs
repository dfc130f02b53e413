//! `a == b`, a truth value; false if either is NaN.

use super::elementwise::BinaryOperator;
use super::{Accepts, Group};
use crate::compile::{Binary, Expression};

pub(super) static EQUAL: BinaryOperator = BinaryOperator {
    name: "equal",
    group: Group::Choice,
    summary: "`a == b`; false if either is NaN.",
    gradient: "none",
    accepts: Accepts::Any,
    is_truth: true,
    formula: |a, b| Expression::binary(Binary::Equal, a, b),
    derivative: |_, _, _| [None, None],
};
