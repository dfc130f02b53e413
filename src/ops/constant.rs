//! A number that is part of the graph.

use super::{Attribute, Call, Lowered, Lowering, Operator, Value, View, attribute};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

/// No inputs; `value` is the number; the shape is `[]`.
#[derive(Debug)]
pub(super) struct Constant;

impl Operator for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        0..=0
    }

    fn attributes(&self) -> &'static [(&'static str, Option<Attribute>)] {
        &[("value", None)]
    }

    fn infer(&self, _: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        attribute::float(attributes, "value")?;
        Ok((DataType::F32, Shape::default()))
    }

    fn gradient(&self, _: &mut Builder, _: &Call<'_>, _: ValueId) -> Vec<Option<ValueId>> {
        Vec::new()
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        lowering.constant(attribute::known(attribute::float(call.attributes, "value")))
    }
}
