//! Prints scalar expressions.

use crate::compile::{Binary, Expression, Unary};
use crate::graph::DataType;

/// An operand as an expression finds it: its name and type.
pub(super) type Name = (String, DataType);

/// The C++ type of values of a type: integers have 64 bits, all else is in the kernel's arithmetic type.
pub(super) fn type_name(data_type: DataType) -> &'static str {
    if data_type.is_integer() { "integer" } else { "number" }
}

/// An expression, as a value of [`type_name`] of its type.
pub(super) fn print(expression: &Expression, operands: &[Name]) -> String {
    let part = |part: &Expression| print(part, operands);
    let own = data_type(expression, operands);
    let wrap = if own == DataType::I32 { "wrapped" } else { "" };
    match expression {
        Expression::Operand(position) => operands[*position].0.clone(),
        Expression::Constant(value) => constant(*value),
        Expression::Unary(Unary::Neg, a) if own.is_integer() => format!("{wrap}(negated({}))", part(a)),
        Expression::Unary(Unary::Abs, a) if own.is_integer() => format!("{wrap}(magnitude({}))", part(a)),
        Expression::Unary(Unary::Neg, a) => format!("(-{})", part(a)),
        Expression::Unary(Unary::Not, a) => format!("(number)(!({}))", truth(a, operands)),
        Expression::Unary(function, a) => format!("{}({})", unary_name(*function), part(a)),
        Expression::Binary(function, a, b) => match binary_form(*function) {
            Form::Truth => format!("(number)({})", truth(expression, operands)),
            Form::Function(name) => format!("{name}({}, {})", part(a), part(b)),
            // Signed overflow has no meaning in C++; unsigned has the one that is wanted.
            Form::Infix(sign) if own.is_integer() => {
                format!("{wrap}((integer)((natural){} {sign} (natural){}))", part(a), part(b))
            }
            Form::Infix(sign) => format!("({} {sign} {})", part(a), part(b)),
        },
        Expression::Select(condition, a, b) => format!("({} ? {} : {})", truth(condition, operands), part(a), part(b)),
        Expression::Cast(DataType::Bool, _) => format!("(number)({})", truth(expression, operands)),
        Expression::Cast(to, a) => match (to, data_type(a, operands).is_integer()) {
            (DataType::I32, true) => format!("wrapped({})", part(a)),
            (DataType::I64, true) => part(a),
            (DataType::I32, false) => format!("to_i32({})", part(a)),
            (DataType::I64, false) => format!("to_i64({})", part(a)),
            _ => format!("(number)({})", part(a)),
        },
    }
}

/// A truth value; numbers stand for "not 0".
fn truth(expression: &Expression, operands: &[Name]) -> String {
    let compare =
        |sign: &str, a: &Expression, b: &Expression| format!("{} {sign} {}", print(a, operands), print(b, operands));
    match expression {
        Expression::Binary(Binary::Greater, a, b) => compare(">", a, b),
        Expression::Binary(Binary::GreaterEqual, a, b) => compare(">=", a, b),
        Expression::Binary(Binary::Equal, a, b) => compare("==", a, b),
        Expression::Binary(Binary::And, a, b) => format!("({}) && ({})", truth(a, operands), truth(b, operands)),
        Expression::Binary(Binary::Or, a, b) => format!("({}) || ({})", truth(a, operands), truth(b, operands)),
        Expression::Unary(Unary::Not, a) => format!("!({})", truth(a, operands)),
        Expression::Cast(DataType::Bool, a) => truth(a, operands),
        other => format!("{} != 0", print(other, operands)),
    }
}

fn data_type(expression: &Expression, operands: &[Name]) -> DataType {
    expression.data_type(&|operand| operands[operand].1)
}

fn unary_name(function: Unary) -> &'static str {
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
        Unary::Sin => "sine",
        Unary::Cos => "cosine",
        Unary::Floor => "rounded_down",
        Unary::RoundF16 => "rounded_to_f16",
        Unary::RoundBF16 => "rounded_to_bf16",
        Unary::Not => "!",
    }
}

/// How a function of two numbers is written.
enum Form {
    Infix(&'static str),
    Function(&'static str),
    Truth,
}

fn binary_form(function: Binary) -> Form {
    match function {
        Binary::Add => Form::Infix("+"),
        Binary::Sub => Form::Infix("-"),
        Binary::Mul => Form::Infix("*"),
        Binary::Div => Form::Infix("/"),
        Binary::Max => Form::Function("maximum"),
        Binary::Min => Form::Function("minimum"),
        Binary::Pow => Form::Function("power"),
        Binary::Greater | Binary::GreaterEqual | Binary::Equal | Binary::And | Binary::Or => Form::Truth,
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
