//! Writing scalar expressions down as arithmetic, and asking them simple questions.

use super::{Binary, Expression, Unary};
use crate::graph::DataType;
use std::ops;

impl Expression {
    /// A function of one number.
    pub fn unary(function: Unary, of: Expression) -> Self {
        Expression::Unary(function, Box::new(of))
    }

    /// A function of two numbers.
    pub fn binary(function: Binary, a: Expression, b: Expression) -> Self {
        Expression::Binary(function, Box::new(a), Box::new(b))
    }

    /// The second if the first holds, else the third.
    pub fn select(condition: Expression, a: Expression, b: Expression) -> Self {
        Expression::Select(Box::new(condition), Box::new(a), Box::new(b))
    }

    /// The same in another type.
    pub fn cast(to: DataType, of: Expression) -> Self {
        Expression::Cast(to, Box::new(of))
    }

    /// The expressions it is computed from.
    pub fn parts(&self) -> impl Iterator<Item = &Expression> {
        let parts: [Option<&Expression>; 3] = match self {
            Expression::Operand(_) | Expression::Constant(_) => [None, None, None],
            Expression::Unary(_, of) | Expression::Cast(_, of) => [Some(of), None, None],
            Expression::Binary(_, a, b) => [Some(a), Some(b), None],
            Expression::Select(condition, a, b) => [Some(condition), Some(a), Some(b)],
        };
        parts.into_iter().flatten()
    }

    /// The expressions it is computed from, to be replaced.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = &mut Expression> {
        let parts: [Option<&mut Expression>; 3] = match self {
            Expression::Operand(_) | Expression::Constant(_) => [None, None, None],
            Expression::Unary(_, of) | Expression::Cast(_, of) => [Some(of), None, None],
            Expression::Binary(_, a, b) => [Some(a), Some(b), None],
            Expression::Select(condition, a, b) => [Some(condition), Some(a), Some(b)],
        };
        parts.into_iter().flatten()
    }

    /// How many functions an evaluation applies; operands and constants are free.
    pub fn functions(&self) -> usize {
        let own = usize::from(!matches!(self, Expression::Operand(_) | Expression::Constant(_)));
        own + self.parts().map(Expression::functions).sum::<usize>()
    }

    /// How often an evaluation reads an operand.
    pub fn reads(&self, operand: usize) -> usize {
        match self {
            Expression::Operand(position) => usize::from(*position == operand),
            _ => self.parts().map(|part| part.reads(operand)).sum(),
        }
    }

    /// The type of what it gives, for operands of these types: `F32`, `Bool`, `I32` or `I64`.
    pub fn data_type(&self, operand: &impl Fn(usize) -> DataType) -> DataType {
        match self {
            Expression::Operand(position) => operand(*position),
            Expression::Constant(_) => DataType::F32,
            Expression::Unary(Unary::Not, _) => DataType::Bool,
            Expression::Unary(_, of) => of.data_type(operand),
            Expression::Binary(function, a, _) => {
                if function.is_truth() {
                    DataType::Bool
                } else {
                    a.data_type(operand)
                }
            }
            Expression::Select(_, a, _) => a.data_type(operand),
            Expression::Cast(to, _) => *to,
        }
    }

    /// Puts another expression in the place of each operand.
    pub fn replace_operands(&mut self, with: &impl Fn(usize) -> Expression) {
        match self {
            Expression::Operand(position) => *self = with(*position),
            _ => self.parts_mut().for_each(|part| part.replace_operands(with)),
        }
    }
}

impl Binary {
    /// Whether what it gives is a truth value.
    pub fn is_truth(self) -> bool {
        use Binary::{And, Equal, Greater, GreaterEqual, Or};
        matches!(self, Greater | GreaterEqual | Equal | And | Or)
    }
}

impl ops::Add for Expression {
    type Output = Expression;
    fn add(self, other: Expression) -> Expression {
        Expression::binary(Binary::Add, self, other)
    }
}

impl ops::Sub for Expression {
    type Output = Expression;
    fn sub(self, other: Expression) -> Expression {
        Expression::binary(Binary::Sub, self, other)
    }
}

impl ops::Mul for Expression {
    type Output = Expression;
    fn mul(self, other: Expression) -> Expression {
        Expression::binary(Binary::Mul, self, other)
    }
}

impl ops::Div for Expression {
    type Output = Expression;
    fn div(self, other: Expression) -> Expression {
        Expression::binary(Binary::Div, self, other)
    }
}
