//! Memory of a layer that the host may look at: exported with a handle that keeps it alive.

use super::boundary::{call_for, destroy};
use super::convert;
use super::error::kasmina_error;
use super::handle::{Kind, Slab};
use super::layer::LAYERS;
use super::{kasmina_layer, kasmina_tensor};
use crate::graph::{DataType, Shape};
use crate::layer::Array;
use crate::{Result, Status, error, fail};
use std::ffi::c_void;
use std::sync::Arc;

/// A hold on memory that a layer exported. It stays valid when the layer is destroyed, until the hold is released. 0 is
/// no memory.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_memory {
    /// Opaque.
    pub id: u64,
}

/// An array of a layer's state. Shapes are in terms of the layer's seeds.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum kasmina_layer_array {
    /// `[seeds]` i8: a kasmina_lifecycle each.
    Lifecycle = 0,
    /// `[seeds]` i32: index of the blueprint, -1 for none.
    Blueprint = 1,
    /// `[seeds]` i32: slot in the blueprint's bank, -1 for none.
    Slot = 2,
    /// `[seeds]` f32: blend weight in [0, 1].
    Alpha = 3,
    /// `[seeds]` i16: epochs since the last transition.
    EpochsInState = 4,
    /// `[seeds]` i8: a kasmina_strategy each.
    Strategy = 5,
    /// `[seeds]` u32: epoch of the last change.
    LastUpdateEpoch = 6,
    /// `[seeds]` u16: epochs of embargo left.
    Embargo = 7,
    /// `[seeds]` u16: errors counted.
    ErrorCount = 8,
    /// `[seeds]` u8: bit 0 ready, bit 1 fallback used, bit 2 non-finite seen.
    Flags = 9,
    /// `[seeds, 10]` f64: count, sum, sum of squares, min, max, dead, neighbour product and non-finite count of x, sum
    /// of squares of the output gradient, rows that fell back to identity.
    Telemetry = 10,
    /// `[seeds, 2]` f64: sum of the isolated training losses, and how many there were.
    Loss = 11,
    /// `[seeds]` u32: how often the seed has germinated.
    Germinations = 12,
    /// `[seeds]` f64: what the grafting strategy remembers of the seed, a momentum or a running mean.
    StrategyMemory = 13,
}

/// An array of a blueprint's bank. `capacity` and `size` are those of the bank; moments and parameters are of the
/// layer's parameter type.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum kasmina_bank_array {
    /// `[capacity, size]`: the parameters.
    Parameters = 0,
    /// `[capacity, size]`: AdamW's running mean of the gradient.
    FirstMoment = 1,
    /// `[capacity, size]`: AdamW's running mean of the gradient's square.
    SecondMoment = 2,
    /// `[capacity]` u32: AdamW steps done by each slot.
    Steps = 3,
    /// `[capacity]` u8: 0 free or frozen, 1 trains on the main loss, 2 trains in isolation.
    Mode = 4,
    /// `[capacity]` u8: 1 where an optimiser step met a gradient that was not finite in this epoch.
    NonFinite = 5,
}

/// The names that the layer has for its arrays, by kasmina_layer_array.
const LAYER_ARRAYS: [&str; 14] = [
    "lifecycle",
    "blueprint",
    "slot",
    "alpha",
    "epochs_in_state",
    "strategy",
    "last_update_epoch",
    "embargo",
    "error_count",
    "flags",
    "telemetry",
    "loss",
    "germinations",
    "strategy_memory",
];

/// What memory handles hold: the buffer, and the numbers that descriptors point to.
pub(super) struct Exported {
    array: Array,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

/// All memory that callers hold.
pub(super) static MEMORY: Slab<Arc<Exported>> = Slab::new(Kind::Memory);

/// Exports an array of the layer's state; `array` is a kasmina_layer_array. The caller sets `struct_size` of `tensor`
/// and releases `memory`; the tensor's pointers are valid until then. To be read only; on a CUDA device it lies in device
/// memory, and kernels in flight may change it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_export_array(
    layer: kasmina_layer,
    array: i32,
    memory: *mut kasmina_memory,
    tensor: *mut kasmina_tensor,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_layer_export_array", (memory, "memory"), error, || {
        let name = usize::try_from(array).ok().and_then(|array| LAYER_ARRAYS.get(array));
        let name = name.ok_or_else(|| error!(InvalidArgument, "{array} is no kasmina_layer_array"))?;
        let array = LAYERS.read(layer.id, |layer| layer.array(name))?;
        // SAFETY: the caller promises that it can be written and that its struct_size is set.
        unsafe { export(array, tensor) }
    })
}

/// Exports an array of the bank of a blueprint; `array` is a kasmina_bank_array. The host may write parameters, with the
/// work ordered by its stream. Trainers that average replicas may write moments, steps and non-finite marks as well, and
/// telemetry and losses, before the epoch ends; the rest is to be read only. Otherwise as kasmina_layer_export_array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_export_bank(
    layer: kasmina_layer,
    blueprint: u32,
    array: i32,
    memory: *mut kasmina_memory,
    tensor: *mut kasmina_tensor,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_layer_export_bank", (memory, "memory"), error, || {
        let array = LAYERS.read(layer.id, |layer| {
            let (bank, parameter_type) = (layer.bank(blueprint)?, layer.config().parameter_type);
            let (slots, all) = (vec![bank.capacity], vec![bank.capacity, bank.size]);
            let (buffer, data_type, shape) = match array {
                0 => (bank.parameters, parameter_type, all),
                1 => (bank.first_moment, parameter_type, all),
                2 => (bank.second_moment, parameter_type, all),
                3 => (bank.steps, DataType::U32, slots),
                4 => (bank.mode, DataType::U8, slots),
                5 => (bank.non_finite, DataType::U8, slots),
                _ => fail!(InvalidArgument, "{array} is no kasmina_bank_array"),
            };
            Ok(Array { buffer, data_type, shape })
        })?;
        // SAFETY: the caller promises that it can be written and that its struct_size is set.
        unsafe { export(array, tensor) }
    })
}

unsafe fn export(array: Array, tensor: *mut kasmina_tensor) -> Result<kasmina_memory> {
    let shape = Shape::new(array.shape.clone());
    let signed = |sizes: &[usize]| sizes.iter().map(|&size| size as i64).collect::<Vec<_>>();
    let exported = Exported { shape: signed(&shape.0), strides: signed(&shape.strides()), array };
    let buffer = &exported.array.buffer;
    let (device_type, device_index) = convert::device_numbers(buffer.device().kind());
    let descriptor = kasmina_tensor {
        struct_size: 0,
        data: buffer.address().0 as *mut c_void,
        data_type: exported.array.data_type as i32,
        device_type,
        device_index,
        rank: exported.shape.len() as i32,
        shape: exported.shape.as_ptr(),
        strides: exported.strides.as_ptr(),
    };
    // SAFETY: the caller's promise is passed on.
    unsafe { convert::write(tensor, &descriptor) }?;
    Ok(kasmina_memory { id: MEMORY.insert(Arc::new(exported))? })
}

/// Makes another hold on the same memory, to be released on its own. A tensor that came with the first one is valid
/// until both are released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_memory_retain(
    memory: kasmina_memory,
    retained: *mut kasmina_memory,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_memory_retain", (retained, "retained"), error, || {
        let exported = MEMORY.read(memory.id, |exported| Ok(exported.clone()))?;
        Ok(kasmina_memory { id: MEMORY.insert(exported)? })
    })
}

/// Releases a hold. Memory that has no hold and no layer any more is freed. Allowed after kasmina_shutdown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_memory_release(memory: kasmina_memory, error: *mut *mut kasmina_error) -> Status {
    destroy("kasmina_memory_release", error, &MEMORY, memory.id)
}
