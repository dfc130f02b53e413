//! What changes a layer's seeds: commands, epoch ends, rollback.

use super::boundary::{call, call_for};
use super::convert::{self, Growing};
use super::error::kasmina_error;
use super::layer::LAYERS;
use super::strategy;
use super::{kasmina_bytes, kasmina_layer};
use crate::layer::{Action, Command, Evidence};
use crate::{Result, Status, error};
use std::ffi::{c_char, c_void};

/// A command to one seed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_command {
    /// sizeof(kasmina_command)
    pub struct_size: usize,
    /// Which seed.
    pub seed: u32,
    /// A kasmina_action.
    pub action: i32,
    /// Index of the blueprint to germinate; ignored by other actions.
    pub blueprint: i32,
    /// A kasmina_strategy, by which a seed that germinates will graft; ignored by other actions.
    pub strategy: i32,
    /// Evidence for the gates, NAN where there is none: change of the validation metric, better above 0.
    pub validation_delta: f64,
    /// Stability of the metric in [0, 1].
    pub stability: f64,
    /// Total improvement, as a fraction.
    pub improvement: f64,
    /// Share of calls that failed.
    pub error_rate: f64,
    /// Why, for the record; may be NULL.
    pub reason: *const c_char,
}

// SAFETY: repr(C), starts with struct_size, and has only numbers and raw pointers.
unsafe impl Growing for kasmina_command {
    const NAME: &'static str = "kasmina_command";
    const SMALLEST: usize = 64;
}

/// Checks commands against the transition table and the gates, and queues them all or none; they take effect together at
/// the next kasmina_layer_end_epoch. All commands have the same `struct_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_submit(
    layer: kasmina_layer,
    commands: *const kasmina_command,
    count: usize,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_submit", error, || {
        let command = |given: &kasmina_command| {
            // SAFETY: the caller promises text or null.
            let reason = unsafe { convert::optional_text(given.reason, "reason") }?;
            command(given, reason.unwrap_or_default())
        };
        // SAFETY: the caller promises `count` structs of the size that their struct_size says.
        let commands = unsafe { convert::read_array(commands, count, command) }?;
        LAYERS.write(layer.id, |layer| layer.submit(commands))
    })
}

fn command(given: &kasmina_command, reason: &str) -> Result<Command> {
    let action = Action::from_number(given.action);
    Ok(Command {
        seed: given.seed,
        action: action.ok_or_else(|| error!(InvalidArgument, "{} is no kasmina_action", given.action))?,
        blueprint: given.blueprint,
        strategy: given.strategy,
        evidence: Evidence {
            validation_delta: given.validation_delta,
            stability: given.stability,
            improvement: given.improvement,
            error_rate: given.error_rate,
        },
        reason: reason.to_owned(),
    })
}

/// Ends an epoch: asks the host's strategy, reads telemetry, moves alphas on, applies the queued commands, checks the
/// state arrays. Waits for the stream. What happened goes to `summary` as JSON if that is not NULL; the caller destroys
/// the bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_end_epoch(
    layer: kasmina_layer,
    stream: *mut c_void,
    summary: *mut *mut kasmina_bytes,
    error: *mut *mut kasmina_error,
) -> Status {
    let end = || {
        strategy::refuse_inside()?;
        let stream = convert::stream(stream);
        let inquiry = LAYERS.read(layer.id, |layer| layer.inquire(stream))?;
        let answers = strategy::ask(&inquiry);
        LAYERS.write(layer.id, |layer| layer.end_epoch_with(&answers, stream))
    };
    if summary.is_null() {
        return call("kasmina_layer_end_epoch", error, || end().map(drop));
    }
    call_for("kasmina_layer_end_epoch", (summary, "summary"), error, || Ok(kasmina_bytes::json(end()?)))
}

/// Tells the layer's circuit breakers the time, in seconds on any clock that does not go back. From then on they go by what
/// they are told and not by their own clock: for trainers that want the same decisions in every process or every run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_set_time(
    layer: kasmina_layer,
    seconds: f64,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_set_time", error, || LAYERS.write(layer.id, |layer| layer.set_time(seconds)))
}

/// Takes a seed out of the network at once: the next forward passes its chunk through. Always permitted from TRAINING to
/// FINE_TUNING. `reason` is for the record and may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_roll_back(
    layer: kasmina_layer,
    seed: u32,
    reason: *const c_char,
    stream: *mut c_void,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_roll_back", error, || {
        // SAFETY: the caller promises text or null.
        let reason = unsafe { convert::optional_text(reason, "reason") }?.unwrap_or_default();
        LAYERS.write(layer.id, |layer| layer.roll_back(seed, reason, convert::stream(stream)).map(drop))
    })
}
