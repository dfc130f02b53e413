//! The sum of a value over all rows of a launch. Only differentiation and passes put it in; blueprints cannot.

use super::{Call, Documentation, Group, Lowered, Lowering, Operator, Value, View, expect_numbers};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct RowSum;

impl Operator for RowSum {
    fn name(&self) -> &'static str {
        "row_sum"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Internal,
            summary: "The sum of a value over all rows of a launch. Only differentiation and passes put it in; blueprints cannot.",
            inputs: &[("a", "numbers of any shape")],
            result: "numbers of the shape of a, the same for all rows",
            gradient: "`g` to every row",
            cost: "|a|",
        }
    }

    fn infer(&self, inputs: &[Value<'_>], _: &Attributes) -> Result<(DataType, Shape), String> {
        expect_numbers(inputs)?;
        Ok((DataType::F32, inputs[0].shape.clone()))
    }

    fn per_row(&self, _: bool) -> bool {
        false
    }

    /// Every row gets the gradient of the sum.
    fn gradient(&self, _: &mut Builder, _: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        vec![Some(output_gradient)]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        lowering.accumulate(&call.inputs[0])
    }
}
