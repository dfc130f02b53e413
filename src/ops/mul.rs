//! `a * b`

use super::elementwise::BinaryOperator;
use super::{Accepts, Group};

pub(super) static MUL: BinaryOperator = BinaryOperator {
    name: "mul",
    group: Group::Arithmetic,
    summary: "`a * b`",
    gradient: "`g b` to a, `g a` to b",
    accepts: Accepts::Arithmetic,
    is_truth: false,
    formula: |a, b| a * b,
    derivative: |builder, call, gradient| {
        let (a, b) = (call.inputs[0], call.inputs[1]);
        [Some(builder.mul(gradient, b)), Some(builder.mul(gradient, a))]
    },
};
