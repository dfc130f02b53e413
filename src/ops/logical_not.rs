//! `not a`

use super::elementwise::UnaryOperator;
use super::{Accepts, Group};
use crate::compile::{Expression, Unary};

pub(super) static LOGICAL_NOT: UnaryOperator = UnaryOperator {
    name: "logical_not",
    group: Group::Choice,
    summary: "`not a`",
    gradient: "none",
    accepts: Accepts::Truth,
    formula: |a| Expression::unary(Unary::Not, a),
    derivative: |_, _, _, _| None,
};
