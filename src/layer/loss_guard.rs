//! Whether the loss that a trainer reports is still one to train on: it is not when it is not finite, or when it spikes.
//!
//! The guard judges and nothing else: what is put back then, and from which snapshot, is the trainer's business. It knows
//! no layer.

use crate::{Result, fail};

/// Thresholds, and what the guard remembers of the losses that it accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossGuard {
    /// A loss spikes if it is above the running mean by more than this many standard deviations,
    pub deviations: f64,
    /// and by more than this fraction of the mean's magnitude.
    pub rise: f64,
    /// How much of the running mean stays from one loss to the next.
    pub decay: f64,
    /// As long as it has accepted fewer losses than this, none spikes.
    pub warm_up: u64,
    /// Running mean of the accepted losses.
    pub mean: f64,
    /// Their running variance.
    pub variance: f64,
    /// How many there were.
    pub accepted: u64,
}

impl Default for LossGuard {
    fn default() -> LossGuard {
        LossGuard { deviations: 6.0, rise: 0.5, decay: 0.9, warm_up: 10, mean: 0.0, variance: 0.0, accepted: 0 }
    }
}

impl LossGuard {
    /// Judges a loss. One that is not accepted leaves no trace here, and the sentence says why.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a threshold, or a memory, that means nothing.
    pub fn judge(&mut self, loss: f64) -> Result<Option<String>> {
        self.check()?;
        if !loss.is_finite() {
            return Ok(Some(format!("the loss is {loss}")));
        }
        let (mean, deviation) = (self.mean, self.variance.sqrt());
        let limit = mean + (self.deviations * deviation).max(self.rise * mean.abs());
        if self.accepted >= self.warm_up && self.accepted > 0 && loss > limit {
            return Ok(Some(format!(
                "the loss {loss} spikes: it is above {limit}, and the running mean is {mean} with a standard deviation of \
                 {deviation}"
            )));
        }
        self.accept(loss);
        Ok(None)
    }

    fn accept(&mut self, loss: f64) {
        if self.accepted == 0 {
            (self.mean, self.variance) = (loss, 0.0);
        } else {
            let (difference, share) = (loss - self.mean, 1.0 - self.decay);
            self.mean += share * difference;
            self.variance = self.decay * (self.variance + share * difference * difference);
        }
        self.accepted = self.accepted.saturating_add(1);
    }

    fn check(&self) -> Result<()> {
        for (name, value) in [("deviations", self.deviations), ("rise", self.rise), ("variance", self.variance)] {
            // Infinite is never a spike, or a memory of losses whose squares overflow.
            if value.is_nan() || value < 0.0 {
                fail!(InvalidArgument, "{name} of a loss guard is {value}; it must be a number not below 0");
            }
        }
        if !(0.0..1.0).contains(&self.decay) {
            fail!(InvalidArgument, "decay of a loss guard is {}; it must be in [0, 1)", self.decay);
        }
        if !self.mean.is_finite() {
            fail!(InvalidArgument, "mean of a loss guard is {}; it must be a finite number", self.mean);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(losses: impl IntoIterator<Item = f64>) -> LossGuard {
        let mut guard = LossGuard::default();
        for loss in losses {
            assert_eq!(guard.judge(loss).unwrap(), None, "{loss}");
        }
        guard
    }

    #[test]
    fn a_loss_that_falls_or_wavers_is_accepted() {
        after((0..500).map(|step| 3.0 * (-f64::from(step) / 50.0).exp() + 0.1 * f64::from(step % 3)));
        after((0..500).map(|step| -1.0 - f64::from(step % 7)));
        after([0.0; 50]);
    }

    #[test]
    fn a_loss_that_is_not_finite_is_refused_from_the_first_one_on_and_leaves_no_trace() {
        for mut guard in [LossGuard::default(), after([2.0; 30])] {
            let before = guard;
            for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                assert!(guard.judge(loss).unwrap().unwrap().contains("the loss is"));
            }
            assert_eq!(guard, before);
        }
    }

    #[test]
    fn a_spike_is_refused_once_the_guard_is_warm_and_says_its_limit() {
        let losses = |count: u32| (0..count).map(|step| 2.0 + 0.1 * f64::from(step % 2));
        assert_eq!(after(losses(9)).judge(40.0).unwrap(), None, "nine losses are too few");
        let mut guard = after(losses(10));
        let before = guard;
        let reason = guard.judge(3.2).unwrap().unwrap();
        assert!(reason.contains("the loss 3.2 spikes: it is above 3.05"), "{reason}");
        assert_eq!(guard, before);
        assert_eq!(guard.judge(3.0).unwrap(), None, "half above the mean is allowed, however steady the loss was");
    }

    #[test]
    fn a_loss_that_always_jumps_may_jump() {
        let mut guard = after((0..100).map(|step| if step % 2 == 0 { 0.1 } else { 1.9 }));
        assert_eq!(guard.judge(4.0).unwrap(), None);
        assert!(guard.judge(40.0).unwrap().is_some());
    }

    #[test]
    fn thresholds_that_mean_nothing_are_refused_by_name() {
        let default = LossGuard::default();
        for (mut guard, name) in [
            (LossGuard { deviations: -1.0, ..default }, "deviations"),
            (LossGuard { rise: f64::NAN, ..default }, "rise"),
            (LossGuard { decay: 1.0, ..default }, "decay"),
            (LossGuard { mean: f64::INFINITY, ..default }, "mean"),
            (LossGuard { variance: -1.0, ..default }, "variance"),
        ] {
            let error = guard.judge(1.0).unwrap_err();
            assert!(error.message().starts_with(name), "{error}");
        }
    }
}
