//! `max(a, 0)`; NaN stays NaN.

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Binary, Expression};

pub(super) static RELU: UnaryOperator = UnaryOperator {
    name: "relu",
    group: Group::Function,
    summary: "`max(a, 0)`; NaN stays NaN.",
    gradient: "`g` where `y` is not 0",
    accepts: Accepts::Numbers,
    formula: |a| Expression::binary(Binary::Max, a, Expression::Constant(0.0)),
    derivative: |builder, _, output, gradient| {
        let zero = builder.constant(0.0);
        let off = builder.equal(output, zero);
        Some(builder.select(off, zero, gradient))
    },
};
