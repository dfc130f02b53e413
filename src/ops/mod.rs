//! The operators: one file each, in the order shape rule, checks, gradient, lowering to primitives.
//!
//! A new operator is one file here and one line in the registry below. Backends never see operators, only the
//! primitives they lower to. This module must know no device.

use crate::compile::{Lowered, Lowering, View};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};

/// One operator of the graph.
///
/// Implementations are zero-sized and `'static`; `lookup` finds them by name.
pub trait Operator: Sync + std::fmt::Debug {
    /// The name blueprints use.
    fn name(&self) -> &'static str;

    /// How many inputs it takes.
    fn arity(&self) -> std::ops::RangeInclusive<usize>;

    /// The attributes it knows, each with its default; `None` means it must be given. Anything else is an error.
    fn attributes(&self) -> &'static [(&'static str, Option<Attribute>)] {
        &[]
    }

    /// Shape rule and checks: what comes out of these inputs, or a sentence saying what is wrong with them.
    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String>;

    /// The gradient: given the gradient of the output, adds nodes for the gradient of each input.
    ///
    /// `None` where an input is not differentiable. Gradients have the shape of their input; sums over rows are added
    /// by [`crate::graph::differentiate`], not here.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>>;

    /// Lowers one call to primitives and returns the view that stands for its value.
    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View;
}

/// An input as a shape rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// Its element type.
    pub data_type: DataType,
    /// Its shape within one row.
    pub shape: &'a Shape,
}

/// A call as a gradient sees it.
#[derive(Debug)]
pub struct Call<'a> {
    /// The inputs.
    pub inputs: &'a [ValueId],
    /// The result.
    pub output: ValueId,
    /// The attributes.
    pub attributes: &'a Attributes,
}

/// The operators, in the order messages list them.
static REGISTRY: &[&dyn Operator] = &[];

/// The operator of this name.
pub fn lookup(name: &str) -> Option<&'static dyn Operator> {
    REGISTRY.iter().copied().find(|operator| operator.name() == name)
}

/// All operators.
pub fn all() -> &'static [&'static dyn Operator] {
    REGISTRY
}
