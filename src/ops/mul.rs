//! `a * b`

use super::elementwise::BinaryOperator;
use crate::graph::DataType;

/// Each gets the gradient times the other.
pub(super) static MUL: BinaryOperator = BinaryOperator {
    name: "mul",
    data_type: DataType::F32,
    formula: |a, b| a * b,
    derivative: |builder, call, gradient| {
        let (a, b) = (call.inputs[0], call.inputs[1]);
        [Some(builder.mul(gradient, b)), Some(builder.mul(gradient, a))]
    },
};
