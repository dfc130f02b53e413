//! Prints scalar expressions as Triton's, which work on whole tiles.

use crate::compile::{Binary, Expression, Unary};
use crate::graph::DataType;

/// An operand as an expression finds it: its name and type.
pub(super) type Name = (String, DataType);

/// An expression, as a tile of numbers or of 64-bit integers. Truth values are the numbers 0 and 1.
pub(super) fn print(expression: &Expression, operands: &[Name], double: bool) -> String {
    Printer { operands, double, as_tiles: false }.value(expression)
}

struct Printer<'a> {
    operands: &'a [Name],
    /// Whether numbers are f64.
    double: bool,
    /// Whether constants are tiles: functions want at least one, where Python would compute with its own numbers.
    as_tiles: bool,
}

impl Printer<'_> {
    fn value(&self, expression: &Expression) -> String {
        let is_function = !matches!(expression, Expression::Operand(_) | Expression::Constant(_));
        if is_function && !self.as_tiles && !reads(expression) {
            return Printer { as_tiles: true, ..*self }.value(expression);
        }
        let own = self.data_type(expression);
        let wrap = |text: String| if own == DataType::I32 { format!("wrapped({text})") } else { text };
        match expression {
            Expression::Operand(position) => self.operands[*position].0.clone(),
            Expression::Constant(value) if self.as_tiles => {
                format!("tl.full([1, 1], {}, number)", constant(*value, self.double))
            }
            Expression::Constant(value) => constant(*value, self.double),
            Expression::Unary(Unary::Neg, a) => wrap(format!("(-{})", self.value(a))),
            Expression::Unary(Unary::Abs, a) => wrap(format!("tl.abs({})", self.value(a))),
            Expression::Unary(Unary::Not, _) => self.truth_as_number(expression),
            Expression::Unary(function, a) => format!("{}({})", unary(*function), self.value(a)),
            Expression::Binary(function, a, b) => {
                let (left, right) = (self.value(a), self.value(b));
                match function {
                    Binary::Add => wrap(format!("({left} + {right})")),
                    Binary::Sub => wrap(format!("({left} - {right})")),
                    Binary::Mul => wrap(format!("({left} * {right})")),
                    Binary::Div => format!("quotient({left}, {right})"),
                    Binary::Pow => format!("power({left}, {right})"),
                    Binary::Max if own.is_integer() => format!("tl.maximum({left}, {right})"),
                    Binary::Min if own.is_integer() => format!("tl.minimum({left}, {right})"),
                    Binary::Max => format!("maximum({left}, {right})"),
                    Binary::Min => format!("minimum({left}, {right})"),
                    Binary::Greater | Binary::GreaterEqual | Binary::Equal | Binary::And | Binary::Or => {
                        self.truth_as_number(expression)
                    }
                }
            }
            Expression::Select(condition, a, b) => {
                format!("tl.where({}, {}, {})", self.truth(condition), self.value(a), self.value(b))
            }
            Expression::Cast(DataType::Bool, _) => self.truth_as_number(expression),
            Expression::Cast(to, a) => match (to, self.data_type(a).is_integer()) {
                (DataType::I32, true) => format!("wrapped({})", self.value(a)),
                (DataType::I32, false) => format!("to_i32({})", self.value(a)),
                (DataType::I64, false) => format!("to_i64({})", self.value(a)),
                (DataType::I64, true) | (_, false) => self.value(a),
                (_, true) => format!("{}.to(number)", self.value(a)),
            },
        }
    }

    fn truth_as_number(&self, expression: &Expression) -> String {
        format!("{}.to(number)", self.truth(expression))
    }

    /// A tile of truth values; numbers stand for "not 0".
    fn truth(&self, expression: &Expression) -> String {
        let compare = |sign: &str, a, b| format!("({} {sign} {})", self.value(a), self.value(b));
        match expression {
            Expression::Binary(Binary::Greater, a, b) => compare(">", a, b),
            Expression::Binary(Binary::GreaterEqual, a, b) => compare(">=", a, b),
            Expression::Binary(Binary::Equal, a, b) => compare("==", a, b),
            Expression::Binary(Binary::And, a, b) => format!("({} & {})", self.truth(a), self.truth(b)),
            Expression::Binary(Binary::Or, a, b) => format!("({} | {})", self.truth(a), self.truth(b)),
            Expression::Unary(Unary::Not, a) => format!("({} == 0)", self.truth(a)),
            Expression::Cast(DataType::Bool, a) => self.truth(a),
            other => format!("({} != 0)", self.value(other)),
        }
    }

    fn data_type(&self, expression: &Expression) -> DataType {
        expression.data_type(&|operand| self.operands[operand].1)
    }
}

/// Whether an operand is part of an expression.
fn reads(expression: &Expression) -> bool {
    matches!(expression, Expression::Operand(_)) || expression.parts().any(reads)
}

fn unary(function: Unary) -> &'static str {
    match function {
        Unary::Neg => "-",
        Unary::Abs => "tl.abs",
        Unary::Exp => "exponential",
        Unary::Log => "logarithm",
        Unary::Sqrt => "root",
        Unary::Rsqrt => "inverse_root",
        Unary::Tanh => "hyperbolic_tangent",
        Unary::Sigmoid => "sigmoid",
        Unary::Erf => "error_function",
        Unary::Sin => "sine",
        Unary::Cos => "cosine",
        Unary::Floor => "rounded_down",
        Unary::RoundF16 => "rounded_to_f16",
        Unary::RoundBF16 => "rounded_to_bf16",
        Unary::Not => "not",
    }
}

/// The shortest decimal that reads back as the same number, as Python reads it.
pub(super) fn constant(value: f64, double: bool) -> String {
    let value = if double { value } else { f64::from(value as f32) };
    if value.is_nan() {
        "float(\"nan\")".into()
    } else if value.is_infinite() {
        format!("float(\"{}inf\")", if value < 0.0 { "-" } else { "" })
    } else {
        format!("{value:?}")
    }
}
