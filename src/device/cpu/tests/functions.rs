//! The elementary functions of every kind of instructions against libm.

use crate::compile::Unary;
use crate::device::cpu::vector::{Instructions, Real};

const FUNCTIONS: [Unary; 15] = [
    Unary::Neg,
    Unary::Abs,
    Unary::Exp,
    Unary::Log,
    Unary::Sqrt,
    Unary::Rsqrt,
    Unary::Tanh,
    Unary::Sigmoid,
    Unary::Erf,
    Unary::Sin,
    Unary::Cos,
    Unary::Floor,
    Unary::RoundF16,
    Unary::RoundBF16,
    Unary::Not,
];

/// All sizes from subnormal to huge, both signs, and densely around where the functions bend.
fn arguments() -> Vec<f64> {
    let powers = (-330..=308).map(|power| 10f64.powi(power));
    let dense = (1..40_000).map(|step| f64::from(step) * 0.0025);
    let magnitudes: Vec<f64> = powers.chain(dense).chain([87.3, 88.72, 88.73, 103.2, 708.3, 709.7, 745.0]).collect();
    magnitudes.iter().flat_map(|x| [*x, -*x]).chain([0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]).collect()
}

/// The worst error in units in the last place, where `step` is the distance from a number to the next.
fn worst<T: Real>(instructions: Instructions, function: Unary, step: impl Fn(f64) -> f64) -> (f64, f64) {
    let arguments: Vec<T> = arguments().into_iter().map(T::from_f64).collect();
    let mut results = vec![T::ZERO; arguments.len()];
    // SAFETY: the instructions are of those available.
    unsafe { (instructions.vectors().unary)(function, &arguments, &mut results) };
    let mut worst = (0.0, 0.0);
    for (x, result) in arguments.iter().zip(results) {
        let (x, result) = (x.to_f64(), result.to_f64());
        let expected = T::from_f64(function.of(x)).to_f64();
        if !expected.is_finite() || !result.is_finite() {
            let same = result == expected || (result.is_nan() && expected.is_nan());
            assert!(same, "{function:?}({x}) is {result}, expected {expected} with {}", instructions.name());
            continue;
        }
        assert!(expected != 0.0 || result.abs() <= step(0.0), "{function:?}({x}) is {result} instead of 0");
        let error = (result - function.of(x)).abs() / step(expected);
        if error > worst.0 {
            worst = (error, x);
        }
    }
    worst
}

#[test]
fn single_precision_is_within_three_units_in_the_last_place_of_libm() {
    let step = |x: f64| f64::from(f32::from_bits((x.abs() as f32).to_bits() + 1)) - f64::from(x.abs() as f32);
    for instructions in Instructions::available() {
        for function in FUNCTIONS {
            let (error, at) = worst::<f32>(instructions, function, step);
            println!("{} {function:?}: {error:.2} at {at}", instructions.name());
            assert!(error <= 3.0, "{function:?} is {error} units off at {at} with {}", instructions.name());
        }
    }
}

#[test]
fn double_precision_is_within_1e_13_of_libm() {
    let step = |x: f64| f64::from_bits(x.abs().to_bits() + 1) - x.abs();
    for instructions in Instructions::available() {
        for function in FUNCTIONS {
            let (error, at) = worst::<f64>(instructions, function, step);
            println!("{} {function:?}: {error:.2} at {at}", instructions.name());
            assert!(
                error * f64::EPSILON <= 1e-13,
                "{function:?} is {error} units off at {at} with {}",
                instructions.name()
            );
        }
    }
}
