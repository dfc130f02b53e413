//! `|a|`

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};

pub(super) static ABS: UnaryOperator = UnaryOperator {
    name: "abs",
    group: Group::Function,
    summary: "`|a|`",
    gradient: "`g` times the sign of a, which is 0 at 0 and at NaN",
    accepts: Accepts::Arithmetic,
    formula: |a| Expression::unary(Unary::Abs, a),
    derivative: |builder, a, _, gradient| {
        let (zero, one, minus_one) = (builder.constant(0.0), builder.constant(1.0), builder.constant(-1.0));
        let (positive, negative) = (builder.greater(a, zero), builder.greater(zero, a));
        let not_positive = builder.select(negative, minus_one, zero);
        let sign = builder.select(positive, one, not_positive);
        Some(builder.mul(gradient, sign))
    },
};
