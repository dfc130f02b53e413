//! The smallest element over axes; NaN if any is NaN. The function of two numbers is `minimum`.

use super::reduction::{self, ReductionOperator};
use crate::compile::Reducer;

pub(super) static MIN: ReductionOperator = ReductionOperator {
    name: "min",
    summary: "The smallest element over axes; NaN if any is NaN.",
    gradient: "`g`, shared evenly by the elements that equal `y`",
    reducer: Reducer::Min,
    derivative: reduction::shared_by_the_chosen,
};
