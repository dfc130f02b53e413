//! The table of operators: for each, how to call it on values that are there.

use super::growth::{Growth, Value};
use super::{elementwise, structure};

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
    }
}
