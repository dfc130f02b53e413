//! A number that is part of the graph.

use super::{Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Constant;

impl Operator for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        0..=0
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Source,
            summary: "A number that is part of the graph.",
            inputs: &[],
            result: "a number, shape []",
            gradient: "none",
            cost: "0",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute { name: "value", default: None, meaning: "the number" }]
    }

    fn infer(&self, _: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        attribute::float(attributes, "value")?;
        Ok((DataType::F32, Shape::default()))
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn gradient(&self, _: &mut Builder, _: &Call<'_>, _: ValueId) -> Vec<Option<ValueId>> {
        Vec::new()
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        lowering.constant(attribute::known(attribute::float(call.attributes, "value")))
    }
}
