//! Layers: made, given blueprints, asked about, checkpointed and destroyed.

use super::boundary::{call, destroy};
use super::convert::{self, Growing};
use super::error::kasmina_error;
use super::handle::{Kind, Slab};
use super::{kasmina_blueprint, kasmina_bytes};
use crate::{Result, Status, error};
use std::ffi::c_char;

/// A layer. Any thread may use it; calls that change it wait for those in progress. 0 is no layer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_layer {
    /// Opaque.
    pub id: u64,
}

/// What a layer is made from.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_layer_config {
    /// sizeof(kasmina_layer_config)
    pub struct_size: usize,
    /// Channels of the layer.
    pub hidden: u64,
    /// Seeds; each has a chunk of hidden / seeds channels, and the channels left over are passed through.
    pub seeds: u64,
    /// A kasmina_device_type.
    pub device_type: i32,
    /// The ordinal of the device.
    pub device_index: i32,
    /// KASMINA_DATA_TYPE_F32 or KASMINA_DATA_TYPE_F64.
    pub parameter_type: i32,
    /// Must be 0.
    pub flags: u32,
    /// Settings as a JSON object, or NULL for the defaults.
    pub settings: *const c_char,
}

// SAFETY: repr(C), starts with struct_size, and has only integers and raw pointers.
unsafe impl Growing for kasmina_layer_config {
    const NAME: &'static str = "kasmina_layer_config";
    const SMALLEST: usize = 48;
}

/// What a layer is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_layer_info {
    /// sizeof(kasmina_layer_info)
    pub struct_size: usize,
    /// Channels of the layer.
    pub hidden: u64,
    /// Seeds of the layer.
    pub seeds: u64,
    /// Channels of a seed's chunk.
    pub chunk: u64,
    /// A kasmina_device_type.
    pub device_type: i32,
    /// The ordinal of the device.
    pub device_index: i32,
    /// A kasmina_data_type.
    pub parameter_type: i32,
    /// How many blueprints were added.
    pub blueprint_count: u32,
}

// SAFETY: repr(C), starts with struct_size, and has only integers.
unsafe impl Growing for kasmina_layer_info {
    const NAME: &'static str = "kasmina_layer_info";
    const SMALLEST: usize = 48;
}

/// Uninhabited until the layer module has landed: no handle of it can be given out.
pub(super) enum Layer {}

/// All layers that callers hold.
pub(super) static LAYERS: Slab<Layer> = Slab::new(Kind::Layer);

pub(super) fn unsupported<T>() -> Result<T> {
    Err(error!(Unsupported, "this build has no layers yet"))
}

/// Makes a layer whose seeds are all dormant. The caller destroys it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_create(
    config: *const kasmina_layer_config,
    layer: *mut kasmina_layer,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_create", error, || {
        let _ = (config, layer);
        unsupported()
    })
}

/// What a layer is. The caller sets `struct_size` of `info`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_get_info(
    layer: kasmina_layer,
    info: *mut kasmina_layer_info,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_get_info", error, || {
        let _ = (layer, info);
        unsupported()
    })
}

/// Adds a blueprint with a bank of `capacity` slots and gives its index, which commands use. The blueprint may be
/// destroyed afterwards. Call it between steps: it waits for calls in progress on this layer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_add_blueprint(
    layer: kasmina_layer,
    blueprint: kasmina_blueprint,
    capacity: u64,
    index: *mut u32,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_add_blueprint", error, || {
        let _ = (layer, blueprint, capacity, index);
        unsupported()
    })
}

/// Compiles and loads now what the layer needs for tensors of a type, so that a CUDA graph capture that follows finds
/// everything. `flags` may be KASMINA_ALPHA_GRADIENT. Waits for the compiler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_prepare(
    layer: kasmina_layer,
    data_type: i32,
    flags: u32,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_prepare", error, || {
        let _ = (layer, data_type, flags);
        unsupported()
    })
}

/// The layer's health report as JSON. Waits for the device. The caller destroys the bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_report(
    layer: kasmina_layer,
    report: *mut *mut kasmina_bytes,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_report", error, || {
        let _ = (layer, report);
        unsupported()
    })
}

/// Writes a checkpoint of the layer to a file, atomically. Waits for the device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_save(
    layer: kasmina_layer,
    path: *const c_char,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_save", error, || {
        let _ = (layer, path);
        unsupported()
    })
}

/// Makes a layer from a checkpoint file, on the given device. The caller destroys it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_load(
    path: *const c_char,
    device_type: i32,
    device_index: i32,
    layer: *mut kasmina_layer,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_load", error, || {
        let _ = (path, device_type, device_index, layer);
        unsupported()
    })
}

/// A checkpoint of the layer, as kasmina_layer_save writes it. Waits for the device. The caller destroys the bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_to_bytes(
    layer: kasmina_layer,
    bytes: *mut *mut kasmina_bytes,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_to_bytes", error, || {
        let _ = (layer, bytes);
        unsupported()
    })
}

/// Makes a layer from a checkpoint, which may come from anywhere: damaged bytes are an error. The caller destroys the
/// layer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_from_bytes(
    data: *const u8,
    length: usize,
    device_type: i32,
    device_index: i32,
    layer: *mut kasmina_layer,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_from_bytes", error, || {
        let _ = (data, length, device_type, device_index, layer);
        unsupported()
    })
}

/// Ends a layer's handle. Memory that was exported from it lives on until it is released. Allowed after
/// kasmina_shutdown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_destroy(layer: kasmina_layer, error: *mut *mut kasmina_error) -> Status {
    destroy("kasmina_layer_destroy", error, &LAYERS, layer.id)
}
