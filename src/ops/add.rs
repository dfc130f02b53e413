//! `a + b`

use super::elementwise::BinaryOperator;
use crate::graph::DataType;

/// The gradient is passed on to both.
pub(super) static ADD: BinaryOperator = BinaryOperator {
    name: "add",
    data_type: DataType::F32,
    formula: |a, b| a + b,
    derivative: |_, _, gradient| [Some(gradient), Some(gradient)],
};
