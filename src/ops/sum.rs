//! The sum over axes.

use super::reduction::{self, ReductionOperator};
use crate::compile::Reducer;

pub(super) static SUM: ReductionOperator = ReductionOperator {
    name: "sum",
    summary: "The sum over axes. Whole numbers keep their type and wrap.",
    gradient: "`g`, repeated",
    reducer: Reducer::Sum,
    derivative: reduction::spread,
};
