//! The numbers 0, 1, 2 and so on.

use super::{Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute};
use crate::graph::{Attributes, Builder, DataType, Limits, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Index;

impl Operator for Index {
    fn name(&self) -> &'static str {
        "index"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        0..=0
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Source,
            summary: "The numbers 0, 1, 2 and so on; `cast` them for whole numbers.",
            inputs: &[],
            result: "numbers [count]",
            gradient: "none",
            cost: "0",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute { name: "count", default: None, meaning: "how many" }]
    }

    fn infer(&self, _: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        Ok((DataType::F32, Shape::new([count(attributes)?])))
    }

    fn gradient(&self, _: &mut Builder, _: &Call<'_>, _: ValueId) -> Vec<Option<ValueId>> {
        Vec::new()
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        lowering.index(attribute::known(count(call.attributes)))
    }
}

fn count(attributes: &Attributes) -> Result<usize, String> {
    attribute::count(attributes, "count", 1, Limits::DEFAULT.elements)
}
