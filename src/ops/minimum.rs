//! The smaller of two numbers; NaN if either is NaN. The reduction is `min`.

use super::elementwise::{BinaryOperator, shared_by_the_larger};
use super::{Accepts, Group};
use crate::compile::{Binary, Expression};

pub(super) static MINIMUM: BinaryOperator = BinaryOperator {
    name: "minimum",
    group: Group::Arithmetic,
    summary: "The smaller of two; NaN if either is NaN.",
    gradient: "`g` to the smaller, half of it to each where they are equal, all of it to both where either is NaN",
    accepts: Accepts::Arithmetic,
    is_truth: false,
    formula: |a, b| Expression::binary(Binary::Min, a, b),
    derivative: |builder, call, gradient| {
        let (a, b) = (call.inputs[0], call.inputs[1]);
        let (minus_a, minus_b) = (builder.neg(a), builder.neg(b));
        let of_a = shared_by_the_larger(builder, minus_a, minus_b, gradient);
        let of_b = shared_by_the_larger(builder, minus_b, minus_a, gradient);
        [Some(of_a), Some(of_b)]
    },
};
