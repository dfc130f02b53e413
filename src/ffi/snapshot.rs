//! Snapshots of layers: taken, restored, asked about and destroyed.

use super::boundary::{call, call_for, destroy};
use super::convert::{self, Growing};
use super::error::kasmina_error;
use super::handle::{Kind, Slab};
use super::layer::LAYERS;
use super::{kasmina_bytes, kasmina_layer};
use crate::Status;
use crate::layer::Snapshot;
use std::ffi::{c_char, c_void};

/// A layer as it was. It belongs to that layer, and may outlive it. 0 is no snapshot.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_snapshot {
    /// Opaque.
    pub id: u64,
}

/// What a snapshot is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct kasmina_snapshot_info {
    /// sizeof(kasmina_snapshot_info)
    pub struct_size: usize,
    /// Epochs that had ended when it was taken; 0 if it holds nothing.
    pub epoch: u64,
    /// Bytes of device memory that it occupies.
    pub bytes: u64,
    /// 1 if it can be restored, 0 if the last attempt to take it failed.
    pub taken: u32,
    /// 0
    pub reserved: u32,
}

// SAFETY: repr(C), starts with struct_size, and has only integers.
unsafe impl Growing for kasmina_snapshot_info {
    const NAME: &'static str = "kasmina_snapshot_info";
    const SMALLEST: usize = 32;
}

/// All snapshots that callers hold. Whoever needs a layer as well looks that up first.
pub(super) static SNAPSHOTS: Slab<Snapshot> = Slab::new(Kind::Snapshot);

/// Takes a snapshot of a layer on its own device: everything that a checkpoint holds, as it is after the work that is
/// queued on the stream. Allocates as much device memory as the layer's state, telemetry and banks occupy. Call it between
/// steps: it waits for calls in progress on this layer. The caller destroys it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_snapshot_create(
    layer: kasmina_layer,
    stream: *mut c_void,
    snapshot: *mut kasmina_snapshot,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_snapshot_create", (snapshot, "snapshot"), error, || {
        let snapshot = LAYERS.write(layer.id, |layer| layer.snapshot(convert::stream(stream)))?;
        Ok(kasmina_snapshot { id: SNAPSHOTS.insert(snapshot)? })
    })
}

/// Takes a snapshot anew, of the same layer and into the same memory: a few copies on the device, which are queued on the
/// stream. Nothing is allocated and nothing waited for. KASMINA_STATUS_SNAPSHOT_MISMATCH if it is of another layer or the
/// layer was given blueprints since; then create another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_snapshot_take(
    snapshot: kasmina_snapshot,
    layer: kasmina_layer,
    stream: *mut c_void,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_snapshot_take", error, || {
        LAYERS.write(layer.id, |layer| {
            SNAPSHOTS.write(snapshot.id, |snapshot| layer.snapshot_into(snapshot, convert::stream(stream)))
        })
    })
}

/// What a snapshot is. The caller sets `struct_size` of `info`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_snapshot_get_info(
    snapshot: kasmina_snapshot,
    info: *mut kasmina_snapshot_info,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_snapshot_get_info", error, || {
        let found = SNAPSHOTS.read(snapshot.id, |snapshot| {
            Ok(kasmina_snapshot_info {
                epoch: snapshot.epoch().unwrap_or(0).into(),
                bytes: snapshot.bytes() as u64,
                taken: snapshot.epoch().is_some().into(),
                ..kasmina_snapshot_info::default()
            })
        })?;
        // SAFETY: the caller promises that it can be written and that its struct_size is set.
        unsafe { convert::write(info, &found) }
    })
}

/// Puts a layer back as it was when the snapshot was taken, bit for bit, from the next launch on the stream on: a few
/// copies on the device, and nothing is waited for. Commands that were accepted since and have not taken effect are
/// dropped. What was done goes to `restoration` as JSON if that is not NULL; the caller destroys the bytes. `reason` is for
/// the record and may be NULL. The snapshot can be restored again. To take one seed out and leave the others as they are,
/// there is kasmina_layer_roll_back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_restore(
    layer: kasmina_layer,
    snapshot: kasmina_snapshot,
    reason: *const c_char,
    stream: *mut c_void,
    restoration: *mut *mut kasmina_bytes,
    error: *mut *mut kasmina_error,
) -> Status {
    let restore = || {
        // SAFETY: the caller promises text or null.
        let reason = unsafe { convert::optional_text(reason, "reason") }?.unwrap_or_default();
        LAYERS.write(layer.id, |layer| {
            SNAPSHOTS.read(snapshot.id, |snapshot| layer.restore(snapshot, reason, convert::stream(stream)))
        })
    };
    if restoration.is_null() {
        return call("kasmina_layer_restore", error, || restore().map(drop));
    }
    call_for("kasmina_layer_restore", (restoration, "restoration"), error, || Ok(kasmina_bytes::json(restore()?)))
}

/// Ends a snapshot's handle and gives its memory back. Allowed after kasmina_shutdown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_snapshot_destroy(
    snapshot: kasmina_snapshot,
    error: *mut *mut kasmina_error,
) -> Status {
    destroy("kasmina_snapshot_destroy", error, &SNAPSHOTS, snapshot.id)
}
