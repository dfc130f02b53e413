//! The functions of programs, in f64.

use crate::compile::{Binary, Unary};

impl Unary {
    /// The function, in f64.
    pub fn of(self, a: f64) -> f64 {
        match self {
            Unary::Neg => -a,
            Unary::Abs => a.abs(),
            Unary::Exp => libm::exp(a),
            Unary::Log => libm::log(a),
            Unary::Sqrt => a.sqrt(),
            Unary::Rsqrt => 1.0 / a.sqrt(),
            Unary::Tanh => libm::tanh(a),
            // Neither branch can overflow to a NaN.
            Unary::Sigmoid if a >= 0.0 => 1.0 / (1.0 + libm::exp(-a)),
            Unary::Sigmoid => libm::exp(a) / (1.0 + libm::exp(a)),
            Unary::Erf => libm::erf(a),
            Unary::Sin => libm::sin(a),
            Unary::Cos => libm::cos(a),
            Unary::Floor => a.floor(),
            Unary::RoundF16 => f64::from(half::f16::from_f32(a as f32)),
            Unary::RoundBF16 => f64::from(half::bf16::from_f32(a as f32)),
            Unary::Not => f64::from(u8::from(a == 0.0)),
        }
    }
}

impl Binary {
    /// The function, in f64; comparisons give 0 or 1.
    pub fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Max => maximum(a, b),
            Binary::Min => -maximum(-a, -b),
            Binary::Pow => libm::pow(a, b),
            Binary::Greater => f64::from(u8::from(a > b)),
            Binary::GreaterEqual => f64::from(u8::from(a >= b)),
            Binary::Equal => f64::from(u8::from(a == b)),
            Binary::And => f64::from(u8::from(a != 0.0 && b != 0.0)),
            Binary::Or => f64::from(u8::from(a != 0.0 || b != 0.0)),
        }
    }
}

/// The larger; NaN if either is NaN.
fn maximum(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}
