//! Programs run slowly and obviously, in f64: what every other backend is compared with.
//!
//! No threads, no layers, no seeds: one program, one seed's parameters, some rows.

use super::random::{self, Draw};
use super::{Binary, Destination, Expression, Operand, Program, Reducer, Source, Step, Unary, Value, integer};
use crate::graph::{DataType, RowInput, Scalar};
use crate::{Result, fail};

/// What a program reads. Inputs that it does not read may be empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// How many rows there are.
    pub rows: usize,
    /// `[rows, chunk]`
    pub x: &'a [f64],
    /// `[rows, chunk]`
    pub output_gradient: &'a [f64],
    /// `[rows, chunk]`
    pub target: &'a [f64],
    /// One slot.
    pub parameters: &'a [f64],
    /// The blend weight, in [0, 1].
    pub alpha: f64,
    /// What a squared error is multiplied by.
    pub loss_scale: f64,
    /// The key of the random numbers; `None` where dropout is not active.
    pub random: Option<u64>,
    /// The number of the seed, which random numbers depend on.
    pub seed: u32,
    /// The number in its launch of the first row, likewise.
    pub first_row: u64,
}

/// What a program writes. What it does not write is zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// `[rows, chunk]`
    pub rows: Vec<f64>,
    /// One slot.
    pub parameter_gradient: Vec<f64>,
    /// The gradient of alpha.
    pub alpha_gradient: f64,
    /// The reconstruction loss.
    pub loss: f64,
    /// Rows that fell back.
    pub fallback_rows: usize,
}

/// A number of the compute type (and of the truth values 0 and 1), or an integer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Real(f64),
    Integer(i64),
}

/// Runs a program over all rows. What a step leaves undone because its condition does not hold is NaN.
///
/// # Errors
///
/// `ShapeMismatch` if an input that the program reads is too short; `CompileFailed` if the program contradicts
/// itself.
pub fn run(program: &Program, inputs: &Inputs<'_>) -> Result<Outputs> {
    program.check()?;
    let mut values: Vec<_> = program.values.iter().map(|value| vec![Number::Real(0.0); value.elements]).collect();
    for (value, elements) in program.values.iter().zip(&mut values) {
        match value.source {
            Source::Parameter(offset) => read(elements, inputs.parameters, offset, "the slot")?,
            Source::Scalar(Scalar::Alpha) => elements.fill(Number::Real(inputs.alpha)),
            Source::Scalar(Scalar::LossScale) => elements.fill(Number::Real(inputs.loss_scale)),
            Source::Scalar(Scalar::Dropout) => elements.fill(Number::truth(inputs.random.is_some())),
            Source::Index => {
                elements.iter_mut().enumerate().for_each(|(index, element)| *element = Number::Real(index as f64))
            }
            Source::Row(_) | Source::Random(_) | Source::Step => {}
        }
    }
    let mut outputs = Outputs {
        rows: vec![0.0; inputs.rows * program.chunk],
        parameter_gradient: vec![0.0; inputs.parameters.len()],
        alpha_gradient: 0.0,
        loss: 0.0,
        fallback_rows: 0,
    };
    program.prologue.iter().for_each(|step| execute(program, step, &mut values));
    for row in 0..inputs.rows {
        let first = row * program.chunk;
        for (value, elements) in program.values.iter().zip(&mut values) {
            match value {
                Value { source: Source::Row(input), .. } => read(elements, inputs.row(*input), first, "a row tensor")?,
                Value { source: Source::Random(stream), .. } => {
                    for (element, number) in elements.iter_mut().enumerate() {
                        let (row, element) = (inputs.first_row + row as u64, element as u32);
                        let draw = Draw { row, element, seed: inputs.seed, stream: *stream };
                        *number = Number::Real(inputs.random.map_or(0.0, |key| random::number(key, draw).into()));
                    }
                }
                _ => {}
            }
        }
        program.body.iter().for_each(|step| execute(program, step, &mut values));
        let chunk = &mut outputs.rows[first..first + program.chunk];
        if program.guards.iter().any(|guard| values[guard.index()].iter().any(|element| !element.real().is_finite())) {
            outputs.fallback_rows += 1;
            if program.outputs.iter().any(|output| output.target == Destination::Row) {
                let mut fallback = vec![Number::Real(0.0); chunk.len()];
                read(&mut fallback, inputs.row(program.fallback), first, "the fallback")?;
                chunk.iter_mut().zip(fallback).for_each(|(element, number)| *element = number.real());
            }
            continue;
        }
        for output in program.outputs.iter().filter(|output| output.target == Destination::Row) {
            let row = values[output.value.index()].iter().map(|number| number.real());
            chunk.iter_mut().zip(row).for_each(|(element, number)| *element = number);
        }
        for step in &program.accumulate {
            let mut sum = std::mem::take(&mut values[step.result.index()]);
            let written = step.offset..step.offset + step.shape.elements();
            let mut added = vec![Number::Real(0.0); written.len()];
            compute(program, step, &values, &mut added);
            for (sum, added) in sum[written].iter_mut().zip(added) {
                *sum = Number::Real(sum.real() + added.real());
            }
            values[step.result.index()] = sum;
        }
    }
    program.epilogue.iter().for_each(|step| execute(program, step, &mut values));
    for output in &program.outputs {
        let elements = &values[output.value.index()];
        match output.target {
            Destination::Row => {}
            Destination::ParameterGradient(offset) => {
                let gradient = outputs.parameter_gradient[offset..].iter_mut();
                gradient.zip(elements).for_each(|(gradient, element)| *gradient += element.real());
            }
            Destination::AlphaGradient => outputs.alpha_gradient += elements[0].real(),
            Destination::Loss => outputs.loss += elements[0].real(),
        }
    }
    Ok(outputs)
}

impl<'a> Inputs<'a> {
    fn row(&self, input: RowInput) -> &'a [f64] {
        match input {
            RowInput::X => self.x,
            RowInput::OutputGradient => self.output_gradient,
            RowInput::Target => self.target,
        }
    }
}

impl Number {
    fn truth(holds: bool) -> Number {
        Number::Real(f64::from(u8::from(holds)))
    }

    fn real(self) -> f64 {
        match self {
            Number::Real(number) => number,
            Number::Integer(number) => number as f64,
        }
    }

    fn holds(self) -> bool {
        self.real() != 0.0
    }

    fn cast(self, to: DataType) -> Number {
        match (self, to) {
            (number, DataType::Bool) => Number::truth(number.holds()),
            (Number::Real(number), to) if to.is_integer() => Number::Integer(integer::from_real(to, number)),
            (Number::Integer(number), to) if to.is_integer() => Number::Integer(integer::wrap(to, number)),
            (number, _) => Number::Real(number.real()),
        }
    }
}

fn read(to: &mut [Number], from: &[f64], first: usize, name: &str) -> Result<()> {
    let end = first + to.len();
    match from.get(first..end) {
        Some(from) => to.iter_mut().zip(from).for_each(|(to, from)| *to = Number::Real(*from)),
        None => fail!(ShapeMismatch, "{name} has {} elements; element {} is read", from.len(), end - 1),
    }
    Ok(())
}

fn execute(program: &Program, step: &Step, values: &mut [Vec<Number>]) {
    let mut result = std::mem::take(&mut values[step.result.index()]);
    let written = &mut result[step.offset..step.offset + step.shape.elements()];
    if step.condition.is_none_or(|condition| values[condition.value.index()][0].holds() == condition.holds) {
        compute(program, step, values, written);
    } else {
        written.fill(Number::Real(f64::NAN));
    }
    values[step.result.index()] = result;
}

/// The step's expression at every index of its shape, combined over every index of the reduced shape.
fn compute(program: &Program, step: &Step, values: &[Vec<Number>], result: &mut [Number]) {
    let data_type = |operand: usize| program.values[step.operands[operand].value.index()].data_type;
    let own = step.expression.data_type(&data_type);
    if let Some(factors) = factors(step).filter(|pair| pair.iter().all(|&factor| !data_type(factor).is_integer())) {
        return contract(step, factors, values, result);
    }
    let rank = step.shape.rank();
    let mut index = vec![0; rank + step.reduced.rank()];
    for element in result {
        index[rank..].fill(0);
        let mut combined: Option<Number> = None;
        loop {
            let read = |operand: &Operand| values[operand.value.index()][operand.position(&index)];
            let new = evaluate(&step.expression, &|operand| read(&step.operands[operand]), &data_type);
            let reducer = match step.reducer {
                Reducer::Sum => Binary::Add,
                Reducer::Max => Binary::Max,
                Reducer::Min => Binary::Min,
            };
            combined = Some(combined.map_or(new, |combined| apply(reducer, own, combined, new)));
            if !advance(&mut index[rank..], &step.reduced.0) {
                break;
            }
        }
        *element = combined.unwrap_or(Number::Real(0.0));
        advance(&mut index[..rank], &step.shape.0);
    }
}

/// The two operands of which a step sums the products, if that is all it does.
fn factors(step: &Step) -> Option<[usize; 2]> {
    match &step.expression {
        Expression::Binary(Binary::Mul, a, b) if step.reducer == Reducer::Sum && step.reduced.rank() > 0 => {
            match (&**a, &**b) {
                (Expression::Operand(a), Expression::Operand(b)) => Some([*a, *b]),
                _ => None,
            }
        }
        _ => None,
    }
}

/// [`compute`] for a sum of products, which is most of the work there is: the same sums in the same order.
fn contract(step: &Step, factors: [usize; 2], values: &[Vec<Number>], result: &mut [Number]) {
    let operands = factors.map(|factor| &step.operands[factor]);
    let [a, b] = operands.map(|operand| &values[operand.value.index()]);
    let rank = step.shape.rank();
    let last = rank + step.reduced.rank() - 1;
    let count = step.reduced.0[last - rank];
    let [a_stride, b_stride] = operands.map(|operand| operand.strides[last]);
    let mut index = vec![0; last + 1];
    for element in result {
        // What leaves the first product as it is, its sign included.
        let mut sum = -0.0;
        loop {
            let [a_first, b_first] = operands.map(|operand| operand.position(&index));
            for step in 0..count {
                sum += a[a_first + step * a_stride].real() * b[b_first + step * b_stride].real();
            }
            if !advance(&mut index[rank..last], &step.reduced.0[..last - rank]) {
                break;
            }
        }
        *element = Number::Real(sum);
        advance(&mut index[..rank], &step.shape.0);
    }
}

impl Operand {
    /// The element that is read at an index.
    fn position(&self, index: &[usize]) -> usize {
        self.offset + index.iter().zip(&self.strides).map(|(index, stride)| index * stride).sum::<usize>()
    }
}

/// The next index, the last axis fastest; false after the last one, then all are 0 again.
fn advance(index: &mut [usize], sizes: &[usize]) -> bool {
    for (index, &size) in index.iter_mut().zip(sizes).rev() {
        *index += 1;
        if *index < size {
            return true;
        }
        *index = 0;
    }
    false
}

/// The value of an expression; truth values are 0 and 1.
fn evaluate(
    expression: &Expression,
    operand: &impl Fn(usize) -> Number,
    data_type: &impl Fn(usize) -> DataType,
) -> Number {
    let value = |expression: &Expression| evaluate(expression, operand, data_type);
    match expression {
        Expression::Operand(position) => operand(*position),
        Expression::Constant(number) => Number::Real(*number),
        Expression::Unary(function, of) => match value(of) {
            Number::Real(number) => Number::Real(function.of(number)),
            Number::Integer(number) => {
                let result = integer::unary(*function, of.data_type(data_type), number);
                result.map_or(Number::Real(f64::NAN), Number::Integer)
            }
        },
        Expression::Binary(function, a, b) => apply(*function, a.data_type(data_type), value(a), value(b)),
        Expression::Select(condition, a, b) => value(if value(condition).holds() { a } else { b }),
        Expression::Cast(to, of) => value(of).cast(*to),
    }
}

/// A function of two numbers of a type.
fn apply(function: Binary, data_type: DataType, a: Number, b: Number) -> Number {
    match (a, b) {
        (Number::Integer(a), Number::Integer(b)) => match integer::binary(function, data_type, a, b) {
            Some(result) if function.is_truth() => Number::truth(result != 0),
            Some(result) => Number::Integer(result),
            None => Number::Real(f64::NAN),
        },
        (a, b) => Number::Real(function.of(a.real(), b.real())),
    }
}

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
