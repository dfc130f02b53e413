//! The optimiser's kernel: compiled when the first step is made.

use super::module::Module;
use crate::compile::{Architecture, nvrtc};
use crate::device::{Adamw, Stream};
use crate::{Result, fail};

/// Threads of the block that a slot has.
const THREADS: usize = 256;

/// `struct Adamw` of `adamw.cu`.
#[repr(C)]
struct Parameters {
    parameters: u64,
    gradient: u64,
    first_moment: u64,
    second_moment: u64,
    steps: u64,
    mode: u64,
    non_finite: u64,
    size: i64,
    updated: i64,
    learning_rate: f64,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
}

const _: () = assert!(std::mem::size_of::<Parameters>() == 112);

/// The machine code of the optimiser.
pub(super) fn compile(architecture: Architecture) -> Result<Vec<u8>> {
    nvrtc::compile(include_str!("adamw.cu"), architecture)
}

/// Queues one step.
pub(super) fn launch(module: &Module, update: &Adamw, stream: Stream) -> Result<()> {
    let bytes = if update.double { 8 } else { 4 };
    let elements = update.capacity * usize::from(update.size > 0);
    let arrays = [
        ("parameters", update.parameters, bytes),
        ("gradient", update.gradient, bytes),
        ("first moment", update.first_moment, bytes),
        ("second moment", update.second_moment, bytes),
        ("steps", update.steps, 4),
        ("mode", update.mode, 1),
        ("non-finite", update.non_finite, 1),
    ];
    for (name, address, alignment) in arrays {
        if (elements > 0 && address.is_null()) || address.0 % alignment != 0 {
            fail!(InvalidArgument, "the {name} array is null or not aligned to {alignment} bytes");
        }
    }
    if elements == 0 {
        return Ok(());
    }
    let parameters = Parameters {
        parameters: update.parameters.0,
        gradient: update.gradient.0,
        first_moment: update.first_moment.0,
        second_moment: update.second_moment.0,
        steps: update.steps.0,
        mode: update.mode.0,
        non_finite: update.non_finite.0,
        size: update.size as i64,
        updated: i64::from(update.updated),
        learning_rate: update.learning_rate,
        beta1: update.beta1,
        beta2: update.beta2,
        epsilon: update.epsilon,
        weight_decay: update.weight_decay,
    };
    let Ok(blocks) = u32::try_from(update.capacity) else {
        fail!(InvalidArgument, "{} slots are more than a CUDA grid has blocks", update.capacity);
    };
    let function = module.function(if update.double { c"adamw_f64" } else { c"adamw_f32" })?;
    // SAFETY: the layouts agree (the kernel asserts the size), no array is null, and the caller answers for their lengths.
    unsafe { function.launch(blocks, THREADS, 0, stream, false, &parameters) }
}
