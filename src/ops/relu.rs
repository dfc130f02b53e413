//! `max(a, 0)`; NaN stays NaN.

use super::elementwise::UnaryOperator;
use crate::compile::{Binary, Expression};

/// The gradient where the result is not 0. (Asked this way, NaN passes the gradient on, as in PyTorch.)
pub(super) static RELU: UnaryOperator = UnaryOperator {
    name: "relu",
    formula: |a| Expression::binary(Binary::Max, a, Expression::Constant(0.0)),
    derivative: |builder, _, output, gradient| {
        let zero = builder.constant(0.0);
        let off = builder.equal(output, zero);
        builder.select(off, zero, gradient)
    },
};
