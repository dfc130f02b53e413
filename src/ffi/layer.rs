//! Layers: made, given blueprints, asked about and destroyed.

use super::blueprint::BLUEPRINTS;
use super::boundary::{call, call_for, destroy};
use super::convert::{self, Growing};
use super::error::kasmina_error;
use super::handle::{Kind, Slab};
use super::{KASMINA_ALPHA_GRADIENT, kasmina_blueprint, kasmina_bytes};
use crate::Status;
use crate::layer::{Layer, LayerConfig, Settings};
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
    /// Settings as a JSON object, or NULL for the defaults; docs/settings.md lists them.
    pub settings: *const c_char,
}

// SAFETY: repr(C), starts with struct_size, and has only integers and raw pointers.
unsafe impl Growing for kasmina_layer_config {
    const NAME: &'static str = "kasmina_layer_config";
    const SMALLEST: usize = 48;
}

/// What a layer is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
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
    /// Epochs that have ended.
    pub epoch: u64,
    /// 1 if a blueprint draws at random, so that a training pass wants a `random` tensor; else 0.
    pub draws: u32,
    /// 1 if a seed is in TRAINING, so that kasmina_layer_train does something; else 0.
    pub trains: u32,
    /// 1 if a seed applies a blueprint (states 3 to 7), so that the output differs from the input; else 0.
    pub applies: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), starts with struct_size, and has only integers.
unsafe impl Growing for kasmina_layer_info {
    const NAME: &'static str = "kasmina_layer_info";
    const SMALLEST: usize = 48;
}

/// All layers that callers hold.
pub(super) static LAYERS: Slab<Layer> = Slab::new(Kind::Layer);

/// Makes a layer whose seeds are all dormant. The caller destroys it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_create(
    config: *const kasmina_layer_config,
    layer: *mut kasmina_layer,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_layer_create", (layer, "layer"), error, || {
        // SAFETY: the caller promises a struct of the size that its struct_size says.
        let config = unsafe { convert::read(config) }?;
        convert::flags(config.flags, 0)?;
        // SAFETY: the caller promises text or null.
        let settings = unsafe { convert::optional_text(config.settings, "settings") }?.unwrap_or("{}");
        let layer = Layer::new(LayerConfig {
            hidden: convert::size(config.hidden, "hidden")?,
            seeds: convert::count(config.seeds, "seeds")?,
            device: convert::device(config.device_type, config.device_index)?,
            parameter_type: convert::data_type(config.parameter_type)?,
            settings: Settings::from_json(settings.as_bytes())?,
        })?;
        Ok(kasmina_layer { id: LAYERS.insert(layer)? })
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
        let found = LAYERS.read(layer.id, |layer| {
            let config = layer.config();
            let (device_type, device_index) = convert::device_numbers(config.device);
            Ok(kasmina_layer_info {
                hidden: config.hidden as u64,
                seeds: config.seeds.into(),
                chunk: layer.chunk() as u64,
                device_type,
                device_index,
                parameter_type: config.parameter_type as i32,
                blueprint_count: layer.blueprint_count(),
                epoch: layer.epoch().into(),
                draws: layer.draws().into(),
                trains: layer.trains().into(),
                applies: layer.applies().into(),
                ..kasmina_layer_info::default()
            })
        })?;
        // SAFETY: the caller promises that it can be written and that its struct_size is set.
        unsafe { convert::write(info, &found) }
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
    call_for("kasmina_layer_add_blueprint", (index, "index"), error, || {
        let blueprint = BLUEPRINTS.read(blueprint.id, |blueprint| Ok(blueprint.clone()))?;
        let capacity = convert::count(capacity, "capacity")?;
        LAYERS.write(layer.id, |layer| layer.add_blueprint(blueprint, capacity))
    })
}

/// Compiles and loads now what the layer needs for tensors of a type (a kasmina_data_type), so that a CUDA graph capture
/// that follows finds everything. `flags` may be KASMINA_ALPHA_GRADIENT. Waits for the compiler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_prepare(
    layer: kasmina_layer,
    data_type: i32,
    flags: u32,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_prepare", error, || {
        let flags = convert::flags(flags, KASMINA_ALPHA_GRADIENT)?;
        let data_type = convert::data_type(data_type)?;
        LAYERS.read(layer.id, |layer| layer.prepare(data_type, flags & KASMINA_ALPHA_GRADIENT != 0))
    })
}

/// Waits for the kernels that are compiled in the background, of the kinds that were used so far, and loads them: then
/// nothing that happens at the epoch's end depends on how fast a compiler is. Processes that train the same layer call it
/// before each epoch's end. All are waited for, and the first that cannot be had is the error; its seeds stay GERMINATED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_wait_for_kernels(
    layer: kasmina_layer,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_wait_for_kernels", error, || LAYERS.read(layer.id, |layer| layer.wait_for_kernels()))
}

/// The seeds' state as the host keeps it: `[seeds, 4]` int32_t of lifecycle (a kasmina_lifecycle), blueprint (-1 for
/// none), epochs in this state, and strategy. Waits for nothing. The caller destroys the bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_state(
    layer: kasmina_layer,
    state: *mut *mut kasmina_bytes,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_layer_state", (state, "state"), error, || {
        let state = LAYERS.read(layer.id, |layer| Ok(layer.state()))?;
        Ok(kasmina_bytes::owned(bytemuck::cast_slice(&state).to_vec()))
    })
}

/// The layer's health report as JSON, as of the last epoch's end. The caller destroys the bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_report(
    layer: kasmina_layer,
    report: *mut *mut kasmina_bytes,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_layer_report", (report, "report"), error, || {
        Ok(kasmina_bytes::json(LAYERS.read(layer.id, |layer| Ok(layer.report()))?))
    })
}

/// Ends a layer's handle. Memory that was exported from it lives on until it is released. Allowed after
/// kasmina_shutdown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_destroy(layer: kasmina_layer, error: *mut *mut kasmina_error) -> Status {
    destroy("kasmina_layer_destroy", error, &LAYERS, layer.id)
}
