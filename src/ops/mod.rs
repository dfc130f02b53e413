//! The operators: one file each, in the order shape rule, checks, gradient, lowering to primitives.
//!
//! A new operator is one file here and one line in the registry below. Backends never see operators, only the
//! primitives they lower to. This module must know no device.

mod abs;
mod accepts;
mod add;
mod attribute;
mod broadcast;
mod cast;
mod composite;
mod concat;
mod constant;
mod conv1d;
mod cos;
mod div;
mod documentation;
pub(crate) mod dropout;
mod einsum;
mod elementwise;
mod equal;
mod erf;
mod exp;
mod floor;
mod gelu;
mod glu;
mod greater;
mod greater_equal;
mod group_norm;
mod index;
mod layer_norm;
mod less;
mod less_equal;
mod linear;
mod log;
mod logical_and;
mod logical_not;
mod logical_or;
mod low_rank_linear;
mod matmul;
mod max;
mod maximum;
mod mean;
mod min;
mod minimum;
mod mul;
mod neg;
mod normalisation;
mod not_equal;
mod pad;
mod permute;
mod pow;
mod reduction;
mod relu;
mod reshape;
mod rms_norm;
mod rope;
mod row_sum;
mod rsqrt;
mod sigmoid;
mod silu;
mod sin;
mod slice;
mod softmax;
mod split;
mod sqrt;
mod sub;
mod sum;
mod taken;
mod tanh;
mod top_k;
mod unfold;
mod r#where;

use accepts::{Accepts, expect_numbers};
use composite::Composite;
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

    /// Whether the result depends on the row, if one of the inputs does or none.
    fn per_row(&self, of_inputs: bool) -> bool {
        of_inputs
    }

    /// Whether each element of the result is computed from one element of each input, after broadcasting.
    fn is_elementwise(&self) -> bool {
        false
    }

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
    &constant::Constant,
    &index::Index,
    &add::ADD,
    &sub::SUB,
    &mul::MUL,
    &div::DIV,
    &neg::NEG,
    &pow::POW,
    &maximum::MAXIMUM,
    &minimum::MINIMUM,
    &exp::EXP,
    &log::LOG,
    &sqrt::SQRT,
    &rsqrt::RSQRT,
    &abs::ABS,
    &floor::FLOOR,
    &sin::SIN,
    &cos::COS,
    &erf::ERF,
    &relu::RELU,
    &gelu::Gelu,
    &silu::Silu,
    &tanh::TANH,
    &sigmoid::SIGMOID,
    &glu::GLU,
    &rope::ROPE,
    &greater::GREATER,
    &greater_equal::GREATER_EQUAL,
    &less::LESS,
    &less_equal::LESS_EQUAL,
    &equal::EQUAL,
    &not_equal::NOT_EQUAL,
    &logical_and::LOGICAL_AND,
    &logical_or::LOGICAL_OR,
    &logical_not::LOGICAL_NOT,
    &r#where::Where,
    &taken::Taken,
    &sum::SUM,
    &mean::MEAN,
    &max::MAX,
    &min::MIN,
    &top_k::TOP_K,
    &layer_norm::LayerNorm,
    &rms_norm::RmsNorm,
    &group_norm::GROUP_NORM,
    &softmax::Softmax,
    &linear::Linear,
    &low_rank_linear::LOW_RANK_LINEAR,
    &matmul::Matmul,
    &einsum::Einsum,
    &conv1d::CONV1D,
    &reshape::Reshape,
    &permute::Permute,
    &broadcast::Broadcast,
    &slice::Slice,
    &split::SPLIT,
    &concat::Concat,
    &pad::PAD,
    &unfold::Unfold,
    &cast::Cast,
    &dropout::Dropout,
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

/// Pairs that one contraction multiplies, at most: small inputs must not cost hours.
const MOST_PRODUCTS: u64 = 1 << 32;

/// Refuses a contraction, or a comparison of everything with everything, of too many pairs.
fn bounded_products(products: u64) -> Result<(), String> {
    if products > MOST_PRODUCTS {
        return Err(format!("it combines {products} pairs for each row; at most {MOST_PRODUCTS} are allowed"));
    }
    Ok(())
}
