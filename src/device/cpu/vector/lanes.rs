//! The loops over adjacent elements. Plain slices and plain arithmetic: the compiler makes vector code of them, once for
//! each kind of CPU.

use super::Real;
use crate::compile::{Binary, Reducer, Unary};

/// What an operation reads: as many numbers as it writes, one for each group of lanes, or the same one for all.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a, T> {
    Lanes(&'a [T]),
    /// One for each group; the groups are equally long.
    Each(&'a [T]),
    Splat(T),
}

impl<T: Copy> Source<'_, T> {
    /// How many groups it tells apart, if it does.
    #[inline(always)]
    fn groups(&self) -> Option<usize> {
        match self {
            Source::Each(numbers) => Some(numbers.len()),
            Source::Lanes(_) | Source::Splat(_) => None,
        }
    }

    /// What it is for one group of so many lanes.
    #[inline(always)]
    fn group(&self, group: usize, lanes: usize) -> Self {
        match *self {
            Source::Lanes(numbers) => Source::Lanes(&numbers[group * lanes..][..lanes]),
            Source::Each(numbers) => Source::Splat(numbers[group]),
            Source::Splat(number) => Source::Splat(number),
        }
    }
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
        let Some(groups) = a.groups().or(b.groups()) else { return map_alike(a, b, to, &function) };
        let lanes = to.len() / groups;
        for (group, to) in to.chunks_exact_mut(lanes).enumerate() {
            map_alike(a.group(group, lanes), b.group(group, lanes), to, &function);
        }
    }
    #[inline(always)]
    fn map_alike<T: Real>(a: Source<'_, T>, b: Source<'_, T>, to: &mut [T], function: &impl Fn(T, T) -> T) {
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
            // A group has none.
            (Source::Each(_), _) | (_, Source::Each(_)) => {}
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

/// The sum of the first `count` of each group of lanes, added to a result each.
#[inline(always)]
pub fn add_sums<T: Real>(values: &[T], lanes: usize, count: usize, results: &mut [T]) {
    for (values, result) in values.chunks_exact(lanes).zip(results) {
        *result += sum(&values[..count]);
    }
}

/// Makes the flag of every lane NaN in which some value times `headroom` is not finite; the others stay 0. There are a
/// multiple of `WIDTH` lanes.
#[inline(always)]
pub fn guard<T: Real, const WIDTH: usize>(values: &[T], headroom: T, flags: &mut [T]) {
    let lanes = flags.len();
    for (block, flags) in flags.chunks_exact_mut(WIDTH).enumerate() {
        // Several at a time, because each addition waits for the one before.
        let mut partial = [[T::ZERO; WIDTH]; 4];
        for group in values.chunks(4 * lanes) {
            for (values, partial) in group.chunks_exact(lanes).zip(&mut partial) {
                let values = &values[block * WIDTH..][..WIDTH];
                for (flag, value) in partial.iter_mut().zip(values) {
                    *flag += *value * headroom * T::ZERO;
                }
            }
        }
        for partial in partial {
            flags.iter_mut().zip(partial).for_each(|(flag, partial)| *flag += partial);
        }
    }
}
