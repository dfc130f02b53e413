//! The loops over adjacent elements. Plain slices and plain arithmetic: the compiler makes vector code of them, once for
//! each kind of CPU.

use super::Real;
use crate::compile::{Binary, Reducer, Unary};

/// What an operation reads: as many numbers as it writes, or the same one for all.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a, T> {
    Lanes(&'a [T]),
    Splat(T),
}

#[inline(always)]
pub fn unary<T: Real, const FUSED: bool>(function: Unary, from: &[T], to: &mut [T]) {
    #[inline(always)]
    fn map<T: Real>(from: &[T], to: &mut [T], function: impl Fn(T) -> T) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = function(*from);
        }
    }
    // The match stands outside the loop.
    match function {
        Unary::Neg => map(from, to, |v| T::apply::<FUSED>(Unary::Neg, v)),
        Unary::Abs => map(from, to, |v| T::apply::<FUSED>(Unary::Abs, v)),
        Unary::Exp => map(from, to, |v| T::apply::<FUSED>(Unary::Exp, v)),
        Unary::Log => map(from, to, |v| T::apply::<FUSED>(Unary::Log, v)),
        Unary::Sqrt => map(from, to, |v| T::apply::<FUSED>(Unary::Sqrt, v)),
        Unary::Rsqrt => map(from, to, |v| T::apply::<FUSED>(Unary::Rsqrt, v)),
        Unary::Tanh => map(from, to, |v| T::apply::<FUSED>(Unary::Tanh, v)),
        Unary::Sigmoid => map(from, to, |v| T::apply::<FUSED>(Unary::Sigmoid, v)),
        Unary::Erf => map(from, to, |v| T::apply::<FUSED>(Unary::Erf, v)),
        Unary::Sin => map(from, to, |v| T::apply::<FUSED>(Unary::Sin, v)),
        Unary::Cos => map(from, to, |v| T::apply::<FUSED>(Unary::Cos, v)),
        Unary::Floor => map(from, to, |v| T::apply::<FUSED>(Unary::Floor, v)),
        Unary::RoundF16 => map(from, to, |v| T::apply::<FUSED>(Unary::RoundF16, v)),
        Unary::RoundBF16 => map(from, to, |v| T::apply::<FUSED>(Unary::RoundBF16, v)),
        Unary::Not => map(from, to, |v| T::apply::<FUSED>(Unary::Not, v)),
    }
}

#[inline(always)]
pub fn binary<T: Real>(function: Binary, a: Source<'_, T>, b: Source<'_, T>, to: &mut [T]) {
    #[inline(always)]
    fn map<T: Real>(a: Source<'_, T>, b: Source<'_, T>, to: &mut [T], function: impl Fn(T, T) -> T) {
        match (a, b) {
            (Source::Lanes(a), Source::Lanes(b)) => {
                for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                    *to = function(*a, *b);
                }
            }
            (Source::Lanes(a), Source::Splat(b)) => {
                for (to, a) in to.iter_mut().zip(a) {
                    *to = function(*a, b);
                }
            }
            (Source::Splat(a), Source::Lanes(b)) => {
                for (to, b) in to.iter_mut().zip(b) {
                    *to = function(a, *b);
                }
            }
            (Source::Splat(a), Source::Splat(b)) => to.fill(function(a, b)),
        }
    }
    let truth = |holds: bool| if holds { T::ONE } else { T::ZERO };
    match function {
        Binary::Add => map(a, b, to, |a, b| a + b),
        Binary::Sub => map(a, b, to, |a, b| a - b),
        Binary::Mul => map(a, b, to, |a, b| a * b),
        Binary::Div => map(a, b, to, |a, b| a / b),
        Binary::Max => map(a, b, to, larger),
        Binary::Greater => map(a, b, to, |a, b| truth(a > b)),
        Binary::Equal => map(a, b, to, |a, b| truth(a == b)),
        Binary::Min => map(a, b, to, smaller),
        Binary::Pow => map(a, b, to, T::power),
        Binary::GreaterEqual => map(a, b, to, |a, b| truth(a >= b)),
        Binary::And => map(a, b, to, |a, b| truth((a != T::ZERO) & (b != T::ZERO))),
        Binary::Or => map(a, b, to, |a, b| truth((a != T::ZERO) | (b != T::ZERO))),
    }
}

/// The larger; NaN if either is.
#[inline(always)]
#[allow(clippy::eq_op)]
fn larger<T: Real>(a: T, b: T) -> T {
    // A NaN in `b` fails the comparison and is chosen; one in `a` is caught by not being equal to itself.
    if a > b || a != a { a } else { b }
}

/// The smaller; NaN if either is.
#[inline(always)]
#[allow(clippy::eq_op)]
fn smaller<T: Real>(a: T, b: T) -> T {
    if a < b || a != a { a } else { b }
}

/// `condition[i] ? yes[i] : no[i]`.
#[inline(always)]
pub fn select<T: Real>(condition: &[T], yes: &[T], no: &[T], to: &mut [T]) {
    for (((to, condition), yes), no) in to.iter_mut().zip(condition).zip(yes).zip(no) {
        *to = if *condition != T::ZERO { *yes } else { *no };
    }
}

/// Combines each group of `result.len()` values into the result.
#[inline(always)]
pub fn combine<T: Real>(reducer: Reducer, values: &[T], result: &mut [T]) {
    for group in values.chunks_exact(result.len()) {
        match reducer {
            Reducer::Sum => result.iter_mut().zip(group).for_each(|(result, value)| *result += *value),
            Reducer::Max => result.iter_mut().zip(group).for_each(|(result, value)| *result = larger(*result, *value)),
            Reducer::Min => result.iter_mut().zip(group).for_each(|(result, value)| *result = smaller(*result, *value)),
        }
    }
}

/// The sum of some lanes, in eight partial sums.
#[inline(always)]
pub fn sum<T: Real>(lanes: &[T]) -> T {
    let mut partial = [T::ZERO; 8];
    let groups = lanes.chunks_exact(8);
    let rest = groups.remainder();
    for group in groups {
        for (sum, lane) in partial.iter_mut().zip(group) {
            *sum += *lane;
        }
    }
    for (sum, lane) in partial.iter_mut().zip(rest) {
        *sum += *lane;
    }
    let [a, b, c, d, e, f, g, h] = partial;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Makes the flag of every lane NaN in which some value times `headroom` is not finite; the others stay 0.
#[inline(always)]
pub fn guard<T: Real>(values: &[T], headroom: T, flags: &mut [T]) {
    for group in values.chunks_exact(flags.len()) {
        for (flag, value) in flags.iter_mut().zip(group) {
            *flag += *value * headroom * T::ZERO;
        }
    }
}
