//! Kernel classes to make keys of.

use kasmina::compile::{
    Architecture, Binary, Destination, Expression, KernelClass, Operand, Output, Pass, Program, Reducer, Schedule,
    Source, Step, Value, ValueId,
};
use kasmina::graph::{DataType, RowInput, Shape};
use kasmina::store::Key;

/// y = x * 0.5 of a chunk.
pub fn program(chunk: usize) -> Program {
    let value = |source| Value { elements: chunk, data_type: DataType::F32, per_row: true, source };
    Program {
        chunk,
        values: vec![value(Source::Row(RowInput::X)), value(Source::Step)],
        prologue: vec![],
        body: vec![Step {
            offset: 0,
            condition: None,
            result: ValueId(1),
            shape: Shape::new([chunk]),
            reduced: Shape::default(),
            reducer: Reducer::Sum,
            operands: vec![Operand { value: ValueId(0), offset: 0, strides: vec![1] }],
            expression: Expression::Binary(
                Binary::Mul,
                Box::new(Expression::Operand(0)),
                Box::new(Expression::Constant(0.5)),
            ),
        }],
        accumulate: vec![],
        epilogue: vec![],
        outputs: vec![Output { value: ValueId(1), target: Destination::Row }],
        guards: vec![ValueId(1)],
        fallback: RowInput::X,
    }
}

/// A forward class; each chunk width is another one.
pub fn class(chunk: usize) -> KernelClass {
    let (pass, schedule, data_type) = (Pass::Forward, Schedule::Best, DataType::F32);
    KernelClass { pass, schedule, data_type, tf32: false, chunk, programs: vec![program(chunk)], frozen: vec![] }
}

/// The key of `class(chunk)`.
pub fn key(chunk: usize) -> Key {
    Key::new(&class(chunk), Architecture::Cpu, "generator", "compiler").unwrap()
}

/// Bytes that do not become fewer by compression.
pub fn incompressible(length: usize) -> Vec<u8> {
    let blocks = (0..length.div_ceil(32)).flat_map(|block| *blake3::hash(&block.to_le_bytes()).as_bytes());
    blocks.take(length).collect()
}
