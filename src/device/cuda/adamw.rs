//! The optimiser's kernel: compiled when the first step is made.

use super::module::{Blocks, Module};
use crate::compile::{Architecture, nvrtc};
use crate::device::{Adamw, Stream};
use crate::{Result, fail};

/// Vectors of each array that a thread holds at once, as in `adamw.cu`.
const HELD: usize = 2;

/// Bytes of a vector.
const VECTOR: usize = 16;

/// Threads of a block at most.
const MOST_THREADS: usize = 512;

/// Slots that a block looks at, one after the other, where there are so many that blocks of frozen ones would cost more than
/// they balance the work.
const SLOTS: usize = 2;

/// Slots that have a block each, if there are no more: enough blocks for any card.
const FEW_SLOTS: usize = 4096;

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
    capacity: i64,
    size: i64,
    updated: i64,
    learning_rate: f64,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
}

const _: () = assert!(std::mem::size_of::<Parameters>() == 120);

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
        capacity: update.capacity as i64,
        size: update.size as i64,
        updated: i64::from(update.updated),
        learning_rate: update.learning_rate,
        beta1: update.beta1,
        beta2: update.beta2,
        epsilon: update.epsilon,
        weight_decay: update.weight_decay,
    };
    let wide = [update.parameters, update.gradient, update.first_moment, update.second_moment];
    let in_vectors = (update.size * bytes as usize).is_multiple_of(VECTOR)
        && wide.iter().all(|address| address.0.is_multiple_of(VECTOR as u64));
    let function = module.function(match (update.double, in_vectors) {
        (false, true) => c"adamw_f32_vectors",
        (false, false) => c"adamw_f32",
        (true, true) => c"adamw_f64_vectors",
        (true, false) => c"adamw_f64",
    })?;
    let vectors = if in_vectors { update.size * bytes as usize / VECTOR } else { update.size };
    if vectors > i32::MAX as usize / 2 {
        fail!(CapacityExceeded, "slots of {} parameters are more than a step of AdamW can walk", update.size);
    }
    let threads = vectors.div_ceil(HELD).next_multiple_of(32).min(MOST_THREADS);
    let blocks = match update.capacity {
        few @ ..=FEW_SLOTS => few,
        // Oddly many, so that a block finds training slots and others where every second or fourth slot trains.
        many => many.div_ceil(SLOTS) | 1,
    };
    let Ok(count) = u32::try_from(blocks) else {
        fail!(InvalidArgument, "{} slots are more than a CUDA grid has blocks", update.capacity);
    };
    // SAFETY: the layouts agree (the kernel asserts the size), no array is null, and the caller answers for their lengths.
    unsafe { function.launch(&Blocks { count, cluster: 1, threads, shared_bytes: 0 }, stream, false, &parameters) }
}
