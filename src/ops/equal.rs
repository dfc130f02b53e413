//! `a == b`, a truth value; false if either is NaN.

use super::elementwise::BinaryOperator;
use crate::compile::{Binary, Expression};
use crate::graph::DataType;

/// Not differentiable.
pub(super) static EQUAL: BinaryOperator = BinaryOperator {
    name: "equal",
    data_type: DataType::Bool,
    formula: |a, b| Expression::binary(Binary::Equal, a, b),
    derivative: |_, _, _| [None, None],
};
