//! Constant folding, where it keeps every bit: in f64 and in f32, whatever the program runs in.

use crate::compile::{Binary, Expression, Unary};

/// Computes what only depends on constants, and drops functions that return their argument.
pub(super) fn fold(expression: &mut Expression) {
    expression.parts_mut().for_each(fold);
    if let Some(folded) = folded(expression) {
        *expression = folded;
    }
}

fn folded(expression: &Expression) -> Option<Expression> {
    use Expression::Constant;
    match expression {
        Expression::Unary(Unary::Neg, of) => match &**of {
            Constant(number) => Some(Constant(-number)),
            Expression::Unary(Unary::Neg, inner) => Some((**inner).clone()),
            _ => None,
        },
        Expression::Unary(function @ (Unary::Abs | Unary::Sqrt), of) => match **of {
            Constant(number) if is_single(number) => Some(Constant(function.of(number))),
            _ => None,
        },
        Expression::Binary(function, a, b) => match (function, &**a, &**b) {
            (function, ..) if function.is_truth() => None,
            // The backends round a power each in their own way.
            (Binary::Pow, ..) => None,
            (_, Constant(a), Constant(b)) if is_single(*a) && is_single(*b) => Some(Constant(function.of(*a, *b))),
            (Binary::Mul | Binary::Div, kept, Constant(1.0)) | (Binary::Mul, Constant(1.0), kept) => Some(kept.clone()),
            // -0 + 0 is 0, so only these two return their argument whatever it is.
            (Binary::Sub, kept, Constant(zero)) if is_zero(*zero, false) => Some(kept.clone()),
            (Binary::Add, kept, Constant(zero)) | (Binary::Add, Constant(zero), kept) if is_zero(*zero, true) => {
                Some(kept.clone())
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether a number is the same in f32. For such numbers `+ - * / sqrt` in f64, rounded to f32, is the f32 result,
/// because f64 has more than twice the digits.
fn is_single(number: f64) -> bool {
    f64::from(number as f32) == number
}

fn is_zero(number: f64, negative: bool) -> bool {
    number == 0.0 && number.is_sign_negative() == negative
}
