//! The sum over axes.

use super::{Attribute, Call, Lowered, Lowering, Operator, Value, View, reduction};
use crate::compile::Reducer;
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

/// `axes` (default: all), `keep` (default: false).
#[derive(Debug)]
pub(super) struct Sum;

impl Operator for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn attributes(&self) -> &'static [(&'static str, Option<Attribute>)] {
        reduction::ATTRIBUTES
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        reduction::infer(inputs, attributes)
    }

    /// Every summand gets the gradient of the sum.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        vec![Some(reduction::spread(builder, call, output_gradient))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        reduction::lower(lowering, call, Reducer::Sum)
    }
}
