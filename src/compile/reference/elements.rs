//! Some elements of a value, and what functions make of all of them at once: an expression is walked once for many
//! elements, which is what lets the reference prove wide kernels.

use crate::compile::{Binary, Reducer, Unary, integer};
use crate::graph::DataType;
use std::borrow::Cow;

/// Stands for an integer that nobody computes; numbers have NaN for that.
const NO_INTEGER: i64 = i64::MIN + 0x5a5a;

/// Numbers of the compute type (and truth values, which are 0 and 1), or integers.
#[derive(Clone, Debug)]
pub(super) enum Elements<'a> {
    Real(Cow<'a, [f64]>),
    Integer(Cow<'a, [i64]>),
}

impl Default for Elements<'_> {
    fn default() -> Self {
        Elements::Real(Cow::Borrowed(&[]))
    }
}

impl<'a> Elements<'a> {
    /// One number, so many times.
    pub fn repeated(number: f64, count: usize) -> Self {
        Elements::Real(vec![number; count].into())
    }

    /// Zeros of a type.
    pub fn zeros(data_type: DataType, count: usize) -> Self {
        if data_type.is_integer() { Elements::Integer(vec![0; count].into()) } else { Elements::repeated(0.0, count) }
    }

    /// As numbers.
    pub fn numbers(&self) -> Cow<'_, [f64]> {
        match self {
            Elements::Real(numbers) => Cow::Borrowed(numbers),
            Elements::Integer(numbers) => numbers.iter().map(|number| *number as f64).collect(),
        }
    }

    /// Into numbers.
    fn real(self) -> Cow<'a, [f64]> {
        match self {
            Elements::Real(numbers) => numbers,
            Elements::Integer(_) => self.numbers().into_owned().into(),
        }
    }

    /// So many elements from the first one on, one in `stride`.
    pub fn part(&self, first: usize, stride: usize, count: usize) -> Elements<'_> {
        match self {
            Elements::Real(numbers) => Elements::Real(part(numbers, first, stride, count)),
            Elements::Integer(numbers) => Elements::Integer(part(numbers, first, stride, count)),
        }
    }

    /// Puts others of its type in the place of those from the first one on.
    pub fn set(&mut self, first: usize, new: Elements<'_>) {
        match (self, new) {
            (Elements::Integer(own), Elements::Integer(new)) => {
                own.to_mut()[first..][..new.len()].copy_from_slice(&new);
            }
            (Elements::Real(own), Elements::Real(new)) => own.to_mut()[first..][..new.len()].copy_from_slice(&new),
            _ => {}
        }
    }

    /// Adds numbers to those from the first one on.
    pub fn add(&mut self, first: usize, new: Elements<'_>) {
        if let Elements::Real(own) = self {
            own.to_mut()[first..].iter_mut().zip(&*new.numbers()).for_each(|(own, new)| *own += new);
        }
    }

    /// Leaves so many from the first one on unknown.
    pub fn forget(&mut self, first: usize, count: usize) {
        match self {
            Elements::Real(own) => own.to_mut()[first..][..count].fill(f64::NAN),
            Elements::Integer(own) => own.to_mut()[first..][..count].fill(NO_INTEGER),
        }
    }

    /// A function of each, all being of this type.
    pub fn map(self, function: Unary, data_type: DataType) -> Self {
        match self {
            // The two that most of a rough program is made of, as loops of their own.
            Elements::Real(numbers) if function == Unary::RoundBF16 => {
                each(numbers, |number| Unary::RoundBF16.of(number))
            }
            Elements::Real(numbers) => each(numbers, |number| function.of(number)),
            Elements::Integer(numbers) => {
                let of = |number: &i64| integer::unary(function, data_type, *number).unwrap_or(NO_INTEGER);
                Elements::Integer(numbers.iter().map(of).collect())
            }
        }
    }

    /// A function of each and its partner, all being of this type.
    pub fn zip(self, function: Binary, data_type: DataType, other: Elements<'_>) -> Self {
        match (self, other) {
            (Elements::Integer(a), Elements::Integer(b)) => {
                let result = a.iter().zip(&*b).map(|(a, b)| integers(function, data_type, *a, *b)).collect();
                if function.is_truth() {
                    Elements::Real(Elements::Integer(result).real())
                } else {
                    Elements::Integer(result)
                }
            }
            (a, b) => {
                let (a, b) = (a.real(), b.real());
                match function {
                    Binary::Add => pairs(a, &b, |a, b| a + b),
                    Binary::Mul => pairs(a, &b, |a, b| a * b),
                    _ => pairs(a, &b, |a, b| function.of(a, b)),
                }
            }
        }
    }

    /// Those of `a` where this one holds, else those of `b`.
    pub fn choose(self, a: Elements<'a>, b: Elements<'a>) -> Self {
        let condition = self.real();
        match (a, b) {
            (Elements::Integer(a), Elements::Integer(b)) => Elements::Integer(choice(&condition, a, &b)),
            (a, b) => Elements::Real(choice(&condition, a.real(), &b.real())),
        }
    }

    /// The same in another type.
    pub fn cast(self, to: DataType) -> Self {
        match self {
            Elements::Real(numbers) if to.is_integer() => {
                Elements::Integer(numbers.iter().map(|number| integer::from_real(to, *number)).collect())
            }
            Elements::Integer(numbers) if to.is_integer() => {
                Elements::Integer(numbers.iter().map(|number| integer::wrap(to, *number)).collect())
            }
            of if to == DataType::Bool => each(of.real(), |number| f64::from(u8::from(number != 0.0))),
            of => Elements::Real(of.real()),
        }
    }

    /// All of them combined into one, each after the other, behind what earlier ones were combined into.
    pub fn combine(self, reducer: Reducer, data_type: DataType, earlier: Option<Elements<'_>>) -> Self {
        let function = match reducer {
            Reducer::Sum => Binary::Add,
            Reducer::Max => Binary::Max,
            Reducer::Min => Binary::Min,
        };
        match self {
            Elements::Real(numbers) => {
                let earlier = earlier.map_or_else(Vec::new, |earlier| earlier.numbers().into_owned());
                let all = earlier.into_iter().chain(numbers.iter().copied());
                let one = match function {
                    Binary::Add => all.reduce(|a, b| a + b),
                    _ => all.reduce(|a, b| function.of(a, b)),
                };
                Elements::Real(one.into_iter().collect())
            }
            Elements::Integer(numbers) => {
                let earlier =
                    if let Some(Elements::Integer(earlier)) = earlier { earlier.to_vec() } else { Vec::new() };
                let all = earlier.into_iter().chain(numbers.iter().copied());
                let one = all.reduce(|a, b| integers(function, data_type, a, b));
                Elements::Integer(one.into_iter().collect())
            }
        }
    }
}

fn integers(function: Binary, data_type: DataType, a: i64, b: i64) -> i64 {
    integer::binary(function, data_type, a, b).unwrap_or(NO_INTEGER)
}

fn part<T: Copy>(all: &[T], first: usize, stride: usize, count: usize) -> Cow<'_, [T]> {
    match stride {
        0 => vec![all[first]; count].into(),
        1 => Cow::Borrowed(&all[first..][..count]),
        _ => all[first..].iter().step_by(stride).take(count).copied().collect(),
    }
}

fn each<'a>(numbers: Cow<'a, [f64]>, function: impl Fn(f64) -> f64) -> Elements<'a> {
    let mut numbers = numbers.into_owned();
    numbers.iter_mut().for_each(|number| *number = function(*number));
    Elements::Real(numbers.into())
}

fn pairs<'a>(a: Cow<'a, [f64]>, b: &[f64], function: impl Fn(f64, f64) -> f64) -> Elements<'a> {
    let mut result = a.into_owned();
    result.iter_mut().zip(b).for_each(|(a, b)| *a = function(*a, *b));
    Elements::Real(result.into())
}

fn choice<'a, T: Copy>(condition: &[f64], a: Cow<'a, [T]>, b: &[T]) -> Cow<'a, [T]> {
    let mut result = a.into_owned();
    let chosen = result.iter_mut().zip(b).zip(condition);
    chosen.filter(|(_, condition)| **condition == 0.0).for_each(|((a, b), _)| *a = *b);
    result.into()
}
