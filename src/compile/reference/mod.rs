//! Programs run slowly and obviously, in f64: what every other backend is compared with.
//!
//! No threads, no layers, no seeds: one program, one seed's parameters, some rows.

mod elements;
mod functions;
mod step;

use super::random::{self, Draw};
use super::{Destination, Program, Source, ValueId};
use crate::graph::{RowInput, Scalar};
use crate::{Result, fail};
use elements::Elements;
use std::borrow::Cow;
use step::{accumulate, execute};

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

/// Runs a program over all rows. What a step leaves undone because its condition does not hold is NaN.
///
/// # Errors
///
/// `ShapeMismatch` if an input that the program reads is too short; `CompileFailed` if the program contradicts
/// itself.
pub fn run(program: &Program, inputs: &Inputs<'_>) -> Result<Outputs> {
    program.check()?;
    let mut values = Vec::with_capacity(program.values.len());
    for value in &program.values {
        values.push(match value.source {
            Source::Parameter(offset) => read(inputs.parameters, offset, value.elements, "the slot")?,
            Source::Scalar(Scalar::Alpha) => Elements::repeated(inputs.alpha, 1),
            Source::Scalar(Scalar::LossScale) => Elements::repeated(inputs.loss_scale, 1),
            Source::Scalar(Scalar::Dropout) => Elements::repeated(f64::from(u8::from(inputs.random.is_some())), 1),
            Source::Index => Elements::Real((0..value.elements).map(|index| index as f64).collect()),
            Source::Row(_) | Source::Random(_) | Source::Step => Elements::zeros(value.data_type, value.elements),
        });
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
            match value.source {
                Source::Row(input) => *elements = read(inputs.row(input), first, program.chunk, "a row tensor")?,
                Source::Random(stream) => *elements = draw(inputs, row, stream, value.elements),
                _ => {}
            }
        }
        program.body.iter().for_each(|step| execute(program, step, &mut values));
        let numbers = |value: ValueId| values[value.index()].numbers();
        let chunk = &mut outputs.rows[first..first + program.chunk];
        let mut written = program.outputs.iter().filter(|output| output.target == Destination::Row);
        if program.guards.iter().any(|guard| numbers(*guard).iter().any(|number| !number.is_finite())) {
            outputs.fallback_rows += 1;
            if written.next().is_some() {
                let fallback = read(inputs.row(program.fallback), first, program.chunk, "the fallback")?;
                chunk.copy_from_slice(&fallback.numbers());
            }
            continue;
        }
        written.for_each(|output| chunk.copy_from_slice(&numbers(output.value)));
        program.accumulate.iter().for_each(|step| accumulate(program, step, &mut values));
    }
    program.epilogue.iter().for_each(|step| execute(program, step, &mut values));
    for output in &program.outputs {
        let numbers = values[output.value.index()].numbers();
        match output.target {
            Destination::Row => {}
            Destination::ParameterGradient(offset) => {
                let gradient = outputs.parameter_gradient[offset..].iter_mut();
                gradient.zip(&*numbers).for_each(|(gradient, number)| *gradient += number);
            }
            Destination::AlphaGradient => outputs.alpha_gradient += numbers[0],
            Destination::Loss => outputs.loss += numbers[0],
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

/// A part of an input.
fn read<'a>(from: &'a [f64], first: usize, count: usize, name: &str) -> Result<Elements<'a>> {
    match from.get(first..first + count) {
        Some(elements) => Ok(Elements::Real(Cow::Borrowed(elements))),
        None => fail!(ShapeMismatch, "{name} has {} elements; element {} is read", from.len(), first + count - 1),
    }
}

/// The random numbers of a row; zeros where dropout is not active.
fn draw(inputs: &Inputs<'_>, row: usize, stream: u16, count: usize) -> Elements<'static> {
    let number = |key, element| {
        let draw = Draw { row: inputs.first_row + row as u64, element, seed: inputs.seed, stream };
        random::number(key, draw).into()
    };
    match inputs.random {
        Some(key) => Elements::Real((0..count as u32).map(|element| number(key, element)).collect()),
        None => Elements::repeated(0.0, count),
    }
}
