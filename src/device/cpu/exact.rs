//! Runs instructions in which integers have a part, one number at a time: they are rare, and there are no vectors to gain.

use super::machine::{Machine, Position};
use super::vector::{Real, Source};
use crate::compile::codegen::cpu::{Access, Exact, Instruction, MOST_OPERANDS, Space};
use crate::compile::{Binary, Expression, Reducer, integer};
use crate::graph::DataType;

/// A number of the compute type (truth values are 0 and 1), or an integer.
#[derive(Clone, Copy)]
enum Number<T> {
    Real(T),
    Integer(i64),
}

impl<T: Real> Number<T> {
    fn truth(holds: bool) -> Self {
        Number::Real(if holds { T::ONE } else { T::ZERO })
    }

    fn holds(self) -> bool {
        match self {
            Number::Real(number) => number != T::ZERO,
            Number::Integer(number) => number != 0,
        }
    }

    fn real(self) -> T {
        match self {
            Number::Real(number) => number,
            Number::Integer(number) => T::from_i64(number),
        }
    }

    fn cast(self, to: DataType) -> Self {
        match (self, to) {
            (number, DataType::Bool) => Number::truth(number.holds()),
            (Number::Real(number), to) if to.is_integer() => Number::Integer(integer::from_real(to, number.to_f64())),
            (Number::Integer(number), to) if to.is_integer() => Number::Integer(integer::wrap(to, number)),
            (number, _) => Number::Real(number.real()),
        }
    }
}

impl<T: Real> Machine<'_, T> {
    /// Evaluates an expression at every index of the loops, for so many lanes.
    ///
    /// # Safety
    /// As [`Machine::run`], for a section that is not accumulated.
    pub(super) unsafe fn exact(&self, instruction: &Instruction, exact: &Exact, section_lanes: usize) {
        // Uniform sections have one lane and write the uniform space.
        let (space, lanes) = if section_lanes == 1 { (Space::Uniform, 1) } else { (Space::Row, section_lanes) };
        let mut position = Position::<MOST_OPERANDS>::first(instruction);
        loop {
            let begins = position.begins(instruction);
            for lane in 0..lanes {
                // SAFETY: `check` found every element that the loops reach within its space, for as many elements as
                // its type takes.
                unsafe {
                    let operand = |operand: usize| {
                        let Access { space, .. } = instruction.operands[operand];
                        let element = position.operands[operand];
                        self.number(space, element, lane, lanes, exact.operands[operand])
                    };
                    let mut number = self.value(&exact.expression, &operand, &|operand| exact.operands[operand]);
                    if let (Some(reducer), false) = (exact.reducer, begins) {
                        let before = self.number(space, position.result, lane, lanes, exact.result);
                        let combine = match reducer {
                            Reducer::Sum => Binary::Add,
                            Reducer::Max => Binary::Max,
                            Reducer::Min => Binary::Min,
                        };
                        number = self.binary(combine, exact.result, before, number);
                    }
                    self.store(space, position.result, lane, lanes, exact.result, number);
                }
            }
            if !position.advance(&instruction.outer) {
                return;
            }
        }
    }

    /// # Safety
    /// The element is within its space.
    unsafe fn number(&self, space: Space, element: usize, lane: usize, lanes: usize, of: DataType) -> Number<T> {
        // SAFETY: the caller's promise; an integer lies in the elements that it takes, at any alignment.
        unsafe {
            let (first, lane) = match space {
                Space::Row => (self.row.add(element * lanes).cast_const(), lane),
                space => (self.uniform_element(space, element), 0),
            };
            if of.is_integer() {
                Number::Integer(first.cast::<i64>().add(lane).read_unaligned())
            } else {
                Number::Real(*first.add(lane))
            }
        }
    }

    /// # Safety
    /// The element is within its space, which is one that is written.
    unsafe fn store(&self, space: Space, element: usize, lane: usize, lanes: usize, of: DataType, number: Number<T>) {
        // SAFETY: the caller's promise.
        unsafe {
            let first = if space == Space::Row { self.row.add(element * lanes) } else { self.uniform.add(element) };
            match number {
                Number::Integer(number) if of.is_integer() => first.cast::<i64>().add(lane).write_unaligned(number),
                number => *first.add(lane) = number.real(),
            }
        }
    }

    fn value(
        &self,
        expression: &Expression,
        operand: &impl Fn(usize) -> Number<T>,
        data_type: &impl Fn(usize) -> DataType,
    ) -> Number<T> {
        let value = |expression: &Expression| self.value(expression, operand, data_type);
        match expression {
            Expression::Operand(position) => operand(*position),
            Expression::Constant(number) => Number::Real(T::from_f64(*number)),
            Expression::Unary(function, of) => match value(of) {
                Number::Real(number) => Number::Real(T::apply::<false>(*function, number)),
                Number::Integer(number) => match integer::unary(*function, of.data_type(data_type), number) {
                    Some(number) => Number::Integer(number),
                    None => Number::Real(T::from_f64(f64::NAN)),
                },
            },
            Expression::Binary(function, a, b) => self.binary(*function, a.data_type(data_type), value(a), value(b)),
            Expression::Select(condition, a, b) => value(if value(condition).holds() { a } else { b }),
            Expression::Cast(to, of) => value(of).cast(*to),
        }
    }

    fn binary(&self, function: Binary, data_type: DataType, a: Number<T>, b: Number<T>) -> Number<T> {
        match (a, b) {
            (Number::Integer(a), Number::Integer(b)) => match integer::binary(function, data_type, a, b) {
                Some(result) if function.is_truth() => Number::truth(result != 0),
                Some(result) => Number::Integer(result),
                None => Number::Real(T::from_f64(f64::NAN)),
            },
            (a, b) => {
                let mut result = [T::ZERO];
                // SAFETY: the vectors were detected on this CPU.
                unsafe {
                    (self.vectors.binary)(function, Source::Splat(a.real()), Source::Splat(b.real()), &mut result)
                };
                Number::Real(result[0])
            }
        }
    }
}
