//! The blueprints that come with the library, written in the notation everyone else uses.
//!
//! Where it is natural, a fresh one is the identity or close to it, so that a graft begins without a jolt.

use super::json::{Document, IR_VERSION, Metadata, NodeEntry, ParameterEntry};
use super::{Attribute, Attributes, Blueprint, Initializer, Shape};
use crate::error::Result;
use crate::fail;

/// The names [`library`] knows.
pub const LIBRARY: &[&str] =
    &["residual", "attention", "mlp", "conv", "bottleneck", "low_rank", "squeeze_excite", "normalized_mlp"];

/// A library blueprint for a chunk of this many channels.
///
/// | name | f(x) | fresh | attributes |
/// |---|---|---|---|
/// | `residual` | x + w s | x | |
/// | `attention` | x softmax(w) | x / C | |
/// | `mlp` | relu(x w) s, element by element | relu(x) | |
/// | `conv` | (w0 x_i + w1 x_{i-1} + w2 x_{i-2}) s, 0 before the chunk | x | |
/// | `bottleneck` | x + linear(gelu(linear(x))) | x | `width`: of the inner layer, C / 4 |
/// | `low_rank` | x + up(down(x)), without biases | x | `rank`: C / 8 |
/// | `squeeze_excite` | x sigmoid(linear(relu(linear(x)))) | 0.95 x | `width`: C / 4 |
/// | `normalized_mlp` | x + linear(gelu(linear(layer_norm(x)))) | x | `width`: 2 C |
///
/// # Errors
///
/// [`InvalidArgument`](crate::Status::InvalidArgument) for a name or attribute that is not in the table, and the errors
/// of [`Blueprint::from_json`] for sizes that are too large.
pub fn library(name: &str, chunk: usize, attributes: &Attributes) -> Result<Blueprint> {
    let width = |default: usize| size(name, attributes, "width", default);
    let document = match name {
        "residual" => residual(chunk),
        "attention" => attention(chunk),
        "mlp" => mlp(chunk),
        "conv" => conv(chunk),
        "bottleneck" => bottleneck(chunk, width(chunk / 4)?),
        "low_rank" => low_rank(chunk, size(name, attributes, "rank", chunk / 8)?),
        "squeeze_excite" => squeeze_excite(chunk, width(chunk / 4)?),
        "normalized_mlp" => normalized_mlp(chunk, width(chunk.saturating_mul(2))?),
        _ => fail!(InvalidArgument, "there is no library blueprint {name:?}; there are {}", LIBRARY.join(", ")),
    };
    let known = match name {
        "bottleneck" | "squeeze_excite" | "normalized_mlp" => Some("width"),
        "low_rank" => Some("rank"),
        _ => None,
    };
    if let Some(unknown) = attributes.keys().find(|attribute| known != Some(attribute)) {
        fail!(InvalidArgument, "`{name}` has no attribute {unknown:?}; it has {}", known.unwrap_or("none"));
    }
    document.verify()
}

/// A size given as an attribute, or its default.
fn size(blueprint: &str, attributes: &Attributes, name: &str, default: usize) -> Result<usize> {
    match attributes.get(name) {
        None => Ok(default.max(1)),
        Some(Attribute::Integer(size @ 1..)) => Ok(*size as usize),
        Some(other) => {
            fail!(InvalidArgument, "`{name}` of `{blueprint}` is {other:?}; it must be a whole number from 1")
        }
    }
}

fn residual(chunk: usize) -> Document {
    document(
        "residual",
        chunk,
        [parameter("w", [chunk], Initializer::Zeros), parameter("s", [], Initializer::Ones)],
        [node("scaled", "mul", ["w", "s"]), node("y", "add", ["x", "scaled"])],
    )
}

fn attention(chunk: usize) -> Document {
    document(
        "attention",
        chunk,
        [parameter("w", [chunk], Initializer::Zeros)],
        [node("p", "softmax", ["w"]), node("y", "mul", ["x", "p"])],
    )
}

fn mlp(chunk: usize) -> Document {
    document(
        "mlp",
        chunk,
        [parameter("w", [chunk], Initializer::Ones), parameter("s", [], Initializer::Ones)],
        [node("scaled", "mul", ["x", "w"]), node("h", "relu", ["scaled"]), node("y", "mul", ["h", "s"])],
    )
}

/// `conv1d` puts its last tap on the element itself, and `w` its first.
fn conv(chunk: usize) -> Document {
    let tap = |name: &str, index: i64| NodeEntry {
        attributes: [("parts", 3), ("index", index)]
            .map(|(name, number)| (String::from(name), Attribute::Integer(number)))
            .into(),
        ..node(name, "split", ["w"])
    };
    document(
        "conv",
        chunk,
        [parameter("w", [3], Initializer::Values([1.0, 0.0, 0.0].into())), parameter("s", [], Initializer::Ones)],
        [
            tap("w0", 0),
            tap("w1", 1),
            tap("w2", 2),
            node("taps", "concat", ["w2", "w1", "w0"]),
            node("mixed", "conv1d", ["x", "taps"]),
            node("y", "mul", ["mixed", "s"]),
        ],
    )
}

fn bottleneck(chunk: usize, width: usize) -> Document {
    document(
        "bottleneck",
        chunk,
        two_layers(chunk, width, Initializer::Zeros),
        [
            node("inner", "linear", ["x", "w1", "b1"]),
            node("h", "gelu", ["inner"]),
            node("outer", "linear", ["h", "w2", "b2"]),
            node("y", "add", ["x", "outer"]),
        ],
    )
}

fn low_rank(chunk: usize, rank: usize) -> Document {
    document(
        "low_rank",
        chunk,
        [parameter("down", [rank, chunk], Initializer::FanIn), parameter("up", [chunk, rank], Initializer::Zeros)],
        [node("h", "linear", ["x", "down"]), node("outer", "linear", ["h", "up"]), node("y", "add", ["x", "outer"])],
    )
}

fn squeeze_excite(chunk: usize, width: usize) -> Document {
    document(
        "squeeze_excite",
        chunk,
        // sigmoid(3) = 0.95: nearly open, and not yet so flat that it cannot learn to close.
        two_layers(chunk, width, Initializer::Constant(3.0)),
        [
            node("inner", "linear", ["x", "w1", "b1"]),
            node("h", "relu", ["inner"]),
            node("outer", "linear", ["h", "w2", "b2"]),
            node("gate", "sigmoid", ["outer"]),
            node("y", "mul", ["x", "gate"]),
        ],
    )
}

fn normalized_mlp(chunk: usize, width: usize) -> Document {
    let norm = [parameter("scale", [chunk], Initializer::Ones), parameter("shift", [chunk], Initializer::Zeros)];
    document(
        "normalized_mlp",
        chunk,
        norm.into_iter().chain(two_layers(chunk, width, Initializer::Zeros)),
        [
            node("normal", "layer_norm", ["x", "scale", "shift"]),
            node("inner", "linear", ["normal", "w1", "b1"]),
            node("h", "gelu", ["inner"]),
            node("outer", "linear", ["h", "w2", "b2"]),
            node("y", "add", ["x", "outer"]),
        ],
    )
}

/// The parameters of two linear layers, of which the second begins as a constant.
fn two_layers(chunk: usize, width: usize, last: Initializer) -> [ParameterEntry; 4] {
    [
        parameter("w1", [width, chunk], Initializer::FanIn),
        parameter("b1", [width], Initializer::Zeros),
        parameter("w2", [chunk, width], Initializer::Zeros),
        parameter("b2", [chunk], last),
    ]
}

/// A document whose output is `y`.
fn document(
    name: &str,
    chunk: usize,
    parameters: impl IntoIterator<Item = ParameterEntry>,
    nodes: impl IntoIterator<Item = NodeEntry>,
) -> Document {
    Document {
        ir_version: IR_VERSION,
        name: name.into(),
        chunk,
        parameters: parameters.into_iter().collect(),
        nodes: nodes.into_iter().collect(),
        output: "y".into(),
        metadata: Metadata::new(),
    }
}

fn parameter<const RANK: usize>(name: &str, shape: [usize; RANK], initializer: Initializer) -> ParameterEntry {
    ParameterEntry { name: name.into(), shape: Shape::new(shape), initializer }
}

fn node<const ARITY: usize>(name: &str, op: &str, inputs: [&str; ARITY]) -> NodeEntry {
    NodeEntry { name: name.into(), op: op.into(), inputs: inputs.map(String::from).into(), ..NodeEntry::default() }
}
