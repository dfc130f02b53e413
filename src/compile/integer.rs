//! Arithmetic of the integer types of a program, exact and modulo 2^32 or 2^64. Integers are held in 64 bits whatever
//! their type.

use super::{Binary, Unary};
use crate::graph::DataType;

/// A number as the integer of a type that holds its bits.
pub fn wrap(data_type: DataType, number: i64) -> i64 {
    if data_type == DataType::I32 { i64::from(number as i32) } else { number }
}

/// A number towards zero as an integer: the nearest there is, 0 for NaN.
pub fn from_real(data_type: DataType, number: f64) -> i64 {
    if data_type == DataType::I32 { i64::from(number as i32) } else { number as i64 }
}

/// A function of an integer. `None` for functions that integers do not have.
pub fn unary(function: Unary, data_type: DataType, a: i64) -> Option<i64> {
    let result = match function {
        Unary::Neg => a.wrapping_neg(),
        Unary::Abs => a.wrapping_abs(),
        _ => return None,
    };
    Some(wrap(data_type, result))
}

/// A function of two integers; truth values are 0 and 1. `None` for functions that integers do not have.
pub fn binary(function: Binary, data_type: DataType, a: i64, b: i64) -> Option<i64> {
    let result = match function {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Max => a.max(b),
        Binary::Min => a.min(b),
        Binary::Greater => i64::from(a > b),
        Binary::GreaterEqual => i64::from(a >= b),
        Binary::Equal => i64::from(a == b),
        Binary::Div | Binary::Pow | Binary::And | Binary::Or => return None,
    };
    Some(wrap(data_type, result))
}
