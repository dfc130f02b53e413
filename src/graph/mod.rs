//! A blueprint as data: a small trainable operator graph over one row's chunk, `[C] -> [C]`.
//!
//! A graph is a list of nodes in topological order; a node's id is its position, and it produces one value. Values are
//! either *per row* (they depend on the row) or *uniform* (they depend only on parameters, so a kernel computes them
//! once for all rows).
//!
//! This module must know no device, no kernel and no layer.

mod attributes;
mod blueprint;
mod builder;
mod control;
mod differentiate;
mod features;
mod hash;
mod initializer;
mod json;
mod library;
mod limits;
mod scope;
mod streams;
#[cfg(test)]
mod tests;
mod verify;

pub use attributes::{Attribute, Attributes};
pub use blueprint::{Blueprint, Parameter};
pub use builder::Builder;
pub use differentiate::differentiate;
pub(crate) use differentiate::pull_back;
pub use features::{Features, Written};
pub use initializer::Initializer;
pub use json::{IR_VERSION, Metadata};
pub use library::{LIBRARY, library};
pub use limits::Limits;

use crate::ops::Operator;
use serde::{Deserialize, Serialize};

/// The element type of a tensor or of a value in a graph. The numbers are part of the C ABI.
///
/// Inside a graph, `F32` means the type a launch computes in: f32 for f32, f16 and bf16 tensors, f64 for f64 tensors.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// IEEE single precision.
    F32 = 0,
    /// IEEE half precision.
    F16 = 1,
    /// bfloat16.
    BF16 = 2,
    /// IEEE double precision.
    F64 = 3,
    /// 32-bit signed integer.
    I32 = 4,
    /// 64-bit signed integer.
    I64 = 5,
    /// A truth value, one byte in memory.
    Bool = 6,
    /// 8-bit signed integer; only state arrays have it.
    I8 = 7,
    /// 8-bit unsigned integer; only state arrays have it.
    U8 = 8,
    /// 16-bit signed integer; only state arrays have it.
    I16 = 9,
    /// 16-bit unsigned integer; only state arrays have it.
    U16 = 10,
    /// 32-bit unsigned integer; only state arrays have it.
    U32 = 11,
}

impl DataType {
    /// Bytes of one element in memory.
    pub fn bytes(self) -> usize {
        match self {
            DataType::Bool | DataType::I8 | DataType::U8 => 1,
            DataType::F16 | DataType::BF16 | DataType::I16 | DataType::U16 => 2,
            DataType::F32 | DataType::I32 | DataType::U32 => 4,
            DataType::F64 | DataType::I64 => 8,
        }
    }

    /// Whether a layer can run on tensors of this type.
    pub fn is_float(self) -> bool {
        matches!(self, DataType::F32 | DataType::F16 | DataType::BF16 | DataType::F64)
    }

    /// Whether values of this type in a graph are whole numbers.
    pub fn is_integer(self) -> bool {
        matches!(self, DataType::I32 | DataType::I64)
    }

    /// The type arithmetic on tensors of this type is done and accumulated in.
    pub fn compute(self) -> DataType {
        if self == DataType::F64 { DataType::F64 } else { DataType::F32 }
    }

    /// The name used in blueprints and messages.
    pub fn name(self) -> &'static str {
        match self {
            DataType::F32 => "f32",
            DataType::F16 => "f16",
            DataType::BF16 => "bf16",
            DataType::F64 => "f64",
            DataType::I32 => "i32",
            DataType::I64 => "i64",
            DataType::Bool => "bool",
            DataType::I8 => "i8",
            DataType::U8 => "u8",
            DataType::I16 => "i16",
            DataType::U16 => "u16",
            DataType::U32 => "u32",
        }
    }
}

/// The sizes of a value's dimensions, outermost first. A scalar has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(pub Vec<usize>);

impl Shape {
    /// A shape from its dimensions.
    pub fn new(dimensions: impl Into<Vec<usize>>) -> Self {
        Self(dimensions.into())
    }

    /// How many elements a value of this shape has. Verified graphs cannot overflow it.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// The shape two values have after NumPy broadcasting; `None` if they do not fit.
    pub fn broadcast_with(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let size = |shape: &Shape, axis: usize| match axis.checked_sub(rank - shape.rank()) {
            Some(own) => shape.0[own],
            None => 1,
        };
        (0..rank)
            .map(|axis| match (size(self, axis), size(other, axis)) {
                (a, b) if a == b || b == 1 => Some(a),
                (1, b) => Some(b),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(Shape)
    }

    /// How many dimensions there are.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Strides of a dense value of this shape, in elements, the last dimension varying fastest.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.rank()];
        for axis in (1..self.rank()).rev() {
            strides[axis - 1] = strides[axis] * self.0[axis];
        }
        strides
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

/// A value of a graph: the position of the node that produces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The position in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A row of a tensor that a pass reads, cut to the seed's chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowInput {
    /// The layer's input.
    X,
    /// The gradient of the loss with respect to the layer's output; backward only.
    OutputGradient,
    /// What isolated training aims at; training only.
    Target,
}

/// A number that a pass is given for a seed, the same for all rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scalar {
    /// The seed's blend weight, clamped to [0, 1].
    Alpha,
    /// What a row's squared error is multiplied by in isolated training: 1 / (rows * C).
    LossScale,
    /// 1 where dropout is active: in training; 0 in evaluation.
    Dropout,
}

/// Where a node's value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The chunk of a row: `[C]`, per row.
    Row(RowInput),
    /// The parameter at this position of [`Blueprint::parameters`]; uniform.
    Parameter(usize),
    /// A number of the seed, shape `[]`; uniform.
    Scalar(Scalar),
    /// An operator applied to earlier values.
    Operator {
        /// What is applied.
        operator: &'static dyn Operator,
        /// To which values; all of them stand before this node.
        inputs: Vec<ValueId>,
        /// With which attributes; complete, defaults filled in.
        attributes: Attributes,
    },
}

/// One node: what it computes and what comes out.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where the value comes from.
    pub source: Source,
    /// Shape of the value, within one row.
    pub shape: Shape,
    /// Element type of the value.
    pub data_type: DataType,
    /// Whether the value depends on the row; the others are uniform.
    pub per_row: bool,
    /// What messages call it. Not part of the hash.
    pub name: String,
}

/// What is done with a value that leaves a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Written to the chunk of the row of the pass's output tensor: `[C]`, per row.
    Row,
    /// Added to the gradient of the parameter at this position; uniform, summed over rows.
    ParameterGradient(usize),
    /// Added to the gradient of the seed's alpha; uniform, summed over rows.
    AlphaGradient,
    /// Added to the seed's reconstruction loss; uniform, summed over rows.
    Loss,
}

/// A value that leaves the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// Which value.
    pub value: ValueId,
    /// What becomes of it.
    pub target: Target,
}

/// A graph: nodes in topological order and the values that leave it. Made by [`Builder`].
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The nodes; inputs of a node stand before it.
    pub nodes: Vec<Node>,
    /// What leaves the graph.
    pub outputs: Vec<Output>,
    /// Per-row values of which a non-finite element makes the whole row fall back to identity.
    pub guards: Vec<ValueId>,
}

impl Graph {
    /// The node that produces a value.
    pub fn node(&self, value: ValueId) -> &Node {
        &self.nodes[value.index()]
    }
}
