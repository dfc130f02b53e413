//! `max(a, 0)`; NaN stays NaN.

use super::Group;
use super::elementwise::UnaryOperator;
use crate::compile::{Binary, Expression};

pub(super) static RELU: UnaryOperator = UnaryOperator {
    name: "relu",
    group: Group::Function,
    summary: "`max(a, 0)`; NaN stays NaN.",
    gradient: "`g` where `y` is not 0",
    formula: |a| Expression::binary(Binary::Max, a, Expression::Constant(0.0)),
    derivative: |builder, _, output, gradient| {
        let zero = builder.constant(0.0);
        let off = builder.equal(output, zero);
        builder.select(off, zero, gradient)
    },
};
