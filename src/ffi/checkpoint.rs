//! Layers written to and read from checkpoints.

use super::boundary::{call, call_for};
use super::convert;
use super::error::kasmina_error;
use super::layer::LAYERS;
use super::{kasmina_bytes, kasmina_layer};
use crate::Status;
use crate::layer::Layer;
use std::ffi::{c_char, c_void};
use std::path::Path;

/// Writes a checkpoint of the layer to a file, after all work on the stream. A file that was there before is replaced at
/// once or not at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_save(
    layer: kasmina_layer,
    path: *const c_char,
    stream: *mut c_void,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_save", error, || {
        // SAFETY: the caller promises text or null.
        let path = Path::new(unsafe { convert::text(path, "path") }?);
        LAYERS.read(layer.id, |layer| layer.save(path, convert::stream(stream)))
    })
}

/// Makes a layer from a checkpoint file, on the given device (a kasmina_device_type and an ordinal). The caller destroys
/// it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_load(
    path: *const c_char,
    device_type: i32,
    device_index: i32,
    layer: *mut kasmina_layer,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_layer_load", (layer, "layer"), error, || {
        // SAFETY: the caller promises text or null.
        let path = Path::new(unsafe { convert::text(path, "path") }?);
        let layer = Layer::load(path, convert::device(device_type, device_index)?)?;
        Ok(kasmina_layer { id: LAYERS.insert(layer)? })
    })
}

/// A checkpoint of the layer, as kasmina_layer_save writes it, after all work on the stream. The caller destroys the
/// bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_to_bytes(
    layer: kasmina_layer,
    stream: *mut c_void,
    bytes: *mut *mut kasmina_bytes,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_layer_to_bytes", (bytes, "bytes"), error, || {
        let bytes = LAYERS.read(layer.id, |layer| layer.to_bytes(convert::stream(stream)))?;
        Ok(kasmina_bytes::owned(bytes))
    })
}

/// Makes a layer from a checkpoint, which may come from anywhere: damaged bytes are an error. Otherwise as
/// kasmina_layer_load.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_from_bytes(
    data: *const c_char,
    length: usize,
    device_type: i32,
    device_index: i32,
    layer: *mut kasmina_layer,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_layer_from_bytes", (layer, "layer"), error, || {
        // SAFETY: the caller promises `length` bytes.
        let bytes = unsafe { convert::slice(data.cast::<u8>(), length, "data") }?;
        let layer = Layer::from_bytes(bytes, convert::device(device_type, device_index)?)?;
        Ok(kasmina_layer { id: LAYERS.insert(layer)? })
    })
}

/// Makes a copy of a layer, after all work on the stream: on the given device, with parameters and their moments of the
/// given type (KASMINA_DATA_TYPE_F32 or KASMINA_DATA_TYPE_F64). The caller destroys it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_copy(
    layer: kasmina_layer,
    device_type: i32,
    device_index: i32,
    parameter_type: i32,
    stream: *mut c_void,
    copy: *mut kasmina_layer,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_layer_copy", (copy, "copy"), error, || {
        let (device, parameter_type) =
            (convert::device(device_type, device_index)?, convert::data_type(parameter_type)?);
        let copy = LAYERS.read(layer.id, |layer| layer.copy(device, parameter_type, convert::stream(stream)))?;
        Ok(kasmina_layer { id: LAYERS.insert(copy)? })
    })
}
