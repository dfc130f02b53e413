//! The guard over a trainer's loss. Its memory is the caller's, so there is nothing to destroy.

use super::boundary::call_for;
use super::convert::{self, Growing};
use super::error::kasmina_error;
use super::kasmina_bytes;
use crate::Status;
use crate::layer::LossGuard;

/// A guard over the loss of a training: thresholds, of which 0 is the default, and what it remembers. Set `struct_size` and
/// the thresholds, and everything else to 0; then give it to kasmina_loss_guard_judge with one loss after the other.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_loss_guard {
    /// sizeof(kasmina_loss_guard)
    pub struct_size: usize,
    /// A loss spikes if it is above the running mean by more than this many standard deviations (default 6),
    pub deviations: f64,
    /// and by more than this fraction of the mean's magnitude (default 0.5).
    pub rise: f64,
    /// How much of the running mean stays from one loss to the next (default 0.9).
    pub decay: f64,
    /// As long as fewer losses than this were accepted, none spikes (default 10).
    pub warm_up: u64,
    /// Running mean of the accepted losses.
    pub mean: f64,
    /// Their running variance.
    pub variance: f64,
    /// How many there were.
    pub accepted: u64,
}

// SAFETY: repr(C), starts with struct_size, and has only numbers.
unsafe impl Growing for kasmina_loss_guard {
    const NAME: &'static str = "kasmina_loss_guard";
    const SMALLEST: usize = 64;
}

/// Judges a loss. If it is to be trained on, `reason` becomes NULL and the guard remembers it. If it is not finite or spikes,
/// `reason` becomes a sentence, which the caller destroys, and the guard is left as it was: restore what you have a
/// snapshot of (kasmina_layer_restore, and your own weights).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_loss_guard_judge(
    guard: *mut kasmina_loss_guard,
    loss: f64,
    reason: *mut *mut kasmina_bytes,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_loss_guard_judge", (reason, "reason"), error, || {
        // SAFETY: the caller promises a struct of the size that its struct_size says.
        let given = unsafe { convert::read(guard) }?;
        let default = LossGuard::default();
        let or = |value: f64, default: f64| if value == 0.0 { default } else { value };
        let mut judge = LossGuard {
            deviations: or(given.deviations, default.deviations),
            rise: or(given.rise, default.rise),
            decay: or(given.decay, default.decay),
            warm_up: if given.warm_up == 0 { default.warm_up } else { given.warm_up },
            mean: given.mean,
            variance: given.variance,
            accepted: given.accepted,
        };
        let verdict = judge.judge(loss)?;
        let LossGuard { mean, variance, accepted, .. } = judge;
        // SAFETY: it was read above, and the caller promises that it can be written.
        unsafe { convert::write(guard, &kasmina_loss_guard { mean, variance, accepted, ..given }) }?;
        Ok(verdict.map_or(std::ptr::null_mut(), |reason| kasmina_bytes::owned(reason.into_bytes())))
    })
}
