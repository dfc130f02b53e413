//! The same elements in another type.

use super::{Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute};
use crate::compile::{Expression, Unary};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Cast;

impl Operator for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Movement,
            summary: "The same elements in another type. A number becomes a whole one towards zero, the nearest there is, 0 \
                      for NaN; i64 becomes i32 modulo 2^32; a truth value is 0 or 1.",
            inputs: &[("a", "any value")],
            result: "the shape of a; for `f16` and `bf16` numbers that were rounded to the nearest of that type, ties to even",
            gradient: "`g`, rounded likewise, from numbers to numbers; otherwise none",
            cost: "|y|",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute { name: "type", default: None, meaning: "`f32`, `f16`, `bf16`, `i32`, `i64` or `bool`" }]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        let to = Target::read(attributes)?;
        Ok((to.data_type, inputs[0].shape.clone()))
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let between_numbers = builder.data_type(call.inputs[0]) == DataType::F32;
        let kind = call.attributes.get("type").cloned().unwrap_or(Attribute::Text("f32".into()));
        vec![between_numbers.then(|| builder.apply("cast", &[output_gradient], &[("type", kind)]))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        let to = attribute::known(Target::read(call.attributes));
        let mut cast = Expression::cast(to.data_type, Expression::Operand(0));
        if let Some(rounding) = to.rounding {
            cast = Expression::unary(rounding, cast);
        }
        lowering.map(call.shape, &[&call.inputs[0]], cast)
    }
}

/// The type of the result, and how its numbers are rounded.
struct Target {
    data_type: DataType,
    rounding: Option<Unary>,
}

impl Default for Target {
    fn default() -> Self {
        Self { data_type: DataType::F32, rounding: None }
    }
}

impl Target {
    fn read(attributes: &Attributes) -> Result<Self, String> {
        let plain = |data_type| Ok(Self { data_type, rounding: None });
        let rounded = |rounding| Ok(Self { data_type: DataType::F32, rounding: Some(rounding) });
        match attribute::text(attributes, "type")? {
            "f32" => plain(DataType::F32),
            "f16" => rounded(Unary::RoundF16),
            "bf16" => rounded(Unary::RoundBF16),
            "i32" => plain(DataType::I32),
            "i64" => plain(DataType::I64),
            "bool" => plain(DataType::Bool),
            other => Err(format!("`type` is {other:?}; it must be f32, f16, bf16, i32, i64 or bool")),
        }
    }
}
