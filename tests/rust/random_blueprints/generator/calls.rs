//! The table of operators: for each, how to call it on values that are there.

use super::growth::{Growth, Value};
use super::{elementwise, layers, movement, structure};

/// An operator that the generator can call.
#[derive(Clone, Copy)]
pub struct Operator {
    /// Its name in the registry.
    pub name: &'static str,
    /// Puts in a call, with whatever it needs; `None` if no value fits.
    pub call: fn(&mut Growth) -> Option<Value>,
}

macro_rules! operators {
    ($($name:literal => $call:expr,)+) => {
        &[$(Operator { name: $name, call: $call },)+]
    };
}

/// Everything the generator can call.
pub fn operators() -> &'static [Operator] {
    operators! {
        "tanh" => |growth| elementwise::unary(growth, "tanh"),
        "add" => |growth| elementwise::binary(growth, "add"),
        "mul" => |growth| elementwise::binary(growth, "mul"),
        "sub" => |growth| elementwise::binary(growth, "sub"),
        "div" => elementwise::div,
        "neg" => |growth| elementwise::unary(growth, "neg"),
        "sigmoid" => |growth| elementwise::unary(growth, "sigmoid"),
        "silu" => |growth| elementwise::unary(growth, "silu"),
        "gelu" => elementwise::gelu,
        "erf" => |growth| elementwise::unary(growth, "erf"),
        "exp" => |growth| elementwise::unary(growth, "exp"),
        "log" => |growth| elementwise::unary(growth, "log"),
        "sqrt" => |growth| elementwise::unary(growth, "sqrt"),
        "rsqrt" => |growth| elementwise::unary(growth, "rsqrt"),
        "abs" => |growth| elementwise::unary(growth, "abs"),
        "relu" => |growth| elementwise::unary(growth, "relu"),
        "constant" => elementwise::constant,
        "greater" => |growth| elementwise::compare(growth, "greater"),
        "equal" => |growth| elementwise::compare(growth, "equal"),
        "where" => elementwise::choose,
        "linear" => structure::linear,
        "einsum" => structure::einsum,
        "sum" => |growth| structure::reduction(growth, "sum"),
        "mean" => |growth| structure::reduction(growth, "mean"),
        "max" => |growth| structure::reduction(growth, "max"),
        "softmax" => structure::softmax,
        "layer_norm" => |growth| structure::normalisation(growth, "layer_norm"),
        "rms_norm" => |growth| structure::normalisation(growth, "rms_norm"),
        "reshape" => structure::reshape,
        "permute" => structure::permute,
        "broadcast" => structure::broadcast,
        "sin" => |growth| elementwise::unary(growth, "sin"),
        "cos" => |growth| elementwise::unary(growth, "cos"),
        "maximum" => |growth| elementwise::extreme(growth, "maximum"),
        "minimum" => |growth| elementwise::extreme(growth, "minimum"),
        "pow" => elementwise::pow,
        "floor" => elementwise::floor,
        "less" => |growth| elementwise::compare(growth, "less"),
        "less_equal" => |growth| elementwise::compare(growth, "less_equal"),
        "greater_equal" => |growth| elementwise::compare(growth, "greater_equal"),
        "not_equal" => |growth| elementwise::compare(growth, "not_equal"),
        "logical_and" => |growth| elementwise::logical(growth, "logical_and"),
        "logical_or" => |growth| elementwise::logical(growth, "logical_or"),
        "logical_not" => |growth| elementwise::logical(growth, "logical_not"),
        "taken" => elementwise::taken,
        "min" => |growth| structure::reduction(growth, "min"),
        "matmul" => layers::matmul,
        "low_rank_linear" => layers::low_rank_linear,
        "conv1d" => layers::conv1d,
        "group_norm" => layers::group_norm,
        "glu" => layers::glu,
        "rope" => layers::rope,
        "dropout" => layers::dropout,
        "slice" => movement::slice,
        "split" => movement::split,
        "concat" => movement::concat,
        "pad" => movement::pad,
        "unfold" => movement::unfold,
        "cast" => movement::cast,
        "index" => movement::index,
        "top_k" => movement::top_k,
    }
}
