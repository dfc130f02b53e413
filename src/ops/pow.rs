//! `a^b`, as `torch.pow` and C's `pow` have it.

use super::elementwise::BinaryOperator;
use super::{Accepts, Group};
use crate::compile::{Binary, Expression};

pub(super) static POW: BinaryOperator = BinaryOperator {
    name: "pow",
    group: Group::Arithmetic,
    summary: "`a^b`; NaN for a negative a and a b that is not whole.",
    gradient: "`g b a^(b - 1)` to a, 0 where b is 0; `g y log(a)` to b, 0 where a is 0 and b is not negative",
    accepts: Accepts::Numbers,
    is_truth: false,
    formula: |a, b| Expression::binary(Binary::Pow, a, b),
    derivative: |builder, call, gradient| {
        let (a, b) = (call.inputs[0], call.inputs[1]);
        let (zero, one) = (builder.constant(0.0), builder.constant(1.0));
        let lower = builder.sub(b, one);
        let slope = builder.apply("pow", &[a, lower], &[]);
        let slope = builder.mul(b, slope);
        let of_a = builder.mul(gradient, slope);
        let constant = builder.equal(b, zero);
        let of_a = builder.select(constant, zero, of_a);

        let log = builder.log(a);
        let growth = builder.mul(call.output, log);
        let of_b = builder.mul(gradient, growth);
        let at_zero = builder.equal(a, zero);
        let not_negative = builder.apply("greater_equal", &[b, zero], &[]);
        let flat = builder.apply("logical_and", &[at_zero, not_negative], &[]);
        [Some(of_a), Some(builder.select(flat, zero, of_b))]
    },
};
