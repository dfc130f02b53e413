//! Elements dropped at random while a seed trains, the others made larger; in evaluation nothing happens.

use super::{
    Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute, expect_numbers,
};
use crate::compile::{Binary, Expression};
use crate::graph::{Attribute, Attributes, Builder, DataType, Scalar, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Dropout;

/// The operator's name.
pub(crate) const NAME: &str = "dropout";
/// The attribute that says which stream of random numbers it draws from.
pub(crate) const STREAM: &str = "stream";
/// No stream yet.
pub(crate) const UNASSIGNED: i64 = -1;
/// Streams of a blueprint, at most.
const STREAMS: usize = 1 << 16;

impl Operator for Dropout {
    fn name(&self) -> &'static str {
        NAME
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Movement,
            summary: "In training, each element is 0 with probability p and else divided by 1 - p; in evaluation, a. Every row \
                      is drawn anew, also where a does not depend on the row.",
            inputs: &[("a", "numbers")],
            result: "numbers of the shape of a, per row",
            gradient: "`g` of the elements that were kept, divided by 1 - p",
            cost: "5 |a|",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[
            KnownAttribute { name: "p", default: Some(Attribute::Float(0.5)), meaning: "the probability, 0 to 1" },
            KnownAttribute {
                name: STREAM,
                default: Some(Attribute::Integer(UNASSIGNED)),
                meaning: "which stream of random numbers. Leave it out: each dropout of a blueprint is given its own, by its \
                          place in the evaluation of the output",
            },
        ]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        expect_numbers(inputs)?;
        let p = attribute::float(attributes, "p")?;
        if !(0.0..=1.0).contains(&p) {
            return Err(format!("`p` is {p}; it must be 0 to 1"));
        }
        if attribute::integer(attributes, STREAM)? != UNASSIGNED {
            attribute::count(attributes, STREAM, 0, STREAMS - 1)?;
        }
        Ok((DataType::F32, inputs[0].shape.clone()))
    }

    fn per_row(&self, _: bool) -> bool {
        true
    }

    /// The same elements of the gradient are dropped.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let attributes: Vec<_> = call.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        vec![Some(builder.apply(NAME, &[output_gradient], &attributes))]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        let p = attribute::known(attribute::float(call.attributes, "p"));
        let stream = attribute::known(attribute::integer(call.attributes, STREAM));
        let stream = u16::try_from(stream).unwrap_or(0);
        let random = lowering.random(stream, call.shape);
        let active = lowering.scalar(Scalar::Dropout);
        let (zero, a) = (Expression::Constant(0.0), Expression::Operand(0));
        let kept = Expression::binary(Binary::GreaterEqual, Expression::Operand(1), Expression::Constant(p));
        let larger = if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 };
        let factor = Expression::select(kept, Expression::Constant(larger), zero.clone());
        let trains = Expression::binary(Binary::Greater, Expression::Operand(2), zero);
        let dropped = Expression::select(trains, a.clone() * factor, a);
        lowering.map(call.shape, &[&call.inputs[0], &random, &active], dropped)
    }
}
