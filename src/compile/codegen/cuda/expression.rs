//! Prints scalar expressions.

use crate::compile::{Binary, Expression, Unary};

/// A number in the kernel's arithmetic type. `operands` are the names the operands have.
pub(super) fn number(expression: &Expression, operands: &[String]) -> String {
    let number = |part: &Expression| number(part, operands);
    match expression {
        Expression::Operand(position) => operands[*position].clone(),
        Expression::Constant(value) => constant(*value),
        Expression::Unary(Unary::Neg, a) => format!("(-{})", number(a)),
        Expression::Unary(function, a) => format!("{}({})", function_name(*function), number(a)),
        Expression::Binary(Binary::Max, a, b) => format!("maximum({}, {})", number(a), number(b)),
        Expression::Binary(operation @ (Binary::Add | Binary::Sub | Binary::Mul | Binary::Div), a, b) => {
            format!("({} {} {})", number(a), sign(*operation), number(b))
        }
        Expression::Binary(Binary::Greater | Binary::Equal, ..) => format!("(number)({})", truth(expression, operands)),
        Expression::Select(condition, a, b) => {
            format!("({} ? {} : {})", truth(condition, operands), number(a), number(b))
        }
    }
}

/// A truth value; numbers stand for "not 0".
fn truth(expression: &Expression, operands: &[String]) -> String {
    match expression {
        Expression::Binary(operation @ (Binary::Greater | Binary::Equal), a, b) => {
            format!("{} {} {}", number(a, operands), sign(*operation), number(b, operands))
        }
        other => format!("{} != 0", number(other, operands)),
    }
}

fn function_name(function: Unary) -> &'static str {
    match function {
        Unary::Neg => "-",
        Unary::Abs => "magnitude",
        Unary::Exp => "exponential",
        Unary::Log => "logarithm",
        Unary::Sqrt => "root",
        Unary::Rsqrt => "inverse_root",
        Unary::Tanh => "hyperbolic_tangent",
        Unary::Sigmoid => "sigmoid",
        Unary::Erf => "error_function",
    }
}

fn sign(operation: Binary) -> &'static str {
    match operation {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::Greater => ">",
        Binary::Equal => "==",
        Binary::Max => "max",
    }
}

/// Rust prints the shortest decimal that reads back as the same number, which C++ reads alike.
fn constant(value: f64) -> String {
    if value.is_nan() {
        "not_a_number()".into()
    } else if value.is_infinite() {
        if value > 0.0 { "(-lowest())".into() } else { "lowest()".into() }
    } else {
        format!("(number){value:?}")
    }
}
