//! `a / b`

use super::elementwise::BinaryOperator;
use crate::graph::DataType;

/// `gradient / b` to a, `-gradient * (a / b) / b` to b.
pub(super) static DIV: BinaryOperator = BinaryOperator {
    name: "div",
    data_type: DataType::F32,
    formula: |a, b| a / b,
    derivative: |builder, call, gradient| {
        let of_a = builder.div(gradient, call.inputs[1]);
        let of_b = builder.mul(of_a, call.output);
        [Some(of_a), Some(builder.neg(of_b))]
    },
};
