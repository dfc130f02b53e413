//! `a > b`, a truth value; false if either is NaN.

use super::Group;
use super::elementwise::BinaryOperator;
use crate::compile::{Binary, Expression};
use crate::graph::DataType;

pub(super) static GREATER: BinaryOperator = BinaryOperator {
    name: "greater",
    group: Group::Choice,
    summary: "`a > b`; false if either is NaN.",
    gradient: "none",
    data_type: DataType::Bool,
    formula: |a, b| Expression::binary(Binary::Greater, a, b),
    derivative: |_, _, _| [None, None],
};
