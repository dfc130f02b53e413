//! `a + b`

use super::Group;
use super::elementwise::BinaryOperator;
use crate::graph::DataType;

pub(super) static ADD: BinaryOperator = BinaryOperator {
    name: "add",
    group: Group::Arithmetic,
    summary: "`a + b`",
    gradient: "`g` to both",
    data_type: DataType::F32,
    formula: |a, b| a + b,
    derivative: |_, _, gradient| [Some(gradient), Some(gradient)],
};
