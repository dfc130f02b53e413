//! Programs run slowly and obviously, in f64: what every other backend is compared with.
//!
//! No threads, no layers, no seeds: one program, one seed's parameters, some rows.

use super::{Binary, Destination, Expression, Operand, Program, Reducer, Source, Step, Unary, Value};
use crate::graph::{RowInput, Scalar};
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

/// Runs a program over all rows.
///
/// # Errors
///
/// `ShapeMismatch` if an input that the program reads is too short.
pub fn run(program: &Program, inputs: &Inputs<'_>) -> Result<Outputs> {
    let mut values: Vec<_> = program.values.iter().map(|value| vec![0.0; value.elements]).collect();
    for (value, elements) in program.values.iter().zip(&mut values) {
        match value.source {
            Source::Parameter(offset) => read(elements, inputs.parameters, offset, "the slot")?,
            Source::Scalar(Scalar::Alpha) => elements.fill(inputs.alpha),
            Source::Scalar(Scalar::LossScale) => elements.fill(inputs.loss_scale),
            Source::Row(_) | Source::Step => {}
        }
    }
    let mut outputs = Outputs {
        rows: vec![0.0; inputs.rows * program.chunk],
        parameter_gradient: vec![0.0; inputs.parameters.len()],
        alpha_gradient: 0.0,
        loss: 0.0,
        fallback_rows: 0,
    };
    program.prologue.iter().for_each(|step| execute(step, &mut values));
    for row in 0..inputs.rows {
        let first = row * program.chunk;
        for (value, elements) in program.values.iter().zip(&mut values) {
            if let Value { source: Source::Row(input), .. } = value {
                read(elements, inputs.row(*input), first, "a row tensor")?;
            }
        }
        program.body.iter().for_each(|step| execute(step, &mut values));
        let chunk = &mut outputs.rows[first..first + program.chunk];
        if program.guards.iter().any(|guard| values[guard.index()].iter().any(|element| !element.is_finite())) {
            outputs.fallback_rows += 1;
            if program.outputs.iter().any(|output| output.target == Destination::Row) {
                read(chunk, inputs.row(program.fallback), first, "the fallback")?;
            }
            continue;
        }
        for output in program.outputs.iter().filter(|output| output.target == Destination::Row) {
            chunk.copy_from_slice(&values[output.value.index()]);
        }
        for step in &program.accumulate {
            let sum = std::mem::take(&mut values[step.result.index()]);
            let mut added = vec![0.0; sum.len()];
            compute(step, &values, &mut added);
            values[step.result.index()] = sum.iter().zip(added).map(|(sum, added)| sum + added).collect();
        }
    }
    program.epilogue.iter().for_each(|step| execute(step, &mut values));
    for output in &program.outputs {
        let elements = &values[output.value.index()];
        match output.target {
            Destination::Row => {}
            Destination::ParameterGradient(offset) => {
                let gradient = outputs.parameter_gradient[offset..].iter_mut();
                gradient.zip(elements).for_each(|(gradient, element)| *gradient += element);
            }
            Destination::AlphaGradient => outputs.alpha_gradient += elements[0],
            Destination::Loss => outputs.loss += elements[0],
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

fn read(to: &mut [f64], from: &[f64], first: usize, name: &str) -> Result<()> {
    let end = first + to.len();
    match from.get(first..end) {
        Some(from) => to.copy_from_slice(from),
        None => fail!(ShapeMismatch, "{name} has {} elements; element {} is read", from.len(), end - 1),
    }
    Ok(())
}

fn execute(step: &Step, values: &mut [Vec<f64>]) {
    let mut result = std::mem::take(&mut values[step.result.index()]);
    compute(step, values, &mut result);
    values[step.result.index()] = result;
}

/// The step's expression at every index of its shape, combined over every index of the reduced shape.
fn compute(step: &Step, values: &[Vec<f64>], result: &mut [f64]) {
    let rank = step.shape.rank();
    let mut index = vec![0; rank + step.reduced.rank()];
    for element in result {
        index[rank..].fill(0);
        let mut combined: Option<f64> = None;
        loop {
            let read = |operand: &Operand| values[operand.value.index()][operand.position(&index)];
            let new = evaluate(&step.expression, &|operand| read(&step.operands[operand]));
            combined = Some(match (combined, step.reducer) {
                (None, _) => new,
                (Some(sum), Reducer::Sum) => sum + new,
                (Some(largest), Reducer::Max) => maximum(largest, new),
            });
            if !advance(&mut index[rank..], &step.reduced.0) {
                break;
            }
        }
        *element = combined.unwrap_or_default();
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
fn evaluate(expression: &Expression, operand: &impl Fn(usize) -> f64) -> f64 {
    let value = |expression: &Expression| evaluate(expression, operand);
    match expression {
        Expression::Operand(position) => operand(*position),
        Expression::Constant(number) => *number,
        Expression::Unary(function, of) => function.of(value(of)),
        Expression::Binary(function, a, b) => function.of(value(a), value(b)),
        Expression::Select(condition, a, b) => value(if value(condition) != 0.0 { a } else { b }),
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
            Binary::Greater => f64::from(u8::from(a > b)),
            Binary::Equal => f64::from(u8::from(a == b)),
        }
    }
}

/// The larger; NaN if either is NaN.
fn maximum(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}
