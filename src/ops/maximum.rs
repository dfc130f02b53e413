//! The larger of two numbers; NaN if either is NaN. The reduction is `max`.

use super::elementwise::{BinaryOperator, shared_by_the_larger};
use super::{Accepts, Group};
use crate::compile::{Binary, Expression};

pub(super) static MAXIMUM: BinaryOperator = BinaryOperator {
    name: "maximum",
    group: Group::Arithmetic,
    summary: "The larger of two; NaN if either is NaN.",
    gradient: "`g` to the larger, half of it to each where they are equal, all of it to both where either is NaN",
    accepts: Accepts::Arithmetic,
    is_truth: false,
    formula: |a, b| Expression::binary(Binary::Max, a, b),
    derivative: |builder, call, gradient| {
        let (a, b) = (call.inputs[0], call.inputs[1]);
        [Some(shared_by_the_larger(builder, a, b, gradient)), Some(shared_by_the_larger(builder, b, a, gradient))]
    },
};
