//! `a * b`

use super::Group;
use super::elementwise::BinaryOperator;
use crate::graph::DataType;

pub(super) static MUL: BinaryOperator = BinaryOperator {
    name: "mul",
    group: Group::Arithmetic,
    summary: "`a * b`",
    gradient: "`g b` to a, `g a` to b",
    data_type: DataType::F32,
    formula: |a, b| a * b,
    derivative: |builder, call, gradient| {
        let (a, b) = (call.inputs[0], call.inputs[1]);
        [Some(builder.mul(gradient, b)), Some(builder.mul(gradient, a))]
    },
};
