//! Expressions as flat code: equal parts are computed once, registers are reused as soon as they can be.

use super::{Formula, Function, Input, Operation};
use crate::compile::{Binary, Expression, Unary};
use crate::graph::DataType;

/// Flattens an expression without integers.
pub fn flatten(expression: &Expression) -> Formula {
    let mut numbering = Numbering { operations: Vec::new() };
    let result = numbering.number(expression);
    allocate(numbering.operations, result)
}

/// Operations in order; until registers are allocated, the register of an operation is its position.
struct Numbering {
    operations: Vec<(Function, [Input; 3])>,
}

impl Numbering {
    fn number(&mut self, expression: &Expression) -> Input {
        let zero = Input::Constant(0.0);
        let (function, inputs) = match expression {
            Expression::Operand(position) => return Input::Operand(*position),
            Expression::Constant(number) => return Input::Constant(*number),
            Expression::Unary(unary, a) => (Function::Unary(*unary), [self.number(a), zero, zero]),
            Expression::Binary(binary, a, b) => (Function::Binary(*binary), [self.number(a), self.number(b), zero]),
            Expression::Select(a, b, c) => (Function::Select, [self.number(a), self.number(b), self.number(c)]),
            // Truth values are numbers already.
            Expression::Cast(DataType::F32, a) => return self.number(a),
            // Every number but 0, and so NaN, is true: not (a == 0).
            Expression::Cast(_, a) => {
                let a = self.number(a);
                let is_zero = self.operation(Function::Binary(Binary::Equal), [a, zero, zero]);
                (Function::Unary(Unary::Not), [is_zero, zero, zero])
            }
        };
        self.operation(function, inputs)
    }

    fn operation(&mut self, function: Function, inputs: [Input; 3]) -> Input {
        let known = self.operations.iter().position(|(known, with)| *known == function && same(with, &inputs));
        Input::Register(known.unwrap_or_else(|| {
            self.operations.push((function, inputs));
            self.operations.len() - 1
        }))
    }
}

/// Whether two lists of inputs are the same, constants by their bits.
fn same(a: &[Input; 3], b: &[Input; 3]) -> bool {
    a.iter().zip(b).all(|pair| match pair {
        (Input::Constant(a), Input::Constant(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    })
}

/// Gives each operation a register that holds nothing needed any more, and is none of its own inputs.
fn allocate(numbered: Vec<(Function, [Input; 3])>, result: Input) -> Formula {
    let mut last_use: Vec<usize> = (0..numbered.len()).collect();
    for (position, (_, inputs)) in numbered.iter().enumerate() {
        for input in inputs {
            if let Input::Register(register) = input {
                last_use[*register] = position;
            }
        }
    }
    let mut formula = Formula { operations: Vec::new(), result, registers: 0 };
    let mut holds: Vec<Option<usize>> = Vec::new();
    let mut placed = Vec::new();
    for (position, (function, inputs)) in numbered.into_iter().enumerate() {
        let register = holds.iter().position(Option::is_none).unwrap_or(holds.len());
        holds.resize(holds.len().max(register + 1), None);
        holds[register] = Some(position);
        placed.push(register);
        let renamed = inputs.map(|input| match input {
            Input::Register(number) => Input::Register(placed[number]),
            other => other,
        });
        formula.operations.push(Operation { function, inputs: renamed, register });
        for held in holds.iter_mut() {
            if held.is_some_and(|value| last_use[value] <= position && result != Input::Register(value)) {
                *held = None;
            }
        }
    }
    if let Input::Register(number) = result {
        formula.result = Input::Register(placed[number]);
    }
    formula.registers = holds.len();
    formula
}
