//! The largest element over axes; NaN if any is NaN. The function of two numbers is `maximum`.

use super::reduction::{self, ReductionOperator};
use crate::compile::Reducer;

pub(super) static MAX: ReductionOperator = ReductionOperator {
    name: "max",
    summary: "The largest element over axes; NaN if any is NaN.",
    gradient: "`g`, shared evenly by the elements that equal `y`",
    reducer: Reducer::Max,
    derivative: reduction::shared_by_the_chosen,
};
