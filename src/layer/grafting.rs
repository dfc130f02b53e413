//! How alpha rises while a seed is GRAFTING: a pure function of the strategy, its state and what was measured.
//!
//! A strategy only says where alpha goes next; kernels know nothing of strategies.

use crate::{Result, fail};

/// Epochs of a ramp at most: so many increments of an f32 still add up to 1 in as many steps.
pub(super) const MAXIMUM_RAMP_STEPS: u32 = 1000;

/// How alpha rises. The numbers are part of the C ABI.
#[repr(i8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// By the same amount each epoch.
    #[default]
    FixedRamp = 0,
}

impl Strategy {
    /// The strategy of a number.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a strategy this version lacks, `InvalidArgument` for a number that means nothing.
    pub fn from_number(number: i32) -> Result<Strategy> {
        match number {
            0 => Ok(Strategy::FixedRamp),
            1..=3 => {
                let name = ["PERFORMANCE_LINKED", "DRIFT_CONTROLLED", "GRAD_NORM_GATED"][number as usize - 1];
                fail!(Unsupported, "the grafting strategy {name} ({number}) is not in this version; use FIXED_RAMP (0)")
            }
            _ => fail!(InvalidArgument, "there is no grafting strategy {number}; use FIXED_RAMP (0)"),
        }
    }
}

/// The alpha after one more epoch: never lower, never above 1, and exactly 1 after `ramp_steps` steps from 0.
///
/// The next alpha follows from the last one and never from the number of epochs, so a pause resumes where it stopped.
pub(super) fn advance(strategy: Strategy, alpha: f32, ramp_steps: u32) -> f32 {
    match strategy {
        Strategy::FixedRamp => {
            let increment = 1.0 / f64::from(ramp_steps.max(1));
            let next = f64::from(alpha) + increment;
            // Rounding may leave the sum just short of 1; what is less than half a step away has arrived.
            if next > 1.0 - 0.5 * increment { 1.0 } else { next as f32 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn a_fixed_ramp_rises_evenly_and_is_exactly_one_after_its_steps() {
        for steps in 1..=MAXIMUM_RAMP_STEPS {
            let mut alpha = 0.0;
            for step in 1..=steps {
                let next = advance(Strategy::FixedRamp, alpha, steps);
                assert!(next > alpha, "alpha stuck at {alpha} in step {step} of {steps}");
                assert_eq!(next == 1.0, step == steps, "alpha is {next} after {step} of {steps} steps");
                let even = f64::from(step) / f64::from(steps);
                assert!((f64::from(next) - even).abs() < 0.05, "alpha is {next} after {step} of {steps} steps");
                alpha = next;
            }
            assert_eq!(advance(Strategy::FixedRamp, alpha, steps), 1.0);
        }
    }

    #[test]
    fn strategies_that_do_not_exist_are_errors() {
        assert_eq!(Strategy::from_number(0).unwrap(), Strategy::FixedRamp);
        for number in 1..=3 {
            assert_eq!(Strategy::from_number(number).unwrap_err().status(), Status::Unsupported);
        }
        for number in [-1, 4, i32::MAX] {
            assert_eq!(Strategy::from_number(number).unwrap_err().status(), Status::InvalidArgument);
        }
    }
}
