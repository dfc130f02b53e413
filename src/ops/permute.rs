//! The axes in another order.

use super::{Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Permute;

impl Operator for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Movement,
            summary: "The axes in another order.",
            inputs: &[("a", "any value")],
            result: "the sizes of a in that order, the type of a",
            gradient: "`g` with its axes put back",
            cost: "0",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute {
            name: "axes",
            default: None,
            meaning: "axis i of the result is axis `axes[i]` of a; each axis stands there once",
        }]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        let shape = inputs[0].shape;
        let axes = attribute::axes(attributes, "axes", shape.rank())?;
        if axes.len() != shape.rank() {
            return Err(format!("`axes` names {} axes of a value with {} dimensions", axes.len(), shape.rank()));
        }
        Ok((inputs[0].data_type, Shape(axes.iter().map(|&axis| shape.0[axis]).collect())))
    }

    fn normalise(&self, inputs: &[Value<'_>], attributes: &mut Attributes) {
        let order = order(attributes, inputs[0].shape.rank());
        attribute::settle_axes(attributes, "axes", &order);
    }

    /// The gradient with its axes put back.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let axes = order(call.attributes, builder.shape(call.output).rank());
        let mut back = vec![0; axes.len()];
        axes.iter().enumerate().for_each(|(to, &from)| back[from] = to as i64);
        let back = Attribute::Integers(back.into());
        vec![Some(builder.apply("permute", &[output_gradient], &[("axes", back)]))]
    }

    fn lower(&self, _: &mut Lowering, call: &Lowered<'_>) -> View {
        call.inputs[0].permute(&order(call.attributes, call.shape.rank()))
    }
}

fn order(attributes: &Attributes, rank: usize) -> Vec<usize> {
    attribute::known(attribute::axes(attributes, "axes", rank))
}
