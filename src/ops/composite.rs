//! Operators that are made of others: a file for each says the shape rule and what it is made of; gradient and lowering
//! follow from that. A gradient builds the same nodes again, and equal steps are computed once.

use super::{Call, Documentation, KnownAttribute, Lowered, Lowering, Operator, Value, View};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId, pull_back};
use std::ops::RangeInclusive;

/// What comes out of inputs, or what is wrong with them.
type Infer = fn(&[Value<'_>], &Attributes) -> Result<(DataType, Shape), String>;

/// An operator that is made of others.
#[derive(Debug)]
pub(super) struct Composite {
    pub name: &'static str,
    pub documentation: Documentation,
    pub arity: RangeInclusive<usize>,
    pub attributes: &'static [KnownAttribute],
    /// Shape rule and checks.
    pub infer: Infer,
    /// Brings attributes into one form.
    pub normalise: fn(&[Value<'_>], &mut Attributes),
    /// The nodes it stands for.
    pub build: fn(&mut Builder, &[ValueId], &Attributes) -> ValueId,
}

impl Operator for Composite {
    fn name(&self) -> &'static str {
        self.name
    }

    fn arity(&self) -> RangeInclusive<usize> {
        self.arity.clone()
    }

    fn documentation(&self) -> Documentation {
        self.documentation
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        self.attributes
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        (self.infer)(inputs, attributes)
    }

    fn normalise(&self, inputs: &[Value<'_>], attributes: &mut Attributes) {
        (self.normalise)(inputs, attributes);
    }

    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        pull_back(builder, call.inputs, output_gradient, |builder| (self.build)(builder, call.inputs, call.attributes))
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        lowering.expand(call.inputs, |builder, inputs| (self.build)(builder, inputs, call.attributes))
    }
}
