//! How alpha rises while a seed is GRAFTING: pure functions of the strategy's constants, of the one number that the
//! strategy remembers of the seed, and of what was measured.
//!
//! A strategy only says by how much alpha rises next, and never where it is: so a pause resumes where it stopped. What
//! is not a number holds alpha. Kernels know nothing of strategies.

use super::settings::GraftingSettings;
use crate::{Result, fail};

/// Epochs of a ramp at most: so many increments of an f32 still add up to 1 in as many steps.
pub(super) const MAXIMUM_RAMP_STEPS: u32 = 1000;

/// How alpha rises.
#[repr(i8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// By the same amount each epoch.
    #[default]
    FixedRamp = 0,
    /// Faster while the trainer's metric improves.
    PerformanceLinked = 1,
    /// While the magnitude of the chunk stays near its running mean.
    DriftControlled = 2,
    /// Slower the further the gradient norm is from its running mean, and only while it is in a range.
    GradNormGated = 3,
    /// As a function of the user's says.
    User = 4,
}

impl Strategy {
    /// Every strategy, in the order of the numbers.
    pub const ALL: [Strategy; 5] = [
        Strategy::FixedRamp,
        Strategy::PerformanceLinked,
        Strategy::DriftControlled,
        Strategy::GradNormGated,
        Strategy::User,
    ];

    /// The strategy of a number.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a number that means nothing.
    pub fn from_number(number: i32) -> Result<Strategy> {
        match Self::ALL.into_iter().find(|strategy| *strategy as i32 == number) {
            Some(strategy) => Ok(strategy),
            None => fail!(InvalidArgument, "there is no grafting strategy {number}; there are 0 to 4"),
        }
    }
}

/// What a strategy is told of a seed when an epoch ends. NaN stands for what is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraftingInput {
    /// Which seed.
    pub seed: u32,
    /// The epoch that is ending; the first is 1.
    pub epoch: u32,
    /// Epochs that ended since the seed began to graft, with this one.
    pub epochs_in_state: i16,
    /// Its blend weight so far.
    pub alpha: f32,
    /// The trainer's metric for this epoch.
    pub metric: f64,
    /// How much higher it is than the last one that was known.
    pub improvement: f64,
    /// Root mean square of the chunk's finite elements in this epoch, before the seed's blueprint.
    pub root_mean_square: f64,
    /// Root of the sum of the squares of the output gradient's elements in this epoch; 0 if there was no backward pass.
    pub gradient_norm: f64,
}

/// What a strategy says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// By how much alpha rises.
    pub increment: f64,
    /// What the strategy remembers of the seed from now on.
    pub memory: f64,
    /// Why alpha does not rise.
    pub held: Option<String>,
}

impl Step {
    /// Alpha stays where it is.
    pub fn hold(memory: f64, reason: String) -> Step {
        Step { increment: 0.0, memory, held: Some(reason) }
    }

    fn rise(increment: f64, memory: f64) -> Step {
        Step { increment, memory, held: None }
    }
}

/// FIXED_RAMP. Remembers nothing: alpha is exactly 1 after `ramp_steps` steps from 0.
pub(super) fn fixed_ramp(alpha: f32, ramp_steps: u32) -> Step {
    let alpha = f64::from(alpha);
    let increment = 1.0 / f64::from(ramp_steps.max(1));
    // Rounding may leave the sum just short of 1; what is less than half a step away has arrived.
    let arrives = alpha + increment > 1.0 - 0.5 * increment;
    Step::rise(if arrives { 1.0 - alpha } else { increment }, 0.0)
}

/// The alpha after an increment: never lower, never above 1.
pub(super) fn raised(alpha: f32, increment: f64) -> f32 {
    if increment.is_finite() { ((f64::from(alpha) + increment).min(1.0) as f32).max(alpha) } else { alpha }
}

/// PERFORMANCE_LINKED. The memory is the momentum v, 0 at first: v = m v + (1 - m) max(0, improvement), and alpha rises
/// by `base_rate` (1 + gain v).
pub(super) fn performance_linked(memory: f64, input: &GraftingInput, settings: &GraftingSettings) -> Step {
    let improvement = input.improvement;
    if !improvement.is_finite() {
        let why = "the metric's improvement is not known: give a finite metric at the end of each epoch".to_owned();
        return Step::hold(memory, why);
    }
    let momentum = settings.momentum * memory + (1.0 - settings.momentum) * improvement.max(0.0);
    Step::rise(settings.base_rate * (1.0 + settings.gain * momentum), momentum)
}

/// DRIFT_CONTROLLED. The memory is the running mean of w, the chunk's root mean square; the first w sets it. Alpha rises
/// by `base_rate` unless |w - mean| / mean, with the mean of the epochs before, is above `drift_limit`.
pub(super) fn drift_controlled(memory: f64, input: &GraftingInput, settings: &GraftingSettings) -> Step {
    let (seen, limit) = (input.root_mean_square, settings.drift_limit);
    if !seen.is_finite() {
        return Step::hold(memory, format!("the chunk's root mean square is {seen}: nothing of it was seen"));
    }
    let mean = if memory == 0.0 { seen } else { memory };
    if mean == 0.0 {
        return Step::hold(memory, "the chunk has been 0 since the seed began to graft".to_owned());
    }
    let drift = ((seen - mean) / mean).abs();
    let next = settings.mean_decay * mean + (1.0 - settings.mean_decay) * seen;
    if drift > limit {
        return Step::hold(next, format!("the drift {drift} is above {limit} (grafting.drift_limit)"));
    }
    Step::rise(settings.base_rate, next)
}

/// GRAD_NORM_GATED. The memory is the running mean of the gradient norm g; the first g sets it. In the range alpha rises
/// by `base_rate` clamp(1 - |g - mean| / mean, 0, 1), with the mean that has g in it. No g is 0: without a backward pass
/// there is none.
pub(super) fn grad_norm_gated(memory: f64, input: &GraftingInput, settings: &GraftingSettings) -> Step {
    let (norm, low, high) = (input.gradient_norm, settings.gradient_norm_low, settings.gradient_norm_high);
    if !(norm.is_finite() && norm > 0.0) {
        return Step::hold(memory, format!("the gradient norm is {norm}"));
    }
    let mean = if memory == 0.0 { norm } else { settings.mean_decay * memory + (1.0 - settings.mean_decay) * norm };
    if !(low..=high).contains(&norm) {
        let range = "(grafting.gradient_norm_low, grafting.gradient_norm_high)";
        return Step::hold(mean, format!("the gradient norm {norm} is not in [{low}, {high}] {range}"));
    }
    let deviation = ((norm - mean) / mean).abs();
    if deviation >= 1.0 {
        return Step::hold(
            mean,
            format!("the gradient norm {norm} is as far from its running mean {mean} as the mean is"),
        );
    }
    Step::rise(settings.base_rate * (1.0 - deviation), mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    const NUMBERS: [f64; 14] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.1,
        0.5,
        -3.5,
        1e-300,
        1e300,
        -1e300,
        f64::MAX,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];

    fn input(number: f64) -> GraftingInput {
        GraftingInput {
            seed: 0,
            epoch: 1,
            epochs_in_state: 1,
            alpha: 0.0,
            metric: f64::NAN,
            improvement: number,
            root_mean_square: number,
            gradient_norm: number,
        }
    }

    #[test]
    fn a_fixed_ramp_rises_evenly_and_is_exactly_one_after_its_steps() {
        let ramp = |alpha, steps| raised(alpha, fixed_ramp(alpha, steps).increment);
        for steps in 1..=MAXIMUM_RAMP_STEPS {
            let mut alpha = 0.0;
            for step in 1..=steps {
                let next = ramp(alpha, steps);
                assert!(next > alpha, "alpha stuck at {alpha} in step {step} of {steps}");
                assert_eq!(next == 1.0, step == steps, "alpha is {next} after {step} of {steps} steps");
                let even = f64::from(step) / f64::from(steps);
                assert!((f64::from(next) - even).abs() < 0.05, "alpha is {next} after {step} of {steps} steps");
                alpha = next;
            }
            assert_eq!(ramp(alpha, steps), 1.0);
        }
    }

    #[test]
    fn alpha_never_falls_and_never_leaves_0_to_1_whatever_a_strategy_meets() {
        let strategies = [performance_linked, drift_controlled, grad_norm_gated];
        let settings = GraftingSettings { gain: 1e300, drift_limit: 1e300, ..GraftingSettings::default() };
        for strategy in strategies {
            for (first, second) in NUMBERS.iter().flat_map(|first| NUMBERS.map(|second| (*first, second))) {
                let (mut alpha, mut memory) = (0.25f32, 0.0);
                for number in [first, second, 0.5, first] {
                    let step = strategy(memory, &input(number), &settings);
                    let next = raised(alpha, step.increment);
                    assert!(next >= alpha && next <= 1.0, "{alpha} to {next} by {step:?} of {number}");
                    assert!(step.memory.is_finite(), "{step:?} of {number}");
                    if !number.is_finite() {
                        assert_eq!((next, step.memory), (alpha, memory), "{number} must hold");
                        assert!(step.held.is_some());
                    }
                    (alpha, memory) = (next, step.memory);
                }
            }
        }
        for increment in NUMBERS {
            let next = raised(0.25, increment);
            assert!((0.25..=1.0).contains(&next) && (increment.is_finite() || next == 0.25), "{increment}: {next}");
        }
    }

    #[test]
    fn zero_gradients_and_an_empty_chunk_hold_and_set_no_running_mean() {
        let settings = GraftingSettings::default();
        for strategy in [drift_controlled, grad_norm_gated] {
            let step = strategy(0.0, &input(0.0), &settings);
            assert_eq!((step.increment, step.memory), (0.0, 0.0));
            assert!(step.held.is_some());
            let step = strategy(step.memory, &input(0.5), &settings);
            assert_eq!((step.increment, step.memory, step.held), (settings.base_rate, 0.5, None));
        }
        let step = grad_norm_gated(0.5, &input(0.0), &settings);
        assert_eq!((step.increment, step.memory), (0.0, 0.5), "no backward pass is no gradient norm");
    }

    #[test]
    fn strategies_that_do_not_exist_are_errors() {
        for (number, strategy) in (0..).zip(Strategy::ALL) {
            assert_eq!(Strategy::from_number(number).unwrap(), strategy);
        }
        for number in [-1, 5, i32::MAX] {
            assert_eq!(Strategy::from_number(number).unwrap_err().status(), Status::InvalidArgument);
        }
    }
}
