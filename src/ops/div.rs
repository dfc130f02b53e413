//! `a / b`

use super::elementwise::BinaryOperator;
use super::{Accepts, Group};

pub(super) static DIV: BinaryOperator = BinaryOperator {
    name: "div",
    group: Group::Arithmetic,
    summary: "`a / b`",
    gradient: "`g / b` to a, `-g y / b` to b",
    accepts: Accepts::Numbers,
    is_truth: false,
    formula: |a, b| a / b,
    derivative: |builder, call, gradient| {
        let of_a = builder.div(gradient, call.inputs[1]);
        let of_b = builder.mul(of_a, call.output);
        [Some(of_a), Some(builder.neg(of_b))]
    },
};
