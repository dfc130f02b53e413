//! The operators: one file each, in the order shape rule, checks, gradient, lowering to primitives.
//!
//! A new operator is one file here and one line in the registry below. Backends never see operators, only the
//! primitives they lower to. This module must know no device.

mod abs;
mod add;
mod attribute;
mod broadcast;
mod constant;
mod div;
mod documentation;
mod einsum;
mod elementwise;
mod equal;
mod erf;
mod exp;
mod gelu;
mod greater;
mod layer_norm;
mod linear;
mod log;
mod max;
mod mean;
mod mul;
mod neg;
mod normalisation;
mod permute;
mod reduction;
mod relu;
mod reshape;
mod rms_norm;
mod row_sum;
mod rsqrt;
mod sigmoid;
mod silu;
mod softmax;
mod sqrt;
mod sub;
mod sum;
mod tanh;
mod r#where;

pub use documentation::{Documentation, Group, KnownAttribute};

use crate::compile::{Lowered, Lowering, View};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};

/// One operator of the graph.
///
/// Implementations are `'static` and have no state; [`lookup`] finds them by name.
pub trait Operator: Sync + std::fmt::Debug {
    /// The name blueprints use.
    fn name(&self) -> &'static str;

    /// How many inputs it takes.
    fn arity(&self) -> std::ops::RangeInclusive<usize>;

    /// What people read about it.
    fn documentation(&self) -> Documentation;

    /// The attributes it knows. Anything else is an error.
    fn attributes(&self) -> &'static [KnownAttribute] {
        &[]
    }

    /// Shape rule and checks: what comes out of these inputs, or a sentence saying what is wrong with them.
    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String>;

    /// Brings attributes that the shape rule found right into one form, so that calls that mean the same are equal: axes
    /// are counted from the front.
    fn normalise(&self, _inputs: &[Value<'_>], _attributes: &mut Attributes) {}

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
static REGISTRY: &[&dyn Operator] = &[
    &linear::Linear,
    &add::ADD,
    &sub::SUB,
    &mul::MUL,
    &div::DIV,
    &neg::NEG,
    &exp::EXP,
    &log::LOG,
    &sqrt::SQRT,
    &rsqrt::RSQRT,
    &abs::ABS,
    &erf::ERF,
    &relu::RELU,
    &gelu::Gelu,
    &silu::Silu,
    &tanh::TANH,
    &sigmoid::SIGMOID,
    &layer_norm::LayerNorm,
    &rms_norm::RmsNorm,
    &sum::Sum,
    &mean::Mean,
    &max::Max,
    &softmax::Softmax,
    &reshape::Reshape,
    &permute::Permute,
    &broadcast::Broadcast,
    &greater::GREATER,
    &equal::EQUAL,
    &r#where::Where,
    &einsum::Einsum,
    &constant::Constant,
    &row_sum::RowSum,
];

/// The operator of this name.
pub fn lookup(name: &str) -> Option<&'static dyn Operator> {
    REGISTRY.iter().copied().find(|operator| operator.name() == name)
}

/// All operators.
pub fn all() -> &'static [&'static dyn Operator] {
    REGISTRY
}

/// Refuses inputs that are not numbers.
fn expect_numbers(inputs: &[Value<'_>]) -> Result<(), String> {
    match inputs.iter().position(|input| input.data_type != DataType::F32) {
        None => Ok(()),
        Some(position) => Err(format!("input {position} is {}, not a number (f32)", inputs[position].data_type.name())),
    }
}
