//! `a - b`

use super::elementwise::BinaryOperator;
use crate::graph::DataType;

/// The gradient is passed on to a, and negated to b.
pub(super) static SUB: BinaryOperator = BinaryOperator {
    name: "sub",
    data_type: DataType::F32,
    formula: |a, b| a - b,
    derivative: |builder, _, gradient| [Some(gradient), Some(builder.neg(gradient))],
};
