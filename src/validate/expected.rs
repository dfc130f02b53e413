//! What a seed must leave behind, and how far rounding may take it from there.
//!
//! How much a program magnifies rounding is measured: it runs a second time with the result of every step rounded to
//! bf16. An f32 launch rounds 2^16 times finer, so a small part of what that changes is allowed. Where that changes
//! everything, the number means nothing in f32 either.

use crate::compile::reference::{Inputs, Outputs, run};
use crate::compile::{Expression, KernelClass, Program, Unary};
use crate::graph::DataType;
use crate::{Result, fail};

/// Inputs are numbers of about 1, so where terms cancel a fused multiplication may leave as much as rounding numbers of
/// this size does.
const LEAST_SCALE: f64 = 1.0 / 64.0;

/// What is expected of one group of numbers: a row of a seed, its slot's gradient, its loss.
pub(super) struct Expected<'a> {
    pub numbers: &'a [f64],
    pub rough: &'a [f64],
}

/// What a program leaves behind, exactly and roughly.
pub(super) struct Answer {
    exact: Outputs,
    rough: Outputs,
}

impl Answer {
    /// Runs the program both ways.
    pub fn new(program: &Program, inputs: &Inputs<'_>) -> Result<Answer> {
        Ok(Answer { exact: run(program, inputs)?, rough: run(&roughened(program), inputs)? })
    }

    pub fn row(&self, row: usize, chunk: usize) -> Expected<'_> {
        let row = row * chunk..(row + 1) * chunk;
        Expected { numbers: &self.exact.rows[row.clone()], rough: &self.rough.rows[row] }
    }

    pub fn parameter_gradient(&self) -> Expected<'_> {
        Expected { numbers: &self.exact.parameter_gradient, rough: &self.rough.parameter_gradient }
    }

    pub fn alpha_gradient(&self) -> Expected<'_> {
        let number = std::slice::from_ref;
        Expected { numbers: number(&self.exact.alpha_gradient), rough: number(&self.rough.alpha_gradient) }
    }

    pub fn loss(&self) -> Expected<'_> {
        let number = std::slice::from_ref;
        Expected { numbers: number(&self.exact.loss), rough: number(&self.rough.loss) }
    }
}

/// How roughly a launch may compute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Precision {
    F64,
    F32,
    /// Products of f32 in 11 bits.
    Tf32,
    F16,
    BF16,
}

impl Precision {
    pub fn of(class: &KernelClass) -> Precision {
        match class.data_type {
            DataType::F64 => Precision::F64,
            DataType::F16 => Precision::F16,
            DataType::BF16 => Precision::BF16,
            _ if class.tf32 => Precision::Tf32,
            _ => Precision::F32,
        }
    }
}

impl Expected<'_> {
    /// Compares what a kernel wrote, as roughly as it may, on top of what was `before`.
    pub fn compare(
        &self,
        found: &[f64],
        before: &[f64],
        precision: Precision,
        name: impl Fn(usize) -> String,
    ) -> Result<()> {
        // `max` passes over NaN.
        let largest = |largest: f64, number: f64| largest.max(number.abs());
        let scale = self.numbers.iter().chain(before).copied().fold(LEAST_SCALE, largest);
        let spread = self.numbers.iter().zip(self.rough).map(|(exact, rough)| exact - rough).fold(0.0, largest);
        // Beyond half of what f16 can hold, a row falls back or not as rounding decides.
        if precision == Precision::F16 && scale > 32000.0 || !spread.is_finite() {
            return Ok(());
        }
        let (finer, own) = match precision {
            Precision::F64 => (2f64.powi(-40), 2f64.powi(-46)),
            Precision::F32 => (2f64.powi(-9), 2f64.powi(-18)),
            // Half-precision rows may be multiplied by units that round as roughly as the rough run does, and TF32 has as many
            // bits as f16.
            Precision::F16 | Precision::Tf32 => (1.0, 2f64.powi(-9)),
            Precision::BF16 => (2.0, 2f64.powi(-6)),
        };
        let finer = if spread > 0.125 * scale { 2.0 } else { finer };
        let allowed = finer * spread + own * scale;
        for (at, (expected, before)) in self.numbers.iter().zip(before).enumerate() {
            let (found, expected) = (found[at], expected + before);
            let agrees =
                (found - expected).abs() <= allowed || found.is_nan() && expected.is_nan() || found == expected;
            if !agrees {
                fail!(
                    ValidationFailed,
                    "the kernel computes {} as {found}; expected is {expected}, at most {allowed:.1e} from it",
                    name(at),
                );
            }
        }
        Ok(())
    }
}

/// The program with the result of every step rounded to bf16.
fn roughened(program: &Program) -> Program {
    let mut rough = program.clone();
    let steps = [&mut rough.prologue, &mut rough.body, &mut rough.accumulate, &mut rough.epilogue];
    for step in steps.into_iter().flatten() {
        if program.values[step.result.index()].data_type == DataType::F32 {
            let exact = std::mem::replace(&mut step.expression, Expression::Constant(0.0));
            step.expression = Expression::unary(Unary::RoundBF16, exact);
        }
    }
    rough
}
