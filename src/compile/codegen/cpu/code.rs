//! What the code is made of, and its bytes.
//!
//! Memory has three spaces: *row*, with one element per row of the tile for each element number; *uniform*; and the
//! seed's *parameters*, which are only read. Places are element numbers in a space.

use super::check;
use crate::compile::{Binary, Destination, Expression, KernelClass, Reducer, Unary};
use crate::graph::{DataType, RowInput, Scalar};
use crate::{Error, Result, error, fail};
use serde::{Deserialize, Serialize};

/// Most operands of an instruction: more than the largest expressions that steps are put together to.
pub(crate) const MOST_OPERANDS: usize = 256;

/// Most outer loops of an instruction.
pub(crate) const MOST_AXES: usize = 16;

/// The code of a kernel class.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Code {
    /// By branch.
    pub programs: Vec<Procedure>,
    /// By branch, for seeds whose parameters are frozen; only in backward.
    pub frozen: Vec<Procedure>,
}

/// The code of a program.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Procedure {
    /// Size of the row space.
    pub row_elements: usize,
    /// Size of the uniform space.
    pub uniform_elements: usize,
    /// How much of a slot the parameters take.
    pub parameter_elements: usize,
    /// The part of the uniform space that starts at zero and is added to.
    pub accumulators: Span,
    /// What is put into the row space before the body: a chunk each, at this element.
    pub rows: Vec<(RowInput, usize)>,
    /// What is put into the uniform space before the prologue.
    pub scalars: Vec<(Scalar, usize)>,
    /// Parts of the uniform space that are the numbers 0, 1, and so on.
    pub indices: Vec<Span>,
    /// Parts of the row space that are drawn before the body, from the stream of this number.
    pub random: Vec<(u16, Span)>,
    /// Once, first. Writes the uniform space.
    pub prologue: Vec<Instruction>,
    /// For each tile of rows. Writes the row space.
    pub body: Vec<Instruction>,
    /// For each tile of rows, over those that did not fall back. Adds to the accumulators.
    pub accumulate: Vec<Instruction>,
    /// Once, last. Writes the uniform space.
    pub epilogue: Vec<Instruction>,
    /// Where in the row space the output's chunk lies, if there is one.
    pub row_output: Option<usize>,
    /// What is added to memory outside after the epilogue.
    pub outputs: Vec<UniformOutput>,
    /// Parts of the row space that must be finite.
    pub guards: Vec<Span>,
    /// Parts of the row space that `accumulate` reads.
    pub kept: Vec<Span>,
    /// What a row falls back to.
    pub fallback: RowInput,
    /// Roughly the vector operations of a row, to tell small launches from large ones.
    pub work: usize,
}

/// A range of elements of a space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub offset: usize,
    pub elements: usize,
}

/// A value that leaves the procedure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UniformOutput {
    pub space: Space,
    pub span: Span,
    pub destination: Destination,
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Space {
    Row,
    Uniform,
    Parameter,
}

/// Where an operand begins; the axes say how it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    pub space: Space,
    pub offset: usize,
}

/// One loop: how often, and how far the result and each operand move each time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Axis {
    pub extent: usize,
    pub result: usize,
    pub operands: Vec<usize>,
}

/// A step: loops around an action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Instruction {
    /// The first element of the result, in the space its section writes.
    pub result: usize,
    /// What is read.
    pub operands: Vec<Access>,
    /// The loops around the action, outermost first; those over the result come before the reduced ones.
    pub outer: Vec<Axis>,
    /// How many of the outer loops, the last ones, are reduced.
    pub reduced: usize,
    /// What is done inside.
    pub action: Action,
    /// Where a truth value lies, and which one must hold for any of the rows that the instruction is not skipped.
    pub condition: Option<(Access, bool)>,
}

/// What an instruction does inside its outer loops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// Evaluates an expression along `inner`. The result is written, or combined if there is a reducer; in an
    /// accumulate section it is summed over the rows and added.
    Evaluate { inner: Axis, reducer: Option<Reducer>, expression: Formula },
    /// In a body: for each of `outputs`, the sum along `depth` of operand 0 (uniform) times operand 1 (per row, and the
    /// same for all outputs).
    Contract { outputs: Axis, depth: Axis },
    /// In an accumulate section: adds, for each of `outputs` (along which operand 1 stands still) and each of `lanes`
    /// (along which operand 0 stands still), the sum over the rows of operand 0 times operand 1.
    OuterProduct { outputs: Axis, lanes: Axis },
    /// Evaluates an expression with integers, number by number; all loops are outer ones.
    Exact(Exact),
}

/// An expression in which integers have a part. An integer takes [`INTEGER`] elements of its space for one of its own: its
/// 64 bits lie in the first of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exact {
    pub expression: Expression,
    /// The types of the operands.
    pub operands: Vec<DataType>,
    /// The type of the result.
    pub result: DataType,
    /// How the reduced loops combine.
    pub reducer: Option<Reducer>,
}

/// Elements of a space that an integer takes.
pub(crate) const INTEGER: usize = 2;

/// Elements of a space that a number of a type takes.
pub(crate) fn width(data_type: DataType) -> usize {
    if data_type.is_integer() { INTEGER } else { 1 }
}

/// An expression as flat code over registers, each of which holds a block of elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Formula {
    pub operations: Vec<Operation>,
    pub result: Input,
    pub registers: usize,
}

/// One operation of a formula.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Operation {
    pub function: Function,
    /// As many as the function takes count.
    pub inputs: [Input; 3],
    /// The register that is written; none of the inputs.
    pub register: usize,
}

/// What an operation computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Function {
    Unary(Unary),
    Binary(Binary),
    Select,
}

impl Function {
    /// How many inputs count.
    pub fn arity(self) -> usize {
        match self {
            Function::Unary(_) => 1,
            Function::Binary(_) => 2,
            Function::Select => 3,
        }
    }
}

/// What an operation reads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Input {
    Operand(usize),
    Register(usize),
    Constant(f64),
}

impl Instruction {
    /// All loops, those of the action after the outer ones.
    pub fn axes(&self) -> impl Iterator<Item = &Axis> {
        let inner = match &self.action {
            Action::Evaluate { inner, .. } => [Some(inner), None],
            Action::Contract { outputs, depth } => [Some(outputs), Some(depth)],
            Action::OuterProduct { outputs, lanes } => [Some(outputs), Some(lanes)],
            Action::Exact(_) => [None, None],
        };
        self.outer.iter().chain(inner.into_iter().flatten())
    }
}

impl Procedure {
    /// All instructions.
    pub fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        [&self.prologue, &self.body, &self.accumulate, &self.epilogue].into_iter().flatten()
    }

    /// How often the innermost loops run, all instructions together.
    #[cfg(test)]
    pub fn iterations(&self) -> usize {
        let count = |one: &Instruction| one.axes().fold(1usize, |count, axis| count.saturating_mul(axis.extent));
        self.instructions().map(count).fold(0, usize::saturating_add)
    }
}

/// What the bytes begin with; changes with every change of the format or of its meaning.
const MAGIC: &[u8; 8] = b"KSMCPU02";

impl Code {
    /// The bytes of the code: magic, checksum of the rest, which class it belongs to, and the code itself.
    pub fn encode(&self, class: &KernelClass) -> Result<Vec<u8>> {
        let mut body = identity(class)?.to_vec();
        body.extend(postcard::to_stdvec(self).map_err(unwritable)?);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(crc32fast::hash(&body).to_le_bytes());
        bytes.extend(body);
        Ok(bytes)
    }

    /// Reads the code of a class back and checks all that running it relies on.
    ///
    /// Fails with `FileCorrupted` for any bytes that `encode` did not make for this class.
    pub fn decode(class: &KernelClass, bytes: &[u8]) -> Result<Code> {
        let damaged =
            |reason: &str| error!(FileCorrupted, "the CPU code of a kernel is damaged: {reason}; compile it again");
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it does not begin as such code does"))?;
        let (checksum, body) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it is cut off"))?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return Err(damaged("its checksum is wrong"));
        }
        let (owner, code) = body.split_first_chunk::<32>().ok_or_else(|| damaged("it is cut off"))?;
        if *owner != identity(class)? {
            fail!(FileCorrupted, "the CPU code was made for another kernel class; compile this one");
        }
        let (code, left): (Code, _) =
            postcard::take_from_bytes(code).map_err(|cause| damaged("it cannot be read").caused_by(cause))?;
        if !left.is_empty() {
            return Err(damaged("bytes follow its end"));
        }
        check::check(&code, class).map_err(|reason| damaged(&reason))?;
        Ok(code)
    }
}

/// What stands for a class in its code.
fn identity(class: &KernelClass) -> Result<[u8; 32]> {
    Ok(blake3::hash(&postcard::to_stdvec(class).map_err(unwritable)?).into())
}

fn unwritable(cause: postcard::Error) -> Error {
    error!(CompileFailed, "the code cannot be written as bytes").caused_by(cause)
}
