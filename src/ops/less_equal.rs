//! `a <= b`, a truth value; false if either is NaN.

use super::elementwise::BinaryOperator;
use super::{Accepts, Group};
use crate::compile::{Binary, Expression};

pub(super) static LESS_EQUAL: BinaryOperator = BinaryOperator {
    name: "less_equal",
    group: Group::Choice,
    summary: "`a <= b`; false if either is NaN.",
    gradient: "none",
    accepts: Accepts::Arithmetic,
    is_truth: true,
    formula: |a, b| Expression::binary(Binary::GreaterEqual, b, a),
    derivative: |_, _, _| [None, None],
};
