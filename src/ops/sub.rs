//! `a - b`

use super::Group;
use super::elementwise::BinaryOperator;
use crate::graph::DataType;

pub(super) static SUB: BinaryOperator = BinaryOperator {
    name: "sub",
    group: Group::Arithmetic,
    summary: "`a - b`",
    gradient: "`g` to a, `-g` to b",
    data_type: DataType::F32,
    formula: |a, b| a - b,
    derivative: |builder, _, gradient| [Some(gradient), Some(builder.neg(gradient))],
};
