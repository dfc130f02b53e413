//! The largest whole number that is not larger.

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};

pub(super) static FLOOR: UnaryOperator = UnaryOperator {
    name: "floor",
    group: Group::Function,
    summary: "The largest whole number that is not larger.",
    gradient: "none: zero almost everywhere",
    accepts: Accepts::Numbers,
    formula: |a| Expression::unary(Unary::Floor, a),
    derivative: |_, _, _, _| None,
};
