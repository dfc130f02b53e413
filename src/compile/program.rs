//! A program: what a kernel does with one chunk of one seed, as loops over elements. Both backends read this and
//! nothing else of a blueprint.
//!
//! A program has four parts. The *prologue* computes uniform values from the parameters, once. The *body* runs for each
//! row. The *accumulate* steps run for each row as well, and add what they compute to a uniform value that starts at
//! zero. The *epilogue* runs once after the rows; everything in it is linear in the accumulated values, so a block
//! that has seen only some of the rows may run it on its partial sums and add its result to those of other blocks.

use super::check::check;
use crate::graph::{DataType, RowInput, Scalar, Shape};
use crate::{Result, error};
use serde::{Deserialize, Serialize};

/// A value of a program: a position in [`Program::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The position in [`Program::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A value: how many elements it has and where they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// Number of elements (per row, if it is per row).
    pub elements: usize,
    /// `F32` for numbers in the compute type of the launch, `Bool` for truth values (held as 0 or 1), `I32` and `I64` for
    /// exact integers (held as 64 bits).
    pub data_type: DataType,
    /// Whether there is one for each row.
    pub per_row: bool,
    /// Where it comes from.
    pub source: Source,
}

/// Where a value's elements come from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The seed's chunk of the row of an input tensor.
    Row(RowInput),
    /// The parameters of the seed's slot, beginning at this element of the slot.
    Parameter(usize),
    /// A number of the seed.
    Scalar(Scalar),
    /// Element `e` is the number `e`. Uniform, and takes no memory where a backend can help it.
    Index,
    /// Random numbers of [`super::random`], per row, from the stream of this number; 0 where dropout is not active. Takes
    /// no memory where a backend can help it.
    Random(u16),
    /// Steps of this program, which together write every element once.
    Step,
}

/// How a step reads a value: element `offset + sum(index[axis] * strides[axis])`, where the index runs over the step's
/// shape followed by its reduced shape. A stride of zero repeats, so broadcasts, permutations, slices and reshapes
/// cost nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operand {
    /// What is read.
    pub value: ValueId,
    /// The first element.
    pub offset: usize,
    /// Elements to move per index: one stride for each axis of the shape, then one for each axis of the reduced shape.
    pub strides: Vec<usize>,
}

/// How the reduced axes are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reducer {
    /// The sum, from 0.
    Sum,
    /// The largest element; NaN if any element is NaN, as in PyTorch.
    Max,
    /// The smallest element; NaN if any element is NaN, as in PyTorch.
    Min,
}

/// The one primitive: for every index of `shape`, combine `expression` over every index of `reduced`.
///
/// With no reduced axes this is a map, with the expression `Operand(0)` an index map, with `Operand(0) * Operand(1)`
/// and a sum a contraction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The value that is written; the elements of this shape lie dense in it, from `offset` on.
    pub result: ValueId,
    /// The first element that is written; not 0 where several steps write parts of one value.
    pub offset: usize,
    /// The axes of the result.
    pub shape: Shape,
    /// The axes that are combined away; empty for a map.
    pub reduced: Shape,
    /// How they are combined; meaningless when `reduced` is empty.
    pub reducer: Reducer,
    /// What the expression reads.
    pub operands: Vec<Operand>,
    /// What is computed from the operands.
    pub expression: Expression,
    /// When the step has to run; `None` is always. Only steps of the prologue and the body have one.
    pub condition: Option<Condition>,
}

impl Step {
    /// The values that it reads, one as often as it is read.
    pub fn reads(&self) -> impl Iterator<Item = ValueId> {
        self.operands.iter().map(|operand| operand.value).chain(self.condition.map(|condition| condition.value))
    }

    /// Whether it writes the whole of its result, which has so many elements.
    pub fn writes_all(&self, elements: usize) -> bool {
        self.offset == 0 && self.shape.elements() == elements
    }
}

/// A branch that is taken explicitly: the step may be skipped, its elements being anything, when for every row in hand
/// the truth value is not the one that is wanted. What reads them makes the same choice by [`Expression::Select`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Condition {
    /// A truth value of one element; uniform for a step of the prologue.
    pub value: ValueId,
    /// Which of the two runs the step.
    pub holds: bool,
}

/// A scalar expression over a step's operands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expression {
    /// The operand at this position.
    Operand(usize),
    /// A number.
    Constant(f64),
    /// A function of one number.
    Unary(Unary, Box<Expression>),
    /// A function of two numbers or two integers of one type; comparisons give a truth value.
    Binary(Binary, Box<Expression>, Box<Expression>),
    /// The second if the first holds, else the third. The one that is not chosen may be NaN.
    Select(Box<Expression>, Box<Expression>, Box<Expression>),
    /// The same in another type. `F32`: the nearest number; `Bool`: whether it is not 0; `I32` and `I64`: towards zero,
    /// the nearest there is, 0 for NaN; from the one integer type to the other modulo 2^32.
    Cast(DataType, Box<Expression>),
}

/// Functions of one number. `Neg` and `Abs` are also functions of an integer, modulo 2^32 or 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unary {
    /// -v
    Neg,
    /// |v|
    Abs,
    /// e^v
    Exp,
    /// natural logarithm
    Log,
    /// square root
    Sqrt,
    /// 1 / square root
    Rsqrt,
    /// hyperbolic tangent
    Tanh,
    /// 1 / (1 + e^-v)
    Sigmoid,
    /// the error function
    Erf,
    /// sine
    Sin,
    /// cosine
    Cos,
    /// the largest whole number that is not larger
    Floor,
    /// the nearest number that f16 has, ties to even; infinite beyond the largest. From f64 by way of f32, as PyTorch.
    RoundF16,
    /// the nearest number that bf16 has, likewise
    RoundBF16,
    /// not v, of a truth value
    Not,
}

/// Functions of two numbers. All but `Div` and `Pow` are also functions of two integers, modulo 2^32 or 2^64; `And` and `Or`
/// only of two truth values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binary {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a * b
    Mul,
    /// a / b
    Div,
    /// the larger; NaN if either is NaN, as in PyTorch
    Max,
    /// a > b
    Greater,
    /// a == b
    Equal,
    /// the smaller; NaN if either is NaN, as in PyTorch
    Min,
    /// a to the power b, as in C
    Pow,
    /// a >= b
    GreaterEqual,
    /// a and b
    And,
    /// a or b
    Or,
}

/// A value that leaves the program.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Which value: per row for [`Destination::Row`], uniform for the others.
    pub value: ValueId,
    /// What becomes of it. Uniform values are added to what is there.
    pub target: Destination,
}

/// Where an output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// The seed's chunk of the row of the output tensor.
    Row,
    /// The gradient of the seed's slot, beginning at this element of the slot.
    ParameterGradient(usize),
    /// The gradient of the seed's alpha.
    AlphaGradient,
    /// The seed's reconstruction loss.
    Loss,
}

/// What a kernel does with one chunk of one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Channels of the chunk.
    pub chunk: usize,
    /// All values.
    pub values: Vec<Value>,
    /// Once, before the rows: uniform values from uniform values.
    pub prologue: Vec<Step>,
    /// For each row.
    pub body: Vec<Step>,
    /// For each row, after the body: the result is uniform and is added to.
    pub accumulate: Vec<Step>,
    /// Once, after the rows: uniform values from uniform ones, linear in the accumulated ones.
    pub epilogue: Vec<Step>,
    /// What leaves the program.
    pub outputs: Vec<Output>,
    /// Per-row values. A row in which one of them has an element that is not finite, or would not be in the type of the
    /// row tensors, falls back: its output is the row of `fallback`, and it adds nothing to the accumulated values.
    pub guards: Vec<ValueId>,
    /// The input whose row stands in for the output of a row that falls back.
    pub fallback: RowInput,
}

impl Program {
    /// Finds what contradicts itself. Everything that runs or prints a program asks first.
    ///
    /// # Errors
    ///
    /// `CompileFailed`, naming the contradiction.
    pub fn check(&self) -> Result<()> {
        check(self).map_err(|reason| error!(CompileFailed, "a program contradicts itself: {reason}"))
    }
}
